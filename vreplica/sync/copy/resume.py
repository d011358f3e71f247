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

import json
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vreplica.errors import VReplicaError
from vreplica.files import replace_durably
from vreplica.points import Level
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.pending import FoundPending, read_pending
from vreplica.points.model import LEAF_KEY
from vreplica.sync.job import Job
from vreplica.sync.replica.foreign_changes import power_on_since_point
from vreplica.sync.replica.shape import DiskShape, Shape, map_path
from vreplica.sync.replica.state import ReplicaState, snapshot_name
from vreplica.sync.report import Mode
from vreplica.sync.source.snapshot import Frozen
from vreplica.units import human_size
from vreplica.vsphere.model import VmDisk, VmInfo
from vreplica.vsphere.session import Session

if TYPE_CHECKING:
    from vreplica.sync.copy.disks import DiskTask


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """How one disk was being brought over. `base`: the point that its digest map was of."""

    key: int
    label: str
    capacity_bytes: int
    mode: str
    reason: str
    base: str
    path: str
    """The file of the replica's leaf."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run, as it stood before its first byte. `latest`: the replica's point then, or ""."""

    run: str
    snapshot: str
    latest: str
    level: str
    requested: str
    notes: tuple[str, ...]
    excluded: tuple[str, ...]
    disks: tuple[DiskRecord, ...]
    overhead_s: float = 0.0
    """What had gone by until then."""

    def save(self, job: Job) -> None:
        """Durably, all or nothing."""
        replace_durably(_path(job), json.dumps(asdict(self)))

    @classmethod
    def load(cls, job: Job) -> Self | None:
        """None where there is none, or none that can be read."""
        try:
            value: dict[str, Any] = json.loads(_path(job).read_text())
            disks = tuple(DiskRecord(**d) for d in value.pop("disks"))
            notes, excluded = tuple(value.pop("notes")), tuple(value.pop("excluded"))
            return cls(disks=disks, notes=notes, excluded=excluded, **value)
        except (OSError, ValueError, TypeError, KeyError):
            return None


def forget(job: Job) -> None:
    """There is nothing to resume: the run was committed, or undone."""
    # Where it cannot be deleted: leaf and snapshot are not that run's any more, which is enough.
    with suppress(OSError):
        _path(job).unlink()


def _path(job: Job) -> Path:
    return job.job_dir / "run.json"


@dataclass(frozen=True, slots=True)
class Resumable:
    """A run to go on with. `done_bytes` of `total_bytes`: how far its disks were."""

    record: RunRecord
    done_bytes: int
    total_bytes: int

    @property
    def text(self) -> str:
        done, total = human_size(self.done_bytes), human_size(self.total_bytes)
        return f"run {self.record.run} at {done} of {total}"

    def to_dict(self) -> dict[str, Any]:
        record = {"run": self.record.run, "done_bytes": self.done_bytes}
        return {**record, "total_bytes": self.total_bytes}

    def disk(self, key: int) -> DiskRecord:
        return next(d for d in self.record.disks if d.key == key)


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
        if disk.mode == Mode.FULL.value:
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
    if task.settled.mode is Mode.FULL:
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
