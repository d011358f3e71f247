"""Runs one replication cycle: from the replica's last recovery point to the next.

    lock -> read both sides -> plan, preflight
         -> claim the replica                    one writer, wherever it runs (sync/claim/)
         -> roll back what a broken run left     source: our snapshot; replica: back to its point
         -> replica in shape, change tracking on
         -> source snapshot (level known)
         -> mark the leaf -> copy every disk -> describe the point -> snapshot the replica
                                                                      `-- this is the commit
         -> digest maps follow -> verify (on request) -> source snapshot off -> retention
         -> give the claim back

A failure before the commit reverts the replica to its last point and removes the source's
snapshot. A kill leaves that to the next run, which finds all it needs on the two sides. After the
commit the point stands, whatever else fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from vreplica.delta.control import Control
from vreplica.errors import VReplicaError
from vreplica.points import RecoveryPoint
from vreplica.points.clock_problems import clocks_set_back
from vreplica.points.model import new_id
from vreplica.points.vm_keys import LEAF_KEY
from vreplica.sync.claim.claim import Claim
from vreplica.sync.claim.held_claim import HeldClaim, new_claim, require_free, take_claim
from vreplica.sync.claim.takeover import wait_until_closed
from vreplica.sync.commit import commit, describe
from vreplica.sync.copy.digest_maps import apply_digests, rebuild_lost_maps
from vreplica.sync.copy.disks import copy_disks
from vreplica.sync.copy.one_disk import DiskCopy
from vreplica.sync.copy.resume import prepare_resumed, record_of, worth_resuming
from vreplica.sync.copy.task import disk_tasks
from vreplica.sync.errors import SourceSnapshotLost
from vreplica.sync.events import Listener, ignore
from vreplica.sync.expired_points import remove_expired
from vreplica.sync.failover_run import FailoverRun
from vreplica.sync.job import Job
from vreplica.sync.job_dir import job_lock
from vreplica.sync.job_state import JobState, read_job_state
from vreplica.sync.job_switch import check_enabled
from vreplica.sync.known_vms import remember, replica_uuid
from vreplica.sync.pause import PauseWatch, source_bytes
from vreplica.sync.plan.plan import make_plan, refuse_problems
from vreplica.sync.plan.space import check_space
from vreplica.sync.prepared_run import PreparedRun
from vreplica.sync.replica import test_vm
from vreplica.sync.replica.reshape import reshape
from vreplica.sync.replica.shape import Shape, replica_spec, replicated_disks, shape_of
from vreplica.sync.replica.state import ReplicaState, read_replica, vm_identity
from vreplica.sync.report import Plan, RunReport, VerifyReport
from vreplica.sync.rollback import Rollback
from vreplica.sync.run_context import Fence, RunContext, never_fenced
from vreplica.sync.run_record import forget_run
from vreplica.sync.sites import Sites, SiteSessions
from vreplica.sync.source.cbt import track_source
from vreplica.sync.source.snapshot import check_snapshot_stands, take_source_snapshot
from vreplica.sync.source.vmotion_lock import storage_vmotion_locked
from vreplica.sync.verify.comparison import Comparison, compare_point
from vreplica.vsphere.errors import AmbiguousVm, ConfigurationChanged, NameTaken
from vreplica.vsphere.model import VmInfo

CLAIM_ATTEMPTS = 5
"""How often both sides are read where others change the replica's configuration in between."""


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
    take_over: bool = False,
) -> RunReport:
    """Replicates once. Ends with a new recovery point, or raises with the replica as it was.

    `listener` gets steps, progress and warnings. `control` cancels, pauses and resumes; a
    cancelled run ends at the next batch and leaves nothing behind. `verify` compares every block
    of the new point with the source's snapshot before that is removed. `run_id`: the id of the
    run and of its point; by default a new one. `fence` is called before every step, read and
    write. It raises where another process has taken the run over; then nothing is rolled back,
    since the new owner does that. `sessions`: those of other jobs of this thread, shared.
    `take_over`: claim the replica also where another writer that has it may be alive. Raises
    JobDisabled, JobBusy, ReplicaClaimed and what the sites and disks raise.
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
                check_owner=fence,
                failover_run=failover_run,
                take_over=take_over,
            )
            try:
                return _run(context, pause, verify=verify)
            finally:
                if failover_run is not None:
                    failover_run.started(
                        sites.source.take_started_tasks(), sites.destination.take_started_tasks()
                    )


def _run(context: RunContext, pause: PauseWatch, *, verify: bool) -> RunReport:
    with given_back(context):
        state, plan = _claim(context)
        return _run_claimed(context, pause, state, plan, verify=verify)


def _run_claimed(
    context: RunContext, pause: PauseWatch, state: JobState, plan: Plan, *, verify: bool
) -> RunReport:
    source = state.source.ref
    with storage_vmotion_locked(context.job, context.sites.source, source, context.report):
        with rolled_back_on_failure(context, state.source):
            if plan.resumes is None:
                state = _roll_back_earlier_run(context, state, plan)
            prepared = _prepare(context, state, plan)
            context.claim.stands_on(prepared.replica.vm)
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
        removed = remove_expired(context, prepared.replica.vm.ref, state.source)
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


def _claim(context: RunContext) -> tuple[JobState, Plan]:
    """Reads both sides, plans, and claims the replica in the state that the plan is for.

    Where the replica was changed in between, all of it is done again.
    """
    for _ in range(CLAIM_ATTEMPTS - 1):
        # NameTaken: another writer has created the replica since it was looked for.
        with suppress(ConfigurationChanged, NameTaken):
            return _read_and_claim(context)
    return _read_and_claim(context)


def _read_and_claim(context: RunContext) -> tuple[JobState, Plan]:
    state, plan = _read_and_plan(context)
    if state.replica is None:
        replica = _create_replica(context, state.source)
        return state.with_sides(state.source, replica), plan
    claimant = context.claimant
    if plan.resumes is not None:
        # The point will have the id of the run that is resumed.
        claimant = replace(claimant, run=plan.resumes.record.run)
    # The mark is the same call. A replica that is taken over, or taken back to its point, gets it
    # later: where the takeover fails, its owner goes on.
    free = Claim.of(state.replica.vm.extra_config) is None
    marks = free and plan.resumes is None and state.replica.clean and not plan.foreign_changes
    taken = take_claim(
        context.sites.destination,
        state.replica.vm,
        claimant,
        {**context.marks, **({LEAF_KEY: context.run_id} if marks else {})},
    )
    if plan.resumes is not None:
        context.resume(plan.resumes)
    context.replica = vm_identity(state.replica.vm)
    context.held, context.leaf_marked = taken.held, marks or plan.resumes is not None
    if taken.before is not None:
        context.warn(taken.text)
        context.recovered.append(taken.text)
        wait_until_closed(context.job, context.sites.destination, state.replica.vm, taken)
    return state, plan


def _read_and_plan(context: RunContext) -> tuple[JobState, Plan]:
    """Reads both sides. Raises ReplicaClaimed, and PreflightFailed for all else in the way."""
    job = context.job
    context.step("read", "reading both sides")
    with context.sites.one_look():
        state = read_job_state(job, context.sites)
        # Networks that the job names by path are named by moref from here on.
        context.job = job = state.job
        if state.replica is not None:
            require_free(context.sites.destination, state.replica.vm, context.claimant)
        plan = make_plan(state, context.known_level, may_resume=context.failover_run is None)
    refuse_problems(plan)
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
        replica = rollback.remove_leftovers(rollback.consolidate_replica(replica))
    for text in plan.foreign_changes:
        context.warn(f"what others changed on replica {job.placement.name} is discarded: {text}")
    # A mark of this run's own, on a replica that it has just created, is no earlier run's.
    left_between = replica is not None and not replica.clean and not context.leaf_marked
    if replica is not None and (plan.foreign_changes or left_between):
        context.replica_changed = True
        if plan.replica_exists:
            replica = rollback.revert_to_latest_point(replica)
    if replica is not None and (left := test_vm.remove_left(context.sites.destination, job)):
        context.recovered.append(f"removed test VM {left}, whose process is gone")
    return state.with_sides(source, replica)


def _prepare(context: RunContext, state: JobState, plan: Plan) -> PreparedRun:
    """Brings the replica into shape, switches tracking on and takes the source's snapshot."""
    assert state.replica is not None, "it was claimed"
    if plan.resumes is not None:
        context.replica_changed = True
        context.source_snapshot = plan.resumes.record.snapshot
        context.step("resume", f"resuming {plan.resumes.text}")
        return prepare_resumed(state, state.replica, plan.resumes)
    replica, shape = _shaped_replica(context, state, state.replica)
    source = track_source(context, state.source, shape)
    context.check_cancelled()
    context.step("snapshot", f"taking a snapshot of {source.ref.name}")
    snapshot = take_source_snapshot(context, source)
    context.source_snapshot = snapshot.info.moref
    return PreparedRun(source, snapshot, replica, shape)


