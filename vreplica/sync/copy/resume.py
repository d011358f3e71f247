"""Resumes a run that broke off while its disks were written, instead of beginning anew.

    <job>/run.json                 the run: its source snapshot, the level that this reached, how
                                   each disk was copied; written before the first byte
    <job>/disk-N.digests.pending   per disk: digests of what was written, and checkpoints,
                                   each with what was counted up to there

A checkpoint is believed because of its order: the target flushes what was written, then the
digests are synced, then the position is. Work after the last checkpoint is done again. A block
that is written twice gets the same content both times, since the source's snapshot is the same.

A run is resumed only where nothing else can have touched what it had written:

    the source still has that snapshot      the replica's leaf is marked with that run
    its disks are the same files            nobody has powered it on since
    its latest point is the same            the digest maps are of the point it started from

Any other run is rolled back: the replica goes back to its point, the snapshot goes, and a new run
begins. In both cases the recovery points are untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from vreplica.delta.copy.modes import CopyMode
from vreplica.errors import VReplicaError
from vreplica.points import Level
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.pending import FoundPending, pending_path, read_pending
from vreplica.points.vm_keys import LEAF_KEY
from vreplica.sync.copy.task import DiskTask
from vreplica.sync.job import Job
from vreplica.sync.job_dir import map_path
from vreplica.sync.job_state import JobState
from vreplica.sync.prepared_run import PreparedRun
from vreplica.sync.replica.foreign_changes import power_on_since_point
from vreplica.sync.replica.shape import DiskShape, Shape
from vreplica.sync.replica.state import ReplicaState, snapshot_name
from vreplica.sync.run_context import RunContext
from vreplica.sync.run_record import DiskRecord, Resumable, RunRecord, newer_record
from vreplica.sync.source.snapshot import SourceSnapshot


def progress_of(job: Job, run: str, key: int) -> FoundPending | None:
    """The sidecar of a disk, as far as it is of this run; None where it is of another."""
    found = read_pending(pending_path(map_path(job.job_dir, key)))
    return found if found is not None and found.head.point == run else None


def worth_resuming(job: Job, run: str) -> bool:
    """True where any disk of this run has passed a checkpoint."""
    record = RunRecord.load(job)
    if record is None or record.run != run:
        return False
    found = [progress_of(job, run, d.key) for d in record.disks]
    return any(f is not None and (f.sealed or f.position) for f in found)


# -- which run is resumed ---------------------------------------------------------------------


def find_resumable(state: JobState) -> tuple[Resumable | None, str]:
    """The run to resume; or None, with the reason where a run broke off."""
    job, replica = state.job, state.replica
    if (newer := newer_record(job)) is not None:
        return None, newer
    record = RunRecord.load(job)
    if record is None or replica is None:
        return None, ""
    if replica.vm.extra_config.get(LEAF_KEY) != record.run:
        return None, ""
    if not worth_resuming(job, record.run):
        return None, "it had not got far"
    reason = _reason_against(state, replica, record)
    if reason:
        return None, reason
    done_bytes = 0
    for disk in record.disks:
        found = progress_of(job, record.run, disk.key)
        if found is not None:
            done_bytes += disk.capacity_bytes if found.sealed else found.position
    total_bytes = sum(d.capacity_bytes for d in record.disks)
    return Resumable(record, done_bytes, total_bytes), ""


def _reason_against(state: JobState, replica: ReplicaState, record: RunRecord) -> str:
    """The reason why the run is not resumed; empty where it is."""
    job, source = state.job, state.source
    ours = [s.moref for s in source.snapshots if s.name == snapshot_name(job.name)]
    if ours != [record.snapshot]:
        return f"its snapshot of {source.ref.name} is gone"
    if (replica.latest.id if replica.latest else "") != record.latest:
        return "the replica's latest point is another one now"
    if set(record.excluded) != set(job.exclude_disks):
        return "exclude_disks was changed"
    if Level(record.level) < job.require:
        return f"the job requires {job.require} consistency now, it reached {record.level}"
    have = {d.key: d.path for d in replica.vm.disks}
    if any(have.get(d.key) != d.path for d in record.disks):
        return "the replica's disks are other files now"
    if power_on_since_point(state.sites.destination, replica) is not None:
        return "the replica was powered on since"
    for disk in record.disks:
        if disk.mode == CopyMode.FULL.value:
            continue
        # A rescan without its map would make one from a leaf that is between two points.
        try:
            with closing(DigestMap.open(map_path(job.job_dir, disk.key), latest_point=disk.base)):
                pass
        except VReplicaError as error:
            return f"{disk.label}: {error.message}"
    return ""


# -- the run's record, and its sides as they were ---------------------------------------------


def record_of(context: RunContext, prepared: PreparedRun, tasks: Sequence[DiskTask]) -> RunRecord:
    """The record that a run saves before its first byte."""
    replica, snapshot = prepared.replica, prepared.snapshot
    return RunRecord(
        run=context.run_id,
        snapshot=snapshot.info.moref,
        latest=replica.latest.id if replica.latest else "",
        level=snapshot.level.value,
        requested=snapshot.requested.value,
        notes=snapshot.notes,
        excluded=tuple(sorted(context.job.exclude_disks)),
        disks=tuple(_disk_record(task, replica.base) for task in tasks),
        overhead_s=context.overhead_s,
    )


def _disk_record(task: DiskTask, base: str) -> DiskRecord:
    base = task.origin.base(task.source.key) if task.origin else base
    if task.plan.mode is CopyMode.FULL:
        base = ""
    return DiskRecord(
        key=task.source.key,
        label=task.source.label,
        capacity_bytes=task.source.capacity_bytes,
        mode=task.plan.mode.value,
        reason=task.plan.reason,
        base=base if task.resumes is None else task.resumes,
        path=task.target.path,
    )


def prepare_resumed(state: JobState, replica: ReplicaState, resumed: Resumable) -> PreparedRun:
    """Both sides of the run as it had prepared them: its snapshot, and the replica in shape."""
    record = resumed.record
    info = state.sites.source.read_snapshot(state.source.ref, record.snapshot)
    snapshot = SourceSnapshot(info, Level(record.level), Level(record.requested), record.notes)
    keys = {d.key for d in record.disks}
    shape = Shape(tuple(DiskShape(d, False) for d in info.disks if d.key in keys), (), ())
    return PreparedRun(state.source, snapshot, replica, shape, resumed)
