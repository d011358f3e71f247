"""Runs one replication cycle: from the replica's last recovery point to the next.

    lock -> read both sides -> plan, preflight
         -> roll back what a broken run left     source: our snapshot; replica: back to its point
         -> replica in shape, change tracking on
         -> source snapshot (level known)
         -> mark the leaf -> copy every disk -> describe the point -> snapshot the replica
                                                                      `-- this is the commit
         -> digest maps follow -> verify (on request) -> source snapshot off -> retention

A failure before the commit reverts the replica to its last point and removes the source's
snapshot. A kill leaves that to the next run, which finds all it needs on the two sides. After the
commit the point stands, whatever else fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from vreplica.delta.control import Control
from vreplica.errors import VReplicaError
from vreplica.points import RecoveryPoint
from vreplica.points.clock_problems import clocks_set_back
from vreplica.points.model import new_id
from vreplica.points.vm_keys import LEAF_KEY
from vreplica.sync.commit import commit, describe
from vreplica.sync.copy.digest_maps import apply_digests, rebuild_lost_maps
from vreplica.sync.copy.disks import copy_disks
from vreplica.sync.copy.one_disk import DiskCopy
from vreplica.sync.copy.resume import prepare_resumed, record_of, worth_resuming
from vreplica.sync.copy.task import disk_tasks
from vreplica.sync.errors import PreflightFailed, SourceSnapshotLost
from vreplica.sync.events import Listener, ignore
from vreplica.sync.expired_points import remove_expired
from vreplica.sync.failover_run import FailoverRun
from vreplica.sync.job import Job
from vreplica.sync.job_dir import job_lock
from vreplica.sync.job_state import JobState, read_job_state
from vreplica.sync.job_switch import check_enabled
from vreplica.sync.known_vms import remember
from vreplica.sync.pause import PauseWatch, source_bytes
from vreplica.sync.plan.plan import make_plan
from vreplica.sync.plan.space import check_space
from vreplica.sync.prepared_run import PreparedRun
from vreplica.sync.replica import test_vm
from vreplica.sync.replica.reshape import reshape
from vreplica.sync.replica.shape import Shape, replica_spec, replicated_disks, shape_of
from vreplica.sync.replica.state import ReplicaState, read_replica
from vreplica.sync.report import Plan, RunReport, VerifyReport
from vreplica.sync.rollback import Rollback
from vreplica.sync.run_context import Fence, RunContext, never_fenced
from vreplica.sync.run_record import forget_run
from vreplica.sync.sites import Sites, SiteSessions
from vreplica.sync.source.cbt import track_source
from vreplica.sync.source.snapshot import check_snapshot_stands, take_source_snapshot
from vreplica.sync.source.vmotion_lock import storage_vmotion_locked
from vreplica.sync.verify.comparison import Comparison, compare_point
from vreplica.vsphere.model import VmInfo


def run(
    job: Job,
    *,
    listener: Listener = ignore,
    verify: bool = False,
    control: Control | None = None,
    run_id: str | None = None,
    fence: Fence = never_fenced,
    failover_run: FailoverRun | None = None,
    sessions: SiteSessions | None = None,
) -> RunReport:
    """Replicates once. Ends with a new recovery point, or raises with the replica as it was.

    `listener` gets steps, progress and warnings. `control` cancels, pauses and resumes; a
    cancelled run ends at the next batch and leaves nothing behind. `verify` compares every block
    of the new point with the source's snapshot before that is removed. `run_id`: the id of the
    run and of its point; by default a new one. `fence` is called before every step, read and
    write. It raises where another process has taken the run over; then nothing is rolled back,
    since the new owner does that. `sessions`: those of other jobs of this thread, shared. Raises
    JobDisabled, JobBusy and what the sites and disks raise.
    """
    with job_lock(job):
        check_enabled(job, failover_run.failover if failover_run is not None else None)
        control = control or Control()
        pause = PauseWatch(job, control, listener, limited=failover_run is None)
        with pause, Sites.open(job, sessions) as sites:
            context = RunContext(
                job=job,
                sites=sites,
                run_id=run_id or new_id(),
                control=control,
                listener=listener,
                fence=fence,
                failover_run=failover_run,
            )
            try:
                return _run(context, pause, verify=verify)
            finally:
                if failover_run is not None:
                    failover_run.started(
                        sites.source.take_started_tasks(), sites.destination.take_started_tasks()
                    )


def _run(context: RunContext, pause: PauseWatch, *, verify: bool) -> RunReport:
    state, plan = _read_and_plan(context)
    source = state.source.ref
    with storage_vmotion_locked(context.job, context.sites.source, source, context.report):
        if plan.resumes is None:
            state = _roll_back_earlier_run(context, state, plan)
        with rolled_back_on_failure(context, state.source):
            prepared = _prepare(context, state, plan)
            copies = _copy(context, prepared, plan, pause)
            context.check_cancelled()
            point = _commit(context, prepared, copies)
        # The point exists: what follows can be late or fail, and the point stands.
        forget_run(context.job)
        try:
            maps = {c.report.label: c.map_path for c in copies if c.map_path is not None}
            apply_digests(context, maps, point)
            verified = _verify(context, prepared, point) if verify else None
        finally:
            # Also where verifying failed or was cancelled: the snapshot would grow till then.
            _remove_source_snapshot(context, prepared)
        removed = remove_expired(context, prepared.replica.vm.ref)
        lost = {c.report.key: c.report.label for c in copies if c.report.digest_map_problem}
        rebuild_lost_maps(context, point, lost)
    return RunReport(
        job=context.job.name,
        point=point,
        disks=tuple(c.report for c in copies),
        recovered=tuple(context.recovered),
        removed_points=tuple(removed),
        warnings=tuple(context.warnings),
        verified=verified,
        points=len(prepared.replica.points) + 1 - len(removed),
        started=context.started,
        seconds=context.seconds,
    )


# -- before anything is copied ----------------------------------------------------------------


def _read_and_plan(context: RunContext) -> tuple[JobState, Plan]:
    """Reads both sides. Raises PreflightFailed where a run cannot end well."""
    job = context.job
    context.step("read", f"reading {job.source_vm} and {job.placement.name}")
    with context.sites.one_look():
        state = read_job_state(job, context.sites)
        # Networks that the job names by path are named by moref from here on.
        context.job = job = state.job
        plan = make_plan(state, context.known_level, may_resume=context.failover_run is None)
    if plan.problems:
        raise PreflightFailed(job=job.name, problems=plan.problems).at(vm=state.source.ref.name)
    remember(job, source=state.source, replica=state.replica.vm if state.replica else None)
    for warning in plan.warnings:
        context.warn(warning)
    return state, plan


def _roll_back_earlier_run(context: RunContext, state: JobState, plan: Plan) -> JobState:
    """Removes what a run that was killed has left on either side, and what others changed."""
    job, rollback = context.job, Rollback(context)
    forget_run(job)
    source = rollback.consolidate_source(rollback.remove_left_snapshot(state.source))
    replica = state.replica
    if replica is not None:
        replica = rollback.consolidate_replica(replica)
    for text in plan.foreign_changes:
        context.warn(f"what others changed on replica {job.placement.name} is discarded: {text}")
    if replica is not None and (plan.foreign_changes or not replica.clean):
        replica = rollback.revert_to_latest_point(replica)
    if replica is not None and (left := test_vm.remove_left(context.sites.destination, job)):
        context.recovered.append(f"removed test VM {left}, whose process is gone")
    return state.with_sides(source, replica)


def _prepare(context: RunContext, state: JobState, plan: Plan) -> PreparedRun:
    """Brings the replica into shape, switches tracking on and takes the source's snapshot."""
    if plan.resumes is not None and state.replica is not None:
        context.resume(plan.resumes)
        context.step("resume", f"resuming {plan.resumes.text}")
        return prepare_resumed(state, state.replica, plan.resumes)
    replica, shape = _shaped_replica(context, state)
    source = track_source(context, state.source, shape)
    context.check_cancelled()
    context.step("snapshot", f"taking a snapshot of {source.ref.name}")
    snapshot = take_source_snapshot(context, source)
    return PreparedRun(source, snapshot, replica, shape)


