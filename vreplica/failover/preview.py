"""Previews a failover or failback: reads both sides and says what each answer would do.

Nothing is changed by a preview. What is not known is left out: the time of a pass, for example,
is known once a pass was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from vreplica.errors import VReplicaError
from vreplica.failover import history
from vreplica.failover.estimate import Estimate, Measured, estimate, measure
from vreplica.failover.failback import FailbackPorts, plan_failback
from vreplica.failover.guest.customize import describe_customization
from vreplica.failover.machine.errors import BootRefused, GuestRulesDoNotFit, PointIsFlagged
from vreplica.failover.machine.point_choice import (
    NEWEST,
    PointChoice,
    alternatives,
    choose_point,
    holds_until,
)
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.points import DamagedPoint, Level, NewerPoint, RecoveryPoint
from vreplica.points.clock_problems import clock_problems
from vreplica.points.preference import Preference, age_s
from vreplica.points.vm_keys import JOB_KEY
from vreplica.sync.claim.held_claim import check_in_no_failover
from vreplica.sync.errors import PreflightFailed
from vreplica.sync.events import ignore
from vreplica.sync.job import Job
from vreplica.sync.known_vms import find_source
from vreplica.sync.plan.completeness import left_out
from vreplica.sync.plan.plan import expected_level
from vreplica.sync.replica.foreign_changes import find_foreign_changes
from vreplica.sync.replica.state import find_replica, need_points
from vreplica.vsphere.model import VmInfo
from vreplica.vsphere.session import connect


@dataclass(frozen=True, slots=True)
class Preview:
    """The state of both sides before the operator decides. Nothing was changed to read it.

    `yes` is a failover with a final sync, `no` one without.
    """

    job: str
    source: VmInfo | None
    """None: it cannot be read; `source_trouble` has the reason."""
    source_trouble: str | None
    replica: VmInfo
    points: tuple[RecoveryPoint, ...]
    boots: RecoveryPoint | None
    """The point that boots without a final sync. None before a failback, where the last state of
    the original VM boots, which becomes a point when the failback begins; and where none can."""
    boots_none: str | None
    """The reason why no point boots without a final sync."""
    insured_level: Level | None
    """The level that point A would reach now; None: the source does not run or cannot be read."""
    remarks: tuple[str, ...]
    estimate: Estimate
    seen: datetime
    """When both sides were read, UTC."""
    customization: tuple[str, ...] = ()
    """The changes to the guest at the destination, in words."""
    back: bool = False
    """True: the preview of a failback."""
    source_vm: str = ""
    """The source by its name, also where it cannot be read. Before a failback the VM in service."""
    source_site: str = ""
    replica_site: str = ""
    flagged: PointIsFlagged | None = None
    """The newest point is flagged, so none boots unless it is named."""
    refused: tuple[str, ...] = ()
    """The reasons why a final sync would be refused now, as a run would be."""

    def to_dict(self, max_downtime_s: float | None = None) -> dict[str, Any]:
        return {
            "job": self.job,
            "source_vm": self.source_vm,
            "source_site": self.source_site,
            "replica_vm": self.replica.name,
            "replica_site": self.replica_site,
            "source": self.source.power_state if self.source else None,
            "source_trouble": self.source_trouble,
            "tools_running": self.source.tools_running if self.source else None,
            "replica": self.replica.power_state,
            "points": [point.to_dict() for point in self.points],
            "yes": {
                "insurance": self.insured_level.value if self.insured_level else None,
                "level": Level.CLEAN_SHUTDOWN.value if self.can_shut_down else None,
                "problems": list(self.refused),
            },
            "no": {
                **self._in_short(self.boots),
                "newer": [self._in_short(point) for point in self.newer],
                "others": [self._in_short(point) for point in self.others],
            }
            if self.boots
            else None,
            "boots_none": self.boots_none,
            "flagged": self.flagged.in_short() if self.flagged is not None else None,
            "estimate": self.estimate.to_dict(max_downtime_s),
            "steps": {"yes": self.steps_yes(), "no": self.steps_no()},
            "remarks": list(self.remarks),
            "guest": list(self.customization),
        }

    @property
    def others(self) -> tuple[RecoveryPoint, ...]:
        """The other choices: the newest point of each level, oldest first."""
        return alternatives(self.points, self.boots) if self.boots is not None else ()

    @property
    def newer(self) -> tuple[RecoveryPoint, ...]:
        """Those of the other choices that are newer."""
        if self.boots not in self.points:
            return ()
        place = self.points.index(self.boots)
        return tuple(p for p in self.others if self.points.index(p) > place)

    @property
    def boots_until(self) -> datetime | None:
        """The whole second up to which the data goes that boots without a final sync."""
        if self.boots is None:
            return None
        return (holds_until(self.boots) + timedelta(seconds=1)).replace(microsecond=0)

    def age_s(self, point: RecoveryPoint) -> float:
        """The age of a point in seconds: what was written since then is not in it."""
        return age_s(point, self.seen)

    def _in_short(self, point: RecoveryPoint) -> dict[str, Any]:
        return {
            "point": point.id,
            "level": point.level.value,
            "time": point.time.isoformat(),
            "age_s": self.age_s(point),
        }

    @property
    def source_said(self) -> str:
        """`web01 at main`"""
        return f"{self.source_vm} at {self.source_site}"

    @property
    def replica_said(self) -> str:
        """`web01-replica at dr`"""
        return f"{self.replica.name} at {self.replica_site}"

    @property
    def _names(self) -> tuple[str, str]:
        """Both VMs as the steps name them: with their sites where their names are equal."""
        if self.source_vm == self.replica.name:
            return self.source_said, self.replica_said
        return self.source_vm, self.replica.name

    @property
    def _running(self) -> bool:
        return self.source is not None and self.source.power_state == "poweredOn"

    @property
    def can_shut_down(self) -> bool:
        """The source's guest runs and VMware Tools can shut it down."""
        return self._running and self.source is not None and self.source.tools_running

    def steps_yes(self, *, disconnect: bool = False) -> list[str]:
        """The steps of `yes` on both vCenters, in order; empty where no sync is possible."""
        if self.source is None:
            return []
        return steps_yes(
            *self._names,
            running=self._running,
            tools=self.can_shut_down,
            disconnect=disconnect,
        )

    def steps_no(self, *, disconnect: bool = False) -> list[str]:
        """The steps of `no` on both vCenters, in order."""
        if self.boots_none is not None:
            return []
        point = self.boots.id if self.boots else "its own last state, kept first"
        return steps_no(
            *self._names,
            point,
            running=self._running,
            disconnect=disconnect,
            lost=self.source is None,
        )