def _shaped_replica(
    context: RunContext, state: JobState, replica: ReplicaState
) -> tuple[ReplicaState, Shape]:
    """The replica in the shape of its source."""
    job, source = context.job, state.source
    shape = shape_of(job, source, replicated_disks(job, source), replica)
    if not shape.changed:
        return replica, shape
    return reshape(context, source, replica, shape)


def _create_replica(context: RunContext, source: VmInfo) -> ReplicaState:
    """Creates the replica with the claim in it. Of two that are made at once this one goes."""
    job, destination = context.job, context.sites.destination
    context.replica_before = replica_uuid(job)
    context.step("create", f"creating replica {job.placement.name} on {job.placement.datastore}")
    claim = new_claim(destination, context.claimant)
    ref = destination.create_replica(
        replica_spec(job, source, context.run_id, claim={**claim.option, **context.marks})
    )
    context.held = HeldClaim(destination, ref, job.name, claim).keep()
    context.leaf_marked = context.replica_changed = True
    try:
        found = destination.find_vm(job.placement.name)
    except AmbiguousVm:
        destination.destroy_vm(ref)
        context.forget_claim()
        raise
    made = read_replica(destination, job, found)
    context.replica = vm_identity(made.vm)
    remember(job, replica=made.vm)
    return made


# -- the copy, and the commit -----------------------------------------------------------------


