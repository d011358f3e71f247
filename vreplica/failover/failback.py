"""Plans a failback, and implements its ports: the same failover with the job reversed.

    failover   source O  --job NAME-->        replica R
    failback   source R  --job NAME~back-->   replica O       same steps, same copy engine

The first entry of a failback's journal has its plan, beside the choices:

    "back": {"original": O's instance UUID, "replica": R's, "datastore": ..., "booted": point,
             "level": how O went down, "of": the failover that is taken back}
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

from vreplica.errors import VReplicaError
from vreplica.failover import history
from vreplica.failover.machine.errors import (
    NoPointToBoot,
    NothingToFailBack,
    OriginalGone,
    ReplicaIsOn,
)
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.mark import JOURNAL
from vreplica.failover.machine.ports import NamedVm
from vreplica.failover.machine.record import Outcome
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.points import Level
from vreplica.points.vm_keys import DISCONNECTED_KEY, JOB_KEY
from vreplica.stored import build
from vreplica.sync.claim.claim import Claim, ClaimKind
from vreplica.sync.claim.held_claim import (
    Claimant,
    check_in_no_failover,
    refusal_in_failover,
    require_held,
)
from vreplica.sync.claim.in_failover import in_failover
from vreplica.sync.errors import NoPoints, PreflightFailed
from vreplica.sync.events import Listener, Warn
from vreplica.sync.job import Job, OnCbtLoss, Placement
from vreplica.sync.job_dir import failovers_dir
from vreplica.sync.job_state import JobState
from vreplica.sync.job_switch import disabled_by, enable
from vreplica.sync.plan.plan import check_source_alone
from vreplica.sync.replica.foreign_changes import find_foreign_changes
from vreplica.sync.replica.reprotect import remove_points, reprotect, reprotect_problems
from vreplica.sync.replica.state import find_replica, vm_identity
from vreplica.sync.sites import Sites
from vreplica.vsphere.errors import VmNotFound
from vreplica.vsphere.model import KEEP_AS_IS, VmInfo, VmRef
from vreplica.vsphere.session import connect


@dataclass(frozen=True, slots=True)
class FailbackPlan:
    """Both VMs of a failback. It is kept in the failback's journal.

    `original`: the instance UUID of the original VM; with `new_vm` the name of a new VM in place
    of one that is lost. `replica`: the instance UUID of the VM in service. `datastore`: for new
    disks at the original's site. `booted`: the point that the replica was booted from. `level`:
    how the original went down. `of`: the failover that is taken back.
    """

    original: str
    replica: str
    datastore: str
    booted: str
    level: str
    of: str
    new_vm: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"back": asdict(self)}

    @classmethod
    def of_journal(cls, begun: Mapping[str, Any]) -> Self | None:
        """Reads the plan from a journal's first entry. None: it is no failback."""
        back = begun.get("back")
        if not isinstance(back, dict):
            return None
        return build(cls, back)

    def reverse_job(self, job: Job) -> Job:
        """The job in the other direction. Where change tracking has no answer it reads all."""
        return replace(
            job,
            name=job.reverse_name,
            source=job.destination,
            source_vm=self.replica,
            destination=job.source,
            placement=Placement(
                datastore=self.datastore,
                name=self.original,
                networks={there: here for here, there in job.placement.networks.items()},
                # The original keeps its own vm_identity, whatever its replica has.
                keep=job.placement.keep if self.new_vm else KEEP_AS_IS,
            ),
            on_cbt_loss=OnCbtLoss.RESCAN,
            exclude_disks=frozenset(),
            # The rules for the other site say nothing about this one.
            guest=job.guest.failback or replace(job.guest, customize=None),
        )


class FailbackPorts(VSpherePorts):
    """The ports of a failback: source and replica are exchanged."""

    def __init__(self, forward: Job, plan: FailbackPlan, failover: str, listener: Listener) -> None:
        super().__init__(plan.reverse_job(forward), failover, listener)
        self._forward, self._plan = forward, plan

    verb: ClassVar[str] = "failback"

    @property
    def target(self) -> str:
        return self._forward.name

    def names(self) -> tuple[NamedVm, NamedVm]:
        source, replica = super().names()
        # Before the original's last state is kept, it has no point that names them.
        original = replica.vm if replica.vm != self._plan.original else self._forward.source_vm
        in_service = source.vm if source.vm != self._plan.replica else self._forward.placement.name
        return NamedVm(in_service, source.site), NamedVm(original, replica.site)

    def _check_next_run(self, job: Job, sites: Sites, known: Level | None) -> None:
        if self.replica_state_is_kept():
            return super()._check_next_run(job, sites, known)
        # The original becomes the replica once its last state is kept.
        source = sites.source.read_vm(self._source_vm)
        return check_source_alone(JobState(job, sites, source, None))

    def check_free(self) -> None:
        """The leaf of an original VM may still name an earlier failback: only a claim counts."""
        with suppress(VmNotFound):
            vm = self._destination.read_vm(self._replica_ref())
            if Claim.of(vm.extra_config) is not None:
                check_in_no_failover(self._job.name, vm)

    def stays_claimed(self) -> bool:
        return False

    def replica_state_is_kept(self) -> bool:
        """True once a point keeps the original's last state, and nothing was written after it.

        A new VM in place of a lost one has no state to keep.
        """
        if self._plan.new_vm:
            return True
        ref = self._destination.find_vm(self._job.placement.name)
        if self._destination.read_vm(ref).extra_config.get(JOB_KEY) != self._job.name:
            return False
        replica = find_replica(self._destination, self._job)
        if replica is None or not replica.clean:
            return False
        return not find_foreign_changes(self._job, self._destination, replica)

    def keep_replica_state(self, failover: str) -> None:
        reprotect(
            self._job,
            point=f"{failover}-0",
            booted=self._plan.booted,
            level=Level(self._plan.level),
            listener=self._listener,
            claimant=self._claimant,
            marks=self._marks,
        )

    def _connect_replica(self, ref: VmRef) -> None:
        """Connects the cards that the failover disconnected, and those of a new VM.

        Others stay as their owner has set them.
        """
        marked = self._destination.read_vm(ref).extra_config.get(DISCONNECTED_KEY)
        if marked or self._plan.new_vm:
            super()._connect_replica(ref)
            self._destination.set_extra_config(ref, {DISCONNECTED_KEY: ""})

    def settle_direction(self, failover: str, booted: str, level: Level, lost: bool) -> None:
        """The job replicates forward again, from the replica's state at its shutdown."""
        if lost:
            in_service, _ = self.names()
            self._listener(Warn(f"{in_service} is lost: give the job another destination.name"))
        else:
            reprotect(
                replace(self._forward, source_vm=self._plan.original),
                point=f"{failover}-0",
                booted=booted,
                level=level,
                listener=self._listener,
            )
        try:
            remove_points(self._job, self._listener)
        except VReplicaError as error:
            self._listener(
                Warn(f"recovery points could not be removed from the original VM: {error}")
            )
        holder = disabled_by(self._forward)
        if holder is not None:
            enable(self._forward, holder)
        self.enable_job(failover)