def preview(job: Job, *, source_lost: bool = False, boot: PointChoice = NEWEST) -> Preview:
    """Reads both sides before a failover.

    `source_lost`: the source is not read. `boot`: the point that the operator chooses; raises
    BootRefused where there is none such. Raises NoPoints where there is no recovery point,
    PointIsNewer where only a newer version reads what there is, ReplicaInFailover where a failover
    has the replica that this machine does not know, and as `check_free` where no
    failover can begin.
    """
    history.check_free(job)
    with connect(job.destination) as session:
        replica = need_points(job, find_replica(session, job))
        check_in_no_failover(job.name, replica.vm)
        changes = find_foreign_changes(job, session, replica)
    sides = replica.bootable_sides
    known = _read(job, replica.vm, replica.points, source_lost, _measured(job), boot, sides)
    known = replace(known, source_vm=_name_of(known, replica.points, job.source_vm))
    remarks = [f"{replica.vm.name} was changed by others: {text}" for text in changes]
    remarks += newer_remarks(replica.newer) + damaged_remarks(replica.damaged)
    remarks += clock_problems(replica.points, known.seen)
    known = replace(known, remarks=(*known.remarks, *remarks))
    return _with_refusals(known, VSpherePorts(job, "preview", ignore))


def preview_back(
    job: Job,
    *,
    source_lost: bool = False,
    boot: PointChoice = NEWEST,
    new_vm: str | None = None,
) -> Preview:
    """Reads both sides before a failback: `source` is the VM in service, `replica` the original.

    `new_vm`: the datastore for a new VM in place of an original that is lost. Raises as
    `plan_failback`.
    """
    plan = plan_failback(job, new_vm)
    reverse = plan.reverse_job(job)
    if plan.new_vm:
        with connect(job.destination) as session:
            vm = session.read_vm(session.find_vm(plan.replica))
        vm = replace(vm, ref=replace(vm.ref, name=plan.original))
        known = _read(reverse, vm, (), False, _measured(job), boot)
        name = _name_of(known, (), job.placement.name)
        known = replace(known, job=job.name, back=True, source_vm=name)
        return _with_refusals(known, FailbackPorts(job, plan, "preview", ignore))
    with connect(reverse.destination) as session:
        vm = session.read_vm(session.find_vm(plan.original))
        is_replica = vm.extra_config.get(JOB_KEY) == reverse.name
        found = find_replica(session, reverse) if is_replica else None
    points = found.points if found else ()
    known = _read(reverse, vm, points, source_lost, _measured(job), boot)
    left_out = (
        newer_remarks(found.newer) + damaged_remarks(found.damaged) if found is not None else []
    )
    remarks = (*known.remarks, *left_out, *_addresses_stay(job))
    name = _name_of(known, (), job.placement.name)
    known = replace(known, job=job.name, back=True, remarks=remarks, source_vm=name)
    return _with_refusals(known, FailbackPorts(job, plan, "preview", ignore))


