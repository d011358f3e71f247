"""Going on with a run that broke off in the middle of its disks, instead of beginning again.

    <job>/run.json                 the run: its source snapshot, the level that this reached, how
                                   each disk was being brought over; written before the first byte
    <job>/disk-N.digests.pending   per disk: digests of what was written, and checkpoints,
                                   each with what was counted up to there

A checkpoint is believed because of its order: the target flushes what was written, then the
digests are synced, then the position is. What came after the last one is done again; a block
that is written twice gets the same content both times, since the source's snapshot is the same.

A run is resumed only where nothing else can have touched what it had written:

    the source still has that snapshot      the replica's leaf is marked with that run
    its disks are the same files            nobody has powered it on since
    its latest point is the same            the digest maps are of the point it started from

Anything else is mended as a run that is not worth going on with: the replica goes back to its
point, the snapshot goes, and a new run begins. In both cases its points are untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from vreplica.delta.copy.modes import CopyMode
from vreplica.errors import VReplicaError
from vreplica.points import Level
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.pending import FoundPending, read_pending
from vreplica.points.vm_keys import LEAF_KEY
from vreplica.sync.copy.task import DiskTask
from vreplica.sync.job import Job
from vreplica.sync.job_dir import map_path
from vreplica.sync.replica.foreign_changes import power_on_since_point
from vreplica.sync.replica.shape import DiskShape, Shape
from vreplica.sync.replica.state import ReplicaState, snapshot_name
from vreplica.sync.run_record import DiskRecord, Resumable, RunRecord, newer_record
from vreplica.sync.source.snapshot import Frozen
from vreplica.vsphere.model import VmDisk, VmInfo
from vreplica.vsphere.session import Session

if TYPE_CHECKING:
    from vreplica.sync.copy.task import DiskTask


def progress_of(job: Job, run: str, key: int) -> FoundPending | None:
    """What the sidecar of a disk holds of this run."""
    path = map_path(job.job_dir, key)
    found = read_pending(path.with_name(path.name + ".pending"))
    return found if found is not None and found.head.point == run else None


def worth_resuming(job: Job, run: str) -> bool:
    """Has any disk of this run got past a checkpoint?"""
    record = RunRecord.load(job)
    if record is None or record.run != run:
        return False
    found = [progress_of(job, run, d.key) for d in record.disks]
    return any(f is not None and (f.sealed or f.position) for f in found)


def find(
    job: Job, destination: Session, vm: VmInfo, replica: ReplicaState | None
) -> tuple[Resumable | None, str]:
    """The run to go on with; or None, with the reason where there was one to think of."""
    if (newer := newer_record(job)) is not None:
        return None, newer
    record = RunRecord.load(job)
    if record is None or replica is None:
        return None, ""
    if replica.vm.extra_config.get(LEAF_KEY) != record.run:
        return None, ""
    if not worth_resuming(job, record.run):
        return None, "it had not got far"
    reason = _obstacle(job, destination, vm, replica, record)
    if reason:
        return None, reason
    done = 0
    for disk in record.disks:
        found = progress_of(job, record.run, disk.key)
        if found is not None:
            done += disk.capacity_bytes if found.sealed else found.position
    total = sum(d.capacity_bytes for d in record.disks)
    return Resumable(record, done, total), ""


def _obstacle(
    job: Job, destination: Session, vm: VmInfo, replica: ReplicaState, record: RunRecord
) -> str:
    ours = [s.moref for s in vm.snapshots if s.name == snapshot_name(job.name)]
    if ours != [record.snapshot]:
        return f"its snapshot of {vm.ref.name} is gone"
    if (replica.latest.id if replica.latest else "") != record.latest:
        return "the replica's latest point is another one now"
    if set(record.excluded) != set(job.exclude_disks):
        return "exclude_disks was changed"
    if Level(record.level) < job.require:
        return f"the job requires {job.require} consistency now, it reached {record.level}"
    have = {d.key: d.path for d in replica.vm.disks}
    if any(have.get(d.key) != d.path for d in record.disks):
        return "the replica's disks are other files now"
    if power_on_since_point(destination, replica) is not None:
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


# -- the run that is gone on with -----------------------------------------------------------


def record_of(
    job: Job,
    run: str,
    replica: ReplicaState,
    frozen: Frozen,
    tasks: Sequence[DiskTask],
    overhead_s: float,
) -> RunRecord:
    """What a run saves before its first byte."""
    latest = replica.latest.id if replica.latest else ""
    return RunRecord(
        run=run,
        snapshot=frozen.snapshot.moref,
        latest=latest,
        level=frozen.level.value,
        requested=frozen.requested.value,
        notes=frozen.notes,
        excluded=tuple(sorted(job.exclude_disks)),
        disks=tuple(_record(task, replica.base) for task in tasks),
        overhead_s=overhead_s,
    )


def _record(task: DiskTask, base: str) -> DiskRecord:
    base = task.origin.base(task.source.key) if task.origin else base
    if task.settled.mode is CopyMode.FULL:
        base = ""
    return DiskRecord(
        key=task.source.key,
        label=task.source.label,
        capacity_bytes=task.source.capacity_bytes,
        mode=task.settled.mode.value,
        reason=task.settled.reason,
        base=base if task.resumes is None else task.resumes,
        path=task.target.path,
    )


def frozen_of(source: Session, vm: VmInfo, record: RunRecord) -> Frozen:
    """The snapshot that the run had taken, and what it is worth."""
    snapshot = source.read_snapshot(vm.ref, record.snapshot)
    return Frozen(snapshot, Level(record.level), Level(record.requested), record.notes)


def shape_as_is(disks: Sequence[VmDisk], resumed: Resumable) -> Shape:
    """The run's disks; the replica was brought into shape before it broke off."""
    keys = {d.key for d in resumed.record.disks}
    return Shape(tuple(DiskShape(d, False) for d in disks if d.key in keys), (), ())