def plan_failback(job: Job, new_vm: str | None = None) -> FailbackPlan:
    """Plans a failback from what it reads on both sides. Changes nothing.

    `new_vm`: the datastore for a new VM in place of an original that is lost. Raises
    FailoverUnderWay, NothingToFailBack, OriginalGone and PreflightFailed.
    """
    history.check_none_under_way(job)
    of = history.failed_over(job)
    if of is None:
        say_who_has_replica(job)
        newest = history.outcomes(job)[-1:]
        why = f"{newest[0].id} is {newest[0].state}" if newest else "it has no failover"
        raise NothingToFailBack(job=job.name, why=why)
    return read_plan(job, of, new_vm=new_vm)


def say_who_has_replica(job: Job) -> None:
    """Raises ReplicaInFailover where a failover has the replica that this machine does not know.

    Raises ReplicaIsOn where somebody has started it. Where the destination cannot be read,
    nothing is said.
    """
    refusal = None
    with suppress(VReplicaError):
        refusal = _refusal(job)
    if refusal is not None:
        raise refusal


def _refusal(job: Job) -> VReplicaError | None:
    with connect(job.destination) as session:
        replica = find_replica(session, job)
        standing = in_failover(replica.vm.extra_config) if replica is not None else None
        if replica is None:
            return None
        if standing is not None:
            known = load(failovers_dir(job) / standing.failover)
            return None if known else refusal_in_failover(job.name, replica.vm, standing)
        if replica.vm.power_state != "poweredOn":
            return None
        started = ReplicaIsOn()
        started.name_sides(job.source_vm, replica.vm.ref.name, job.name)
        return started


def _check_held(job: Job, of: Outcome, replica: VmInfo) -> None:
    """Raises FailoverNotHere where another mover has adopted, or ended, the failover `of`."""
    entries = load(failovers_dir(job) / of.id)
    journal = str(entries[0].data.get(JOURNAL, "")) if entries else ""
    claimant = Claimant(
        job=job.name,
        owner=of.id,
        kind=ClaimKind.FAILOVER,
        run=of.id,
        journal=journal,
        must_hold=bool(journal),
    )
    require_held(replica.ref.name, replica.extra_config, claimant)


def read_plan(job: Job, of: Outcome, *, new_vm: str | None = None) -> FailbackPlan:
    """Reads both sides of the failback that takes back `of`, a committed failover."""
    booted = str(of.facts["point"])
    with connect(job.destination) as session:
        replica = find_replica(session, job)
        if replica is None:
            raise NoPoints(job=job.name)
        _check_held(job, of, replica.vm)
        # A side branch is what was written on top of its point: the failback looks from there.
        booted = next((b.point for b in replica.sides if b.id == booted), booted)
        point = next((p for p in replica.points if p.id == booted), None)
        if point is None:
            raise NoPointToBoot(wanted=booted)
    plan = FailbackPlan(
        original=point.source_vm,
        replica=vm_identity(replica.vm),
        datastore=new_vm or "",
        booted=booted,
        level=str(of.facts.get("off_level", Level.CRASH.value)),
        of=of.id,
    )
    if new_vm is not None:
        return replace(plan, original=point.source_name, new_vm=True)
    with connect(job.source) as session:
        try:
            vm = session.read_vm(session.find_vm(point.source_vm))
        except VmNotFound as error:
            raise OriginalGone(
                job=job.name, vm=f"{point.source_name}, {point.source_vm}", reason=error.message
            ) from None
        # New disks go beside its disks, or beside the VM itself where it has none.
        plan = replace(plan, datastore=vm.disks[0].datastore if vm.disks else vm.home_datastore)
    with Sites.open(plan.reverse_job(job)) as sites:
        problems = reprotect_problems(plan.reverse_job(job), sites, vm, point)
    if problems:
        raise PreflightFailed(job=job.name, problems=tuple(problems)).at(vm=vm.ref.name)
    return plan