def _with_refusals(known: Preview, ports: VSpherePorts) -> Preview:
    """With what a failover would be refused for, before it changes anything."""
    refused, remarks = tuple[str, ...](), list(known.remarks)
    with ports:
        try:
            ports.check_guest_rules()
        except GuestRulesDoNotFit as error:
            remarks.append(f"{error.message}. {error.advice()}")
        try:
            if known.source is not None:
                ports.check_can_sync()
        except PreflightFailed as error:
            refused = error.problems
        except VReplicaError as error:
            refused = (f"{error.message}. {error.advice()}",)
    return replace(known, refused=refused, remarks=tuple(remarks))


def _name_of(known: Preview, points: Sequence[RecoveryPoint], otherwise: str) -> str:
    """The source's name as it was read, else as the newest point has it, else as the job says."""
    if known.source is not None:
        return known.source.name
    return points[-1].source_name if points else otherwise


def _addresses_stay(job: Job) -> list[str]:
    if job.guest.customize is None or job.guest.failback is not None:
        return []
    table = f"[jobs.{job.name}.guest.failback]"
    return [f"the guest keeps the addresses of the other site: the job file has no {table}"]


def _measured(job: Job) -> Measured:
    return measure(history.records(job))


def _read(
    job: Job,
    replica: VmInfo,
    points: tuple[RecoveryPoint, ...],
    source_lost: bool,
    measured: Measured,
    boot: PointChoice,
    sides: tuple[RecoveryPoint, ...] = (),
) -> Preview:
    source: VmInfo | None = None
    trouble = "declared lost by the operator" if source_lost else None
    if not source_lost:
        try:
            with connect(job.source) as session:
                source = session.read_vm(find_source(session, job))
            if source.connection_state != "connected":
                # What vCenter remembers of it is no fact: somebody may have changed it since.
                trouble = (
                    f"its host does not answer ({source.connection_state}); vCenter remembers "
                    f"{source.name} as {source.power_state}"
                )
                source = None
        except VReplicaError as error:
            trouble = str(error)
    running = source is not None and source.power_state == "poweredOn"
    level: Level | None = None
    remarks: list[str] = []
    if source is not None and running:
        level, remarks = expected_level(job, source)
    elif source is not None:
        remarks = [f"{source.name} is {source.power_state} already: nothing has to be shut down"]
    remarks += flag_remarks(points)
    remarks += _missing_remarks(job, source, replica, points)
    now = datetime.now(UTC)
    boots, refused = _boots(points, boot, job.prefer, now, sides)
    return Preview(
        job=job.name,
        source=source,
        source_trouble=trouble,
        replica=replica,
        points=points,
        boots=boots,
        boots_none=f"{refused.message}. {refused.advice()}" if refused is not None else None,
        flagged=refused if isinstance(refused, PointIsFlagged) else None,
        source_site=job.source.label,
        replica_site=job.destination.label,
        insured_level=level,
        remarks=tuple(remarks),
        estimate=estimate(points, measured, running=running, parallel=job.parallel_disks, now=now),
        seen=now,
        customization=tuple(describe_customization(job)),
    )