def _shaped_replica(context: RunContext, state: JobState) -> tuple[ReplicaState, Shape]:
    """The replica, created where there is none, in the shape of its source."""
    shape = shape_of(
        context.job, state.source, replicated_disks(context.job, state.source), state.replica
    )
    if state.replica is None:
        return _create_replica(context, state.source), shape
    if not shape.changed:
        return state.replica, shape
    return reshape(context, state.source, state.replica, shape)


def _create_replica(context: RunContext, source: VmInfo) -> ReplicaState:
    job, destination = context.job, context.sites.destination
    context.step("create", f"creating replica {job.placement.name} on {job.placement.datastore}")
    ref = destination.create_replica(replica_spec(job, source, context.run_id))
    made = read_replica(destination, job, ref)
    remember(job, replica=made.vm)
    return made


# -- the copy, and the commit -----------------------------------------------------------------


def _copy(
    context: RunContext, prepared: PreparedRun, plan: Plan, pause: PauseWatch
) -> list[DiskCopy]:
    tasks = disk_tasks(context, prepared, plan)
    check_space(context, prepared.replica.vm, tasks)
    context.step("copy", f"copying {len(tasks)} disk{'s' * (len(tasks) > 1)}")
    replica = prepared.replica
    context.sites.destination.set_extra_config(replica.vm.ref, {LEAF_KEY: context.run_id})
    if context.failover_run is None:
        record_of(context, prepared, tasks).save(context.job)
        context.disks_written = True
    size = partial(source_bytes, context.sites, prepared.source)
    with pause.measuring(size), context.disks_clock:
        return copy_disks(context, prepared, tasks)


