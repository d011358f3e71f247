"""Implements the failover's ports (machine/ports.py) on two vCenters and a job.

The replica's newest disk layer, its leaf, is marked before the replica starts. From then on it
holds a guest's writes and is no recovery point, whatever happens to this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar, Final, Self

from vreplica.errors import VReplicaError, VSphereError
from vreplica.failover.guest.customize import (
    check_customization_script,
    run_customization_script,
    wait_customized,
)
from vreplica.failover.machine.errors import (
    GuestRulesDoNotFit,
    NoPointToBoot,
    NoRoomToKeep,
    ReplicaTouched,
    SourceCannotRun,
    SourceNotReached,
)
from vreplica.failover.machine.mark import Holding
from vreplica.failover.machine.ports import Effect, NamedVm, Written
from vreplica.points import Level, RecoveryPoint
from vreplica.points.side_branch import SideBranch
from vreplica.points.vm_keys import BOOTED, DISCONNECTED_KEY, FAILOVER_KEY, LEAF_KEY
from vreplica.sync.claim.claim import ClaimKind
from vreplica.sync.claim.held_claim import (
    Claimant,
    HeldClaim,
    check_in_no_failover,
    claim_now,
    release_of_failover,
    require_held,
)
from vreplica.sync.claim.takeover import wait_until_closed
from vreplica.sync.cycle import run
from vreplica.sync.errors import JobBusy, NoPoints, ReplicaClaimed, ReplicaInFailover
from vreplica.sync.events import Listener, Warn
from vreplica.sync.failover_run import FailoverRun
from vreplica.sync.job import Customize, Job, OnReplicaChange, QuiescePolicy
from vreplica.sync.job_dir import job_lock
from vreplica.sync.job_state import read_job_state
from vreplica.sync.job_switch import check_enabled, disable, enable
from vreplica.sync.known_vms import find_known_replica, find_source
from vreplica.sync.plan.plan import check_next_run, why_claimed
from vreplica.sync.replica import nvram, side_branches
from vreplica.sync.replica.foreign_changes import find_foreign_changes
from vreplica.sync.replica.state import ReplicaState, base_of, find_replica, revert_to_point
from vreplica.sync.sites import Sites
from vreplica.vsphere.errors import NoSpecification, VmNotFound
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.session import Session, connect

STARTED: Final = ("VmPoweredOnEvent", "DrsVmPoweredOnEvent", "VmRestartedOnAlternateHostEvent")
"""Events of a VM that was powered on: by a user, by DRS, by HA."""

LOCK_WAIT_S: Final = 600.0
"""How long a failover waits for a run in flight to end."""


class VSpherePorts:
    """Source, replica and job of one failover.

    A context manager. It connects to a side at the first call for that side, so that a lost source
    is not contacted.
    """

    def __init__(self, job: Job, failover: str, listener: Listener) -> None:
        self._job, self._failover, self._listener = job, failover, listener
        self._stack = ExitStack()
        self._tasks: dict[str, list[str]] = {"source": [], "destination": []}
        self._holding: Holding | None = None
        self.check_cancelled: Callable[[], None] = lambda: None
        """Called before every write of a sync, beside the journal's epoch check. It may raise."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @cached_property
    def _source(self) -> Session:
        return self._stack.enter_context(connect(self._job.source))

    @cached_property
    def _source_vm(self) -> VmRef:
        return find_source(self._source, self._job)

    @cached_property
    def _destination(self) -> Session:
        return self._stack.enter_context(connect(self._job.destination))

    def _replica(self) -> ReplicaState:
        replica = find_replica(self._destination, self._job)
        if replica is None:
            raise NoPoints(job=self._job.name)
        return replica

    def tasks(self) -> dict[str, list[str]]:
        # Only of sessions that are open: a lost source is not asked.
        for side, name in (("source", "_source"), ("destination", "_destination")):
            if name in self.__dict__:
                self._tasks[side] += self.__dict__[name].take_started_tasks()
        started, self._tasks = self._tasks, {"source": [], "destination": []}
        return started

    def _add_tasks(self, source: tuple[str, ...], destination: tuple[str, ...]) -> None:
        self._tasks["source"] += source
        self._tasks["destination"] += destination

    @property
    def target(self) -> str:
        return self._job.name

    def names(self) -> tuple[NamedVm, NamedVm]:
        job, replica = self._job, None
        with suppress(VReplicaError):
            replica = find_replica(self._destination, job)
        name = replica.vm.ref.name if replica is not None else job.placement.name
        # As the newest point knows it; a job may name its source by an id.
        latest = replica.latest if replica is not None else None
        source = latest.source_name if latest is not None else job.source_vm
        return NamedVm(source, job.source.label), NamedVm(name, job.destination.label)

    # -- the replica's own mark -------------------------------------------------------------

    def check_free(self) -> None:
        with suppress(VmNotFound):
            vm = self._destination.read_vm(self._replica_ref())
            check_in_no_failover(self._job.name, vm)

    def hold(self, holding: Holding) -> None:
        self._holding = holding

    def check_held(self) -> None:
        with suppress(VmNotFound):
            ref = self._replica_ref()
            found = self._destination.read_options(ref).extra_config
            require_held(ref.name, found, self._claimant)

    def mark_replica(self) -> None:
        self._claim()

    def stays_claimed(self) -> bool:
        return True

    def _replica_ref(self) -> VmRef:
        """Raises VmNotFound where there is no VM yet."""
        known = find_known_replica(self._destination, self._job)
        return known or self._destination.find_vm(self._job.placement.name)

    @property
    def _claimant(self) -> Claimant:
        holding = self._holding
        return Claimant(
            job=self._job.name,
            owner=self._failover,
            kind=ClaimKind.FAILOVER,
            run=self._failover,
            journal=holding.mark.journal if holding is not None else "",
            must_hold=holding is not None and holding.stands,
        )

    @property
    def _marks(self) -> dict[str, str]:
        """The entries of extraConfig that go with every claim."""
        return {FAILOVER_KEY: self._holding.mark.text} if self._holding is not None else {}

    # -- the job ----------------------------------------------------------------------------

    def disable_job(self, failover: str) -> None:
        end = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                with job_lock(self._job):
                    check_enabled(self._job, failover)
                    self._claim()
                    return disable(self._job, failover)
            except (JobBusy, ReplicaClaimed) as error:
                if isinstance(error, ReplicaInFailover):
                    raise
                if time.monotonic() > end:
                    raise
                time.sleep(1.0)

    def enable_job(self, failover: str) -> None:
        replica = self._job.placement.name
        with suppress(VmNotFound):
            replica = self._replica_ref().moref
        over = self._holding.mark.over.text if self._holding is not None else ""
        release_of_failover(self._destination, replica, self._claimant, over)
        enable(self._job, failover)

    def _claim(self, values: Mapping[str, str] | None = None) -> HeldClaim | None:
        """Claims the replica for this failover, with its mark; None where there is no VM yet.

        A claim of the failover stays until it has ended, also while no process works on it.
        `values`: further entries, set in the same step. Raises ReplicaClaimed, FailoverNotHere.
        """
        try:
            ref = self._replica_ref()
        except VmNotFound:
            return None
        both = {**self._marks, **(values or {})}
        taken = claim_now(self._destination, ref, self._claimant, both)
        taken.held.forget()
        if taken.before is not None:
            self._listener(Warn(taken.text))
            replica = self._destination.read_vm(ref)
            wait_until_closed(self._job, self._destination, replica, taken)
        return taken.held

    def points(self) -> tuple[RecoveryPoint, ...]:
        replica = find_replica(self._destination, self._job)
        return replica.points if replica is not None else ()

    def sync(
        self, point: str, known_level: Level | None, check_epoch: Callable[[], None]
    ) -> RecoveryPoint:
        def check() -> None:
            check_epoch()
            self.check_cancelled()

        report = run(
            _final_sync_of(self._job, known_level),
            listener=self._listener,
            run_id=point,
            fence=check,
            failover_run=FailoverRun(
                self._failover,
                known_level,
                self._add_tasks,
                journal=self._claimant.journal,
                must_hold=self._claimant.must_hold,
                marks=self._marks,
            ),
        )
        return report.point

    def replica_state_is_kept(self) -> bool:
        # All that the replica holds came from runs, and a run ends with a point.
        return True

    def keep_replica_state(self, failover: str) -> None:
        raise AssertionError("a point keeps every state of a replica")

    def settle_direction(self, failover: str, booted: str, level: Level, lost: bool) -> None:
        """Switches the job off for good: a run would overwrite the VM that is in service."""
        with job_lock(self._job):
            disable(self._job, failover, committed=True)

    # -- the source -------------------------------------------------------------------------

    verb: ClassVar[str] = "failover"
    """The command that begins it, for messages."""

    def check_source_is_reached(self) -> None:
        try:
            vm = self._source.read_vm(self._source_vm)
            if vm.connection_state != "connected":
                raise SourceCannotRun(vm=vm.name, state=vm.connection_state)
        except VReplicaError as error:
            source, _ = self.names()
            reason = str(error)
            raise SourceNotReached(source.vm, source.site, reason, self.verb) from error

    def check_can_sync(self) -> None:
        job, sites = self._job, Sites(self._source, self._destination, ExitStack())
        known = Level.CRASH if self.source_is_off() else None
        try:
            with job_lock(job), sites.one_look():
                self._check_next_run(_final_sync_of(job, known), sites, known)
        except ReplicaInFailover:
            raise
        except (JobBusy, ReplicaClaimed):
            return

    def _check_next_run(self, job: Job, sites: Sites, known: Level | None) -> None:
        state = read_job_state(job, sites)
        if (claimed := why_claimed(sites.destination, state)) is not None:
            raise claimed
        check_next_run(state, known)

    def source_is_off(self) -> bool:
        return self._source.power_state(self._source_vm) == "poweredOff"

    def check_source_can_run(self) -> None:
        if self._source.power_state(self._source_vm) != "poweredOn":
            vm = self._source.read_vm(self._source_vm)
            if vm.connection_state != "connected":
                raise SourceCannotRun(vm=vm.name, state=vm.connection_state)

    def source_time(self) -> datetime:
        return self._source.refresh()

    def source_started_since(self, time: datetime) -> datetime | None:
        found = self._source.events(self._source_vm, since=time)
        return next((e.time for e in found if e.type in STARTED and e.time >= time), None)

    def source_can_shut_down(self) -> bool:
        return self._source.read_vm(self._source_vm).tools_running

    def shut_down_source(self) -> None:
        self._source.shutdown_guest(self._source_vm)

    def source_was_powered_off(self) -> bool:
        # Both times are by vCenter's clock. It forgets tasks after some minutes; polls are shorter.
        events = self._source.events(self._source_vm)
        asked = [e.time for e in events if e.type == "VmGuestShutdownEvent"]
        tasks = self._source.recent_tasks(self._source_vm)
        power_offs = [t.queued for t in tasks if "poweroff" in t.operation.lower()]
        return bool(asked) and any(time >= max(asked) for time in power_offs)

    def power_off_source(self) -> None:
        self._source.power_off(self._source_vm)

    def power_on_source(self) -> None:
        self._source.power_on(self._source_vm)

    def connect_source(self, connect: bool) -> None:
        """Leaves a mark on the VM, for a failback that has to connect the cards again."""
        self._source.set_nics(self._source_vm, connect=connect)
        mark = "" if connect else self._failover
        self._source.set_extra_config(self._source_vm, {DISCONNECTED_KEY: mark})

    # -- the replica ------------------------------------------------------------------------

    def check_guest_rules(self) -> None:
        guest = self._job.guest
        if guest.customize is None:
            return
        try:
            ref = self._destination.find_vm(self._job.placement.name)
        except VmNotFound:
            return  # a failback makes it
        by_script = guest.customize is Customize.SCRIPT
        try:
            problem = self._destination.customization_problem(
                ref, guest.spec or guest.customization, by_script=by_script
            )
        except NoSpecification as error:
            problem = f"{error.message}. {error.advice()}"
        if problem is not None:
            raise GuestRulesDoNotFit(job=self._job.name, reason=problem)

    def replica_is_on(self) -> bool:
        replica = find_replica(self._destination, self._job)
        if replica is None:
            return False
        return self._destination.power_state(replica.vm.ref) != "poweredOff"

    def replica_stands_on(self) -> str | None:
        replica = self._replica()
        point = replica.stands_on
        return point.id if point else replica.stands_on_side

    def replica_is_changed(self) -> bool:
        replica = self._replica()
        changes = find_foreign_changes(self._job, self._destination, replica)
        if changes and self._job.on_replica_change is OnReplicaChange.STOP:
            assert replica.latest is not None, "changes are counted from the latest point"
            point = replica.latest.id
            raise ReplicaTouched(vm=replica.vm.ref.name, point=point, changes="; ".join(changes))
        return bool(changes)

    def put_replica_on(self, point: str) -> None:
        replica = self._replica()
        known = (*replica.points, *replica.bootable_sides)
        wanted = next((p.snapshot for p in known if p.id == point), None)
        snapshot = next((s for s in replica.snapshots if s.moref == wanted), None)
        if snapshot is None:
            raise NoPointToBoot(wanted=point)
        claim = self._claim()
        assert claim is not None, "the replica was read a moment ago"
        revert_to_point(self._destination, claim, snapshot, self._marks)

    def before_power_on(self) -> tuple[Effect, ...]:
        if self._job.guest.customize is Customize.SPEC:
            return (("CustomizeVM replica", self._customize_replica),)
        return ()

    def _customize_replica(self) -> None:
        ref, guest = self._replica().vm.ref, self._job.guest
        self._mark_leaf()
        self._destination.customize_guest(ref, guest.spec or guest.customization)

    def power_on_replica(self) -> None:
        replica = self._replica().vm
        ref = replica.ref
        point = RecoveryPoint.from_extra_config(replica.extra_config)
        self._mark_leaf()
        if point is not None:
            try:
                nvram.place(self._destination, replica, point, replica)
            except VSphereError as error:
                # A guest on default variables is better than none.
                self._listener(Warn(f"{ref.name} starts with the NVRAM of a new VM: {error}"))
        self._set_hardware_identity(ref)
        self._connect_replica(ref)
        self._destination.power_on(ref)

    def _set_hardware_identity(self, ref: VmRef) -> None:
        """Sets the BIOS UUID and MAC addresses as the job wants them; a point may have others.

        The values of a lost source cannot be read, so its replica keeps those of the point.
        """
        if "_source" in self.__dict__:
            source = self._source.read_vm(self._source_vm)
            self._destination.set_hardware_identity(ref, source, self._job.placement.keep)

    def _connect_replica(self, ref: VmRef) -> None:
        """A replica is created with its cards disconnected, and a revert disconnects them again."""
        self._destination.set_nics(ref, connect=True)

    def _mark_leaf(self) -> None:
        """From here on the leaf is no recovery point: an undo discards what follows."""
        self._claim({LEAF_KEY: f"{BOOTED}{self._failover}"})

    def after_heartbeat(self) -> tuple[Effect, ...]:
        if self._job.guest.customize is Customize.SCRIPT:
            return (("addresses by script in replica's guest", self._run_customization_script),)
        if self._job.guest.customize is Customize.SPEC:
            return (("customization of replica's guest", self._wait_customized),)
        return ()

    def _run_customization_script(self) -> None:
        result = run_customization_script(self._destination, self._replica().vm.ref, self._job)
        check_customization_script(result)

    def _wait_customized(self) -> None:
        wait_customized(self._destination, self._replica().vm.ref)

    def where_replica_runs(self) -> dict[str, Any]:
        vm = self._destination.read_vm(self._replica().vm.ref)
        address = self._destination.read_guest(vm.ref).ip_address
        connected = (nic.network for nic in vm.nics if nic.connected and nic.network)
        return {
            "host": vm.host,
            "addresses": [address] if address is not None else [],
            "networks": list(dict.fromkeys(connected)),
        }

    def power_off_replica(self) -> None:
        self._destination.power_off(self._replica().vm.ref)

    def replica_can_shut_down(self) -> bool:
        return self._destination.read_vm(self._replica().vm.ref).tools_running

    def shut_down_replica(self) -> None:
        self._destination.shutdown_guest(self._replica().vm.ref)

    def power_on_replica_again(self) -> None:
        self._destination.power_on(self._replica().vm.ref)

    # -- what was written in service --------------------------------------------------------

    def side_branches(self) -> tuple[SideBranch, ...]:
        replica = find_replica(self._destination, self._job)
        return replica.sides if replica is not None else ()

    def check_room_to_keep(self) -> None:
        problem = side_branches.room_problem(self._destination, self._replica())
        if problem is not None:
            raise NoRoomToKeep(reason=problem)

    def written_in_service(self) -> int | None:
        replica = self._replica()
        base = base_of(replica)
        return side_branches.written_since(self._destination, replica, base) if base else None

    def written_so_far(self) -> Written:
        replica = self._replica()
        if self._destination.power_state(replica.vm.ref) == "poweredOff":
            return Written(self.written_in_service(), exact=True)
        base = base_of(replica)
        measure = side_branches.files_since
        size = measure(self._destination, replica, base) if base is not None else None
        return Written(size, exact=False)

    def keep_side_branch(self, id_: str, level: Level, written_bytes: int | None) -> None:
        replica = self._replica()
        branch = SideBranch(
            id=id_,
            job=self._job.name,
            failover=self._failover,
            point=base_of(replica) or "",
            level=level,
            time=datetime.now(UTC),
            written_bytes=written_bytes,
        )
        side_branches.keep(self._destination, replica, branch)

    def replica_answers(self) -> bool:
        return self._destination.read_guest(self._replica().vm.ref).heartbeat == "green"


def _final_sync_of(job: Job, known_level: Level | None) -> Job:
    """The job for a sync of a source that is off, or as it is (None).

    The operator chose that. The failover's own `require` decides what can boot.
    """
    if known_level is None:
        return job
    return replace(job, require=Level.CRASH, quiesce=QuiescePolicy.TRY)