def _boots(
    points: tuple[RecoveryPoint, ...],
    boot: PointChoice,
    preference: Preference | None,
    now: datetime,
    sides: tuple[RecoveryPoint, ...],
) -> tuple[RecoveryPoint | None, BootRefused | None]:
    """The point that boots without a final sync, or the reason why none does.

    Raises BootRefused where the operator asked for one that is not there.
    """
    if not points and not boot.given:
        return None, None
    try:
        return choose_point(points, boot.or_prefer(preference), now, sides), None
    except BootRefused as error:
        if boot.given and not isinstance(error, PointIsFlagged):
            raise
        return None, error


# -- in words, pure -------------------------------------------------------------------------


def _missing_remarks(
    job: Job, source: VmInfo | None, replica: VmInfo, points: Sequence[RecoveryPoint]
) -> list[str]:
    """What the VM that is started will not have: by the source, else by its newest point."""
    has_nvram = bool(points and points[-1].nvram)
    if source is not None:
        return [
            f"{replica.name} does not have the {found}"
            for found in left_out(job, source, replica, has_nvram=has_nvram)
        ]
    missing = points[-1].not_carried if points else ()
    if not missing:
        return []
    return [
        f"{replica.name} does not have: {', '.join(missing)}; docs/vsphere.md says what that means"
    ]


def flag_remarks(points: Sequence[RecoveryPoint]) -> list[str]:
    """Warns of the first point that is flagged, and names the newest one before it."""
    first = next((n for n, point in enumerate(points) if point.flagged), None)
    if first is None:
        return []
    remarks = [
        f"point {points[first].id} is flagged ({suspicion}); later points may hold the same"
        for suspicion in points[first].suspicions
    ]
    if first:
        clean = points[first - 1]
        remarks.append(f"the newest point from before it: --final-sync no --point {clean.id}")
    return remarks


def newer_remarks(newer: Sequence[NewerPoint]) -> list[str]:
    """Warns of the points that only a newer version can sync onto or boot."""
    return [
        f"{point}: no final sync is possible here, and this point cannot be booted; upgrade "
        "vreplica on this machine first"
        for point in newer
    ]


def damaged_remarks(damaged: Sequence[DamagedPoint]) -> list[str]:
    """Warns of the points that cannot be booted."""
    return [f"{point}: it cannot be booted, so the newest may be another one" for point in damaged]


def steps_yes(
    source: str, replica: str, *, running: bool, tools: bool, disconnect: bool
) -> list[str]:
    """The steps with a final sync, in order.

    `source`, `replica`: names of VMs. `tools`: VMware Tools run in the guest and can shut it down.
    `disconnect`: the source's network cards are disconnected.
    """
    steps = ["switch the job off, after the run in flight"]
    if running and tools:
        steps += [
            f"{source}: quiesced snapshot; {replica}: recovery point A",
            f"{source}: ask the guest to shut down, wait until it is off",
        ]
    elif running:
        steps += [
            f"{source}: snapshot, which cannot be quiesced; {replica}: recovery point A",
            f"{source}: the guest cannot be shut down: as --on-shutdown-timeout says",
        ]
    steps.append(f"{source}: snapshot; {replica}: recovery point B with what changed since")
    return [*steps, *_start_steps(source, replica, disconnect)]


def steps_no(
    source: str,
    replica: str,
    point: str,
    *,
    running: bool,
    disconnect: bool,
    lost: bool = False,
) -> list[str]:
    """The steps without a final sync, in order. `point`: the id of the point to boot.

    `lost`: the source is not contacted.
    """
    steps = ["switch the job off, after the run in flight"]
    if running:
        steps.append(f"{source}: power off, without asking the guest")
    steps.append(f"{replica}: revert to {point}")
    if lost:
        return [*steps, _start_step(replica), f"{source}: not contacted, and not stopped"]
    return [*steps, *_start_steps(source, replica, disconnect)]


def _start_steps(source: str, replica: str, disconnect: bool) -> list[str]:
    cards = [f"{source}: disconnect the network cards"] if disconnect else []
    return [
        *cards,
        f"{source}: confirm that it is off, right before the next step",
        _start_step(replica),
    ]


def _start_step(replica: str) -> str:
    return f"{replica}: connect the network cards, power on, wait for the heartbeat"