def _copy(
    context: RunContext, prepared: PreparedRun, plan: Plan, pause: PauseWatch
) -> list[DiskCopy]:
    tasks = disk_tasks(context, prepared, plan)
    check_space(context, prepared.replica.vm, tasks)
    context.step("copy", f"copying {len(tasks)} disk{'s' * (len(tasks) > 1)}")
    context.replica_changed = True
    if not context.leaf_marked:
        context.claim.write({LEAF_KEY: context.run_id})
        context.leaf_marked = True
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


# -- at the end -------------------------------------------------------------------------------


@contextmanager
def given_back(context: RunContext) -> Iterator[None]:
    """Gives the claim back at the end of a run, however it ends.

    A failover keeps its claim until it has ended. Where the site does not answer the claim stays:
    it ends by itself (sync/claim/claim.py).
    """
    try:
        yield
    finally:
        held, unwritten = context.held, context.leaf_marked and not context.replica_changed
        if held is not None and context.failover_run is not None:
            held.forget()
        elif held is not None:
            try:
                held.release({LEAF_KEY: ""} if unwritten else {})
            except VReplicaError as error:
                context.warn(f"replica {held.vm.name} stays claimed for a while: {error.message}")


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
        context.check_owner()
        if (lost := context.lost_claim()) is not None:
            # Whatever else went wrong then came from there.
            raise lost.at(
                vm=source.ref.name,
                source_state=Rollback(context).leave_to_new_owner(source),
                replica_state="in the hands of its new owner; its recovery points are untouched",
            ) from error
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