def _commit(context: RunContext, prepared: PreparedRun, copies: list[DiskCopy]) -> RecoveryPoint:
    described = describe(context, prepared, copies)
    for what in described.suspicions:
        context.warn(f"this change looks like mass encryption: {what}")
    for text in clocks_set_back(prepared.replica.points[-1:], described):
        context.warn(text)
    replica = prepared.replica.vm.ref
    context.step("commit", f"making recovery point {context.run_id} of {replica.name}")
    _check_one_moment(context, prepared)
    # From here on a failure is rolled back: the description may be on the replica already.
    context.disks_written = False
    context.fence()
    return commit(context, replica, described)


def _check_one_moment(context: RunContext, prepared: PreparedRun) -> None:
    """Raises SourceSnapshotLost where others removed the snapshot that was read.

    A source that does not answer now is no reason to throw the copy away: the next run resumes it.
    """
    try:
        check_snapshot_stands(context.sites.source, prepared.source.ref, prepared.snapshot.info)
    except SourceSnapshotLost:
        context.disks_written = False
        raise


# -- after the commit -------------------------------------------------------------------------


def _verify(context: RunContext, prepared: PreparedRun, point: RecoveryPoint) -> VerifyReport:
    context.step("verify", f"comparing point {point.id} with the source")
    comparison = Comparison(
        job=context.job,
        sites=context.sites,
        source=prepared.source.ref,
        snapshot=prepared.snapshot.info,
        replica=prepared.replica.vm.ref,
        point=point,
        listener=context.report,
        control=context.control,
    )
    report = compare_point(comparison)
    if not report.equal:
        check_snapshot_stands(context.sites.source, comparison.source, comparison.snapshot)
    return report


def _remove_source_snapshot(context: RunContext, prepared: PreparedRun) -> None:
    source = prepared.source.ref
    context.step("release", f"removing the snapshot of {source.name}")
    try:
        context.sites.source.remove_snapshot(source, prepared.snapshot.info.moref)
    except VReplicaError as error:
        context.warn(f"the next run removes the snapshot of {source.name}: {error}")


# -- when it fails ----------------------------------------------------------------------------


@contextmanager
def rolled_back_on_failure(context: RunContext, source: VmInfo) -> Iterator[None]:
    """Rolls both sides back where the run fails inside, adds their state to the error.

    `source`: as it was before this run changed anything.
    """
    try:
        yield
    except BaseException as error:
        # A process that lost the run must not clean up: the new owner does.
        context.fence()
        if isinstance(error, VReplicaError) and _stays_for_next_run(context, error):
            raise
        forget_run(context.job)
        rollback = Rollback(context)
        source_state = rollback.restore_source(source)
        replica_state = rollback.restore_replica()
        if isinstance(error, VReplicaError):
            error.at(vm=source.ref.name, source_state=source_state, replica_state=replica_state)
        raise


def _stays_for_next_run(context: RunContext, error: VReplicaError) -> bool:
    """True where the work of this run is kept, so that the next one resumes it."""
    if not (
        context.disks_written and error.retryable and worth_resuming(context.job, context.run_id)
    ):
        return False
    error.at(
        source_state="our snapshot stays on it, for the next run",
        replica_state="its recovery points are untouched; its disks are in the middle of a run",
        next_run="resumes this one where it broke off",
    )
    return True
