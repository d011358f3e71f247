"""One replication cycle: from the replica's last recovery point to the next.

    lock -> read both sides -> plan, preflight
         -> mend what a broken run left          source: our snapshot; replica: back to its point
         -> replica there, tracking on
         -> source snapshot (level known)
         -> mark the leaf -> copy every disk -> describe the point -> snapshot the replica
                                                                      `-- this is the commit
         -> digest maps follow -> verify (on request) -> source snapshot off -> retention

Up to the commit a failure takes the replica back to its last point and the source's snapshot
away; a kill leaves that to the next run, which finds everything it needs on the two sides.
After the commit the point stands, whatever else fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter

from vreplica.delta.control import Control
from vreplica.delta.copy.modes import CopyMode
from vreplica.delta.copy.stats import Clock
from vreplica.errors import VReplicaError
from vreplica.points import Level, RecoveryPoint
from vreplica.points.model import new_id
from vreplica.points.vm_keys import LEAF_KEY
from vreplica.sync.commit import commit, describe
from vreplica.sync.copy.disks import Copying, DiskCopy, copy_disks, follow
from vreplica.sync.copy.resume import frozen_of, record_of, shape_as_is, worth_resuming
from vreplica.sync.copy.task import DiskTask
from vreplica.sync.errors import Cancelled, PreflightFailed, SourceChanged
from vreplica.sync.events import Event, Listener, Step, Warn, ignore
from vreplica.sync.failover_run import FailoverRun
from vreplica.sync.job import Job
from vreplica.sync.job_dir import job_lock
from vreplica.sync.job_switch import check_enabled
from vreplica.sync.pause import Holding, size_of
from vreplica.sync.plan.plan import make_plan
from vreplica.sync.plan.space import check_space
from vreplica.sync.replica import test_vm
from vreplica.sync.replica.reshape import reshape
from vreplica.sync.replica.shape import Shape, replica_spec, replicated_disks, shape_of
from vreplica.sync.replica.state import (
    ReplicaState,
    disk_identity,
    find_replica,
    read_replica,
    snapshot_name,
)
from vreplica.sync.report import Plan, RunReport, VerifyReport
from vreplica.sync.retention import retain
from vreplica.sync.rollback import Mending
from vreplica.sync.run_record import Resumable, forget_run
from vreplica.sync.sites import Sites
from vreplica.sync.source.cbt import ensure_active, reset, settle
from vreplica.sync.source.snapshot import Frozen, freeze
from vreplica.sync.source.vmotion_lock import held_in_place
from vreplica.sync.verify.verify import compare_point
from vreplica.vsphere.model import VmDisk, VmInfo


def never_fenced() -> None:
    """The fence of a run that nobody can take over."""


def run(
    job: Job,
    *,
    listener: Listener = ignore,
    verify: bool = False,
    control: Control | None = None,
    run_id: str | None = None,
    fence: Callable[[], None] = never_fenced,
    failover_run: FailoverRun | None = None,
) -> RunReport:
    """One cycle of `job`. Ends with a new recovery point, or raises with the replica as it was.

    `listener` is told of steps, progress and warnings. `control` cancels, pauses and resumes; a
    cancelled run ends at the next batch and leaves nothing behind. `verify` compares every block
    of the new point with the source's snapshot before that is removed. `run_id`: the id of the
    run and of its point; a new one by default. `fence` is called before every step, read and
    write; it raises where another process has taken the run over, and then nothing is put back,
    since the new owner does that. Raises JobDisabled, JobBusy and what the sites and disks raise.
    """
    failover = failover_run.failover if failover_run is not None else None
    with job_lock(job):
        check_enabled(job, failover)
        control = control or Control()
        holding = Holding(job, control, listener, limited=failover is None)
        with holding, Sites.open(job) as sites:
            cycle = _Cycle(
                job, sites, listener, control, fence, holding, failover_run, run_id or new_id()
            )
            try:
                return cycle.run(verify)
            finally:
                if failover_run is not None:
                    failover_run.started(
                        sites.source.take_started_tasks(), sites.destination.take_started_tasks()
                    )


@dataclass(slots=True)
class _Cycle:
    job: Job
    sites: Sites
    listener: Listener
    control: Control
    fence: Callable[[], None]
    holding: Holding
    failover_run: FailoverRun | None
    id: str
    mending: Mending = field(init=False)
    copying: bool = False
    """Disks are being written, and the next run could go on with it."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=perf_counter)
    disks_clock: Clock = field(default_factory=Clock)
    earlier_overhead_s: float = 0.0
    recovered: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mending = Mending(self.job, self.sites, self._hear, self.recovered)

    @property
    def known_level(self) -> Level | None:
        return self.failover_run.known_level if self.failover_run is not None else None

    @property
    def overhead_s(self) -> float:
        """Beside the disks, up to now, over all parts of a run that is gone on with."""
        own = perf_counter() - self.began - self.disks_clock.seconds
        return self.earlier_overhead_s + own

    def run(self, verify: bool) -> RunReport:
        self._step("read", f"reading {self.job.source_vm} and {self.job.placement.name}")
        vm = self.sites.source.read_vm(self.sites.source.find_vm(self.job.source_vm))
        replica = find_replica(self.sites.destination, self.job)
        plan = make_plan(
            self.job,
            self.sites,
            vm,
            replica,
            self.known_level,
            may_resume=self.failover_run is None,
        )
        if plan.problems:
            raise PreflightFailed(job=self.job.name, problems=plan.problems).at(vm=vm.ref.name)
        for warning in plan.warnings:
            self._hear(Warn(warning))
        with held_in_place(self.job, self.sites.source, vm.ref, self._hear):
            return self._work(vm, replica, plan, verify)

    def _work(
        self, vm: VmInfo, replica: ReplicaState | None, plan: Plan, verify: bool
    ) -> RunReport:
        resumed = plan.resumes
        if resumed is None:
            vm, replica = self._mend(vm, replica, plan.outside_changes)
        else:
            self.id = resumed.record.run
            self.earlier_overhead_s = resumed.record.overhead_s
            self.recovered.append(f"went on with {resumed.text}")
        with self._undone_on_failure(vm):
            if resumed is not None and replica is not None:
                self._step("resume", f"going on with {resumed.text}")
                frozen = frozen_of(self.sites.source, vm, resumed.record)
                shape = shape_as_is(frozen.snapshot.disks, resumed)
            else:
                replica, shape = self._prepare(vm, replica)
                vm = self._track(vm, shape)
                self._heed_cancel()
                frozen = self._freeze(vm)
            copies = self._copy(vm, replica, shape, plan, frozen, resumed)
            self._heed_cancel()
            self.copying = False
            point = self._commit(vm, replica, frozen, copies)
        # The point exists: what follows can be late or fail, and the point stands.
        forget_run(self.job)
        try:
            follow(self._copying(vm, replica, frozen), copies, point)
            verified = self._verify(vm, replica, frozen, point) if verify else None
        finally:
            # Also where verifying failed or was cancelled: the snapshot would grow till then.
            self._finish_source(vm, frozen)
        removed = retain(
            self.job,
            self.sites.destination,
            replica.vm.ref,
            self.id,
            self._hear,
            keep_all=self.failover_run is not None,
        )
        return RunReport(
            job=self.job.name,
            point=point,
            disks=tuple(c.report for c in copies),
            recovered=tuple(self.recovered),
            removed_points=tuple(removed),
            warnings=tuple(self.warnings),
            verified=verified,
            points=len(replica.points) + 1 - len(removed),
            started=self.started,
            seconds=perf_counter() - self.began,
        )

    # -- before anything is copied ------------------------------------------------------------

    def _prepare(self, vm: VmInfo, replica: ReplicaState | None) -> tuple[ReplicaState, Shape]:
        """The replica, there and in the shape of its source."""
        shape = shape_of(self.job, vm, replicated_disks(self.job, vm), replica)
        if replica is None:
            return self._create_replica(vm), shape
        if not shape.changed:
            return replica, shape
        destination = self.sites.destination
        return reshape(self.job, destination, vm, replica, shape, self.id, self._hear)

    def _mend(
        self, vm: VmInfo, replica: ReplicaState | None, outside: tuple[str, ...]
    ) -> tuple[VmInfo, ReplicaState | None]:
        """Undo what a run that was killed has left on either side, and what others did."""
        forget_run(self.job)
        vm = self.mending.clear_source(vm)
        for text in outside:
            name = self.job.placement.name
            self._hear(Warn(f"what others changed on replica {name} is discarded: {text}"))
        if replica is not None and (outside or not replica.clean):
            replica = self.mending.take_back(replica)
        if replica is not None and (left := test_vm.clean(self.sites.destination, self.job)):
            self.recovered.append(f"removed test VM {left}, whose process is gone")
        return vm, replica

    def _track(self, vm: VmInfo, shape: Shape) -> VmInfo:
        if shape.grown:
            self._step("track", f"resetting changed block tracking on {vm.ref.name}")
            return reset(self.sites.source, vm, snapshot_name(self.job.name))
        if not vm.cbt_enabled:
            if vm.snapshots:
                # Recovery points of the other direction: beneath them tracking would leave out
                # changes without a word (since vSphere 6.5). Each run reads everything instead.
                return vm
            self._step("track", f"enabling changed block tracking on {vm.ref.name}")
        return ensure_active(self.sites.source, vm, snapshot_name(self.job.name))

    def _create_replica(self, vm: VmInfo) -> ReplicaState:
        place = self.job.placement
        self._step("create", f"creating replica {place.name} on {place.datastore}")
        ref = self.sites.destination.create_replica(replica_spec(self.job, vm, self.id))
        return read_replica(self.sites.destination, self.job, ref)

    def _freeze(self, vm: VmInfo) -> Frozen:
        self._step("snapshot", f"taking a snapshot of {vm.ref.name}")
        return freeze(self.job, self.sites.source, vm, self.id, self.known_level, self._hear)

    # -- the copy, and the commit -------------------------------------------------------------

    def _copy(
        self,
        vm: VmInfo,
        replica: ReplicaState,
        shape: Shape,
        plan: Plan,
        frozen: Frozen,
        resumed: Resumable | None,
    ) -> list[DiskCopy]:
        planned = {d.key: d for d in plan.disks}
        sources = {d.key: d for d in frozen.snapshot.disks}
        targets = {d.key: d for d in replica.vm.disks}
        tasks = []
        if any(not _same(d.disk, sources.get(d.disk.key)) for d in shape.disks):
            raise SourceChanged
        for disk in (sources[d.disk.key] for d in shape.disks):
            made = shape.of(disk.key)
            if made.new and made.origin is None:
                planned[disk.key] = replace(planned[disk.key], mode=CopyMode.FULL)
            settled = settle(
                self.job,
                self.sites.source,
                vm,
                frozen,
                disk,
                planned[disk.key],
                replica,
                self.sites.destination,
            )
            if settled.mode is not planned[disk.key].mode:
                self._hear(Warn(f"{disk.label}: {settled.mode}, since {settled.reason}"))
            base = None
            if resumed is not None and settled.mode.value == resumed.disk(disk.key).mode:
                # Of another mode is another choice of blocks: begun anew, on the same leaf.
                base = resumed.disk(disk.key).base
            tasks.append(DiskTask(disk, targets[disk.key], settled, made.origin, base))
        check_space(self.job, self.sites.destination, self.id, tasks)
        self._step("copy", f"copying {len(tasks)} disk{'s' * (len(tasks) > 1)}")
        self.sites.destination.set_extra_config(replica.vm.ref, {LEAF_KEY: self.id})
        if self.failover_run is None:
            record_of(self.job, self.id, replica, frozen, tasks, self.overhead_s).save(self.job)
            self.copying = True
        with self.holding.measuring(partial(size_of, self.sites, vm)), self.disks_clock:
            return copy_disks(self._copying(vm, replica, frozen), tasks)

    def _copying(self, vm: VmInfo, replica: ReplicaState, frozen: Frozen) -> Copying:
        return Copying(
            self.job,
            self.sites,
            vm,
            replica,
            frozen,
            self.id,
            self._hear,
            self.control,
            self.fence,
        )

    def _commit(
        self, vm: VmInfo, replica: ReplicaState, frozen: Frozen, copies: list[DiskCopy]
    ) -> RecoveryPoint:
        made = describe(self.job, vm, frozen, copies, self.id, self.overhead_s)
        for what in made.suspicions:
            self._hear(Warn(f"this change looks like mass encryption: {what}"))
        self._step("commit", f"making recovery point {self.id} of {replica.vm.ref.name}")
        self.fence()
        return commit(self.job, self.sites.destination, replica.vm.ref, made)

    # -- after the commit ---------------------------------------------------------------------

    def _verify(
        self, vm: VmInfo, replica: ReplicaState, frozen: Frozen, point: RecoveryPoint
    ) -> VerifyReport:
        self._step("verify", f"comparing point {point.id} with the source")
        return compare_point(
            self.job,
            self.sites,
            vm.ref,
            frozen.snapshot,
            replica.vm.ref,
            point,
            since={},
            listener=self._hear,
            control=self.control,
        )

    def _finish_source(self, vm: VmInfo, frozen: Frozen) -> None:
        self._step("release", f"removing the snapshot of {vm.ref.name}")
        try:
            self.sites.source.remove_snapshot(vm.ref, frozen.snapshot.moref)
        except VReplicaError as error:
            self._hear(Warn(f"the next run removes the snapshot of {vm.ref.name}: {error}"))

    # -- when it fails ------------------------------------------------------------------------

    @contextmanager
    def _undone_on_failure(self, vm: VmInfo) -> Iterator[None]:
        """Put both sides back, tell how they are now, and raise on."""
        try:
            yield
        except BaseException as error:
            # Whoever was taken over leaves it to those who took over, as if it had been killed.
            self.fence()
            if isinstance(error, VReplicaError) and self._goes_on(error):
                raise
            forget_run(self.job)
            source = self.mending.put_back_source(vm)
            target = self.mending.put_back_replica(self.id)
            if isinstance(error, VReplicaError):
                error.at(vm=vm.ref.name, source_state=source, replica_state=target)
            raise

    def _goes_on(self, error: VReplicaError) -> bool:
        """Is the work of this run kept for the next one, which a retry may let end well?"""
        if not (self.copying and error.retryable and worth_resuming(self.job, self.id)):
            return False
        error.at(
            source_state="our snapshot stays on it, for the next run",
            replica_state="its recovery points are untouched; its disks are in the middle of a run",
            next_run="goes on where this one broke off",
        )
        return True

    def _step(self, name: str, text: str) -> None:
        self._hear(Step(name, text))

    def _heed_cancel(self) -> None:
        if self.control.cancelled:
            raise Cancelled

    def _hear(self, event: Event) -> None:
        if isinstance(event, Warn):
            self.warnings.append(event.text)
        self.listener(event)
        if isinstance(event, Step):  # those of mending, reshaping and retention too
            self.fence()


def _same(disk: VmDisk, frozen: VmDisk | None) -> bool:
    """Is the snapshot's disk the one that the replica was made ready for?"""
    if frozen is None or frozen.capacity_bytes != disk.capacity_bytes:
        return False
    return disk_identity(frozen) == disk_identity(disk)
