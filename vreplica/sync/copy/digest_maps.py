"""Chooses the digest map that a copy works with, and keeps it with the replica's points.

    before the copy     the map of the replica's latest point: opened, grown, moved or rebuilt
    during the copy     digests of what is written go to a sidecar beside the map
    after the commit    apply_digests() folds the sidecar into the map
    where it is lost    a delta goes without: it writes unchanged rewrites too, and cannot audit
                        change tracking; rebuild_lost_maps() reads the replica after its commit

A map that is lost costs time, never data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

from vreplica.delta.block_hash import ALGORITHM, hash_blocks
from vreplica.delta.copy.modes import CopyMode
from vreplica.disk import Disk
from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.points import RecoveryPoint
from vreplica.points.digestmap.carry import carry
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.errors import DigestMapUnusable
from vreplica.points.digestmap.file import Header
from vreplica.points.digestmap.pending import PendingDigests, pending_path
from vreplica.points.digestmap.rebuild import rebuild
from vreplica.sync.copy.resume import progress_of
from vreplica.sync.copy.task import DiskTask
from vreplica.sync.errors import Cancelled
from vreplica.sync.events import Progress
from vreplica.sync.job import Job
from vreplica.sync.job_dir import map_path
from vreplica.sync.prepared_run import PreparedRun
from vreplica.sync.replica.foreign_changes import need_untouched_seed
from vreplica.sync.replica.shape import Origin
from vreplica.sync.replica.state import find_replica
from vreplica.sync.run_context import RunContext
from vreplica.sync.transport.disks import open_current
from vreplica.units import BLOCK


def map_problem(job: Job, key: int, point: str, capacity_bytes: int) -> str | None:
    """The reason why a disk has no digest map of this point; None where it has. Changes nothing."""
    path = map_path(job.job_dir, key)
    try:
        _check_disk(path, DigestMap.check(path, latest_point=point), capacity_bytes)
    except DigestMapUnusable as error:
        return error.reason
    return None


def open_map(context: RunContext, prepared: PreparedRun, task: DiskTask, target: Disk) -> DigestMap:
    """The digest map that a copy works with. A rescan makes one where there is none.

    Raises DigestMapUnusable where a delta has to do without one.
    """
    path, capacity = map_path(context.job.job_dir, task.source.key), task.source.capacity_bytes
    if task.resumes is not None:
        # A run is resumed only where its maps are good; that of a full copy can be made again.
        with suppress(DigestMapUnusable):
            return DigestMap.open(path, latest_point=task.resumes)
    if task.plan.mode is CopyMode.FULL:
        return DigestMap.create(path, capacity_bytes=capacity, algorithm=ALGORITHM)
    point = prepared.replica.base
    assert point, "only a full copy starts with nothing"
    try:
        if prepared.replica.latest is None:
            need_untouched_seed(context.sites.destination, prepared.replica, path)
        if task.origin is not None:
            point = task.origin.base(task.source.key)
        if task.plan.mode is CopyMode.RESCAN and context.job.rescan:
            raise DigestMapUnusable(path=str(path), reason="a rescan of both sides was asked for")
        return _opened(path, point, capacity, may_grow=task.origin is not None)
    except DigestMapUnusable as error:
        if task.plan.mode is CopyMode.DELTA:
            raise
        label, reason = task.source.label, error.reason
        context.step("digest", f"reading the replica's {label} for its digest map: {reason}")
    progress = _progress_reporter(context, task.source.label)
    return rebuild(path, target, hash_blocks, point=point, algorithm=ALGORITHM, progress=progress)


def _opened(path: Path, point: str, capacity_bytes: int, *, may_grow: bool) -> DigestMap:
    """The map at `path` of this point, grown to the disk's capacity where it `may_grow`."""
    header = DigestMap.check(path, latest_point=point)
    if may_grow and header.capacity < capacity_bytes:
        _check_disk(path, header, header.capacity)
        with closing(DigestMap.open(path, latest_point=point)) as found:
            found.grow(capacity_bytes)
    else:
        _check_disk(path, header, capacity_bytes)
    return DigestMap.open(path, latest_point=point)


def _check_disk(path: Path, header: Header, capacity_bytes: int) -> None:
    """Raises DigestMapUnusable where the map is of other blocks than a copy of this disk has."""
    if header.capacity != capacity_bytes:
        raise DigestMapUnusable(path=str(path), reason="it is of a disk of another size")
    if (header.algorithm, header.block) != (ALGORITHM, BLOCK):
        what = f"{header.algorithm} of blocks of {header.block} bytes"
        raise DigestMapUnusable(path=str(path), reason=f"it holds {what}")


def _progress_reporter(context: RunContext, label: str) -> Callable[[int, int], None]:
    """Reports how much of a replica's disk was read. Pauses, slows down and ends the reading."""
    before = 0

    def report(done_bytes: int, total_bytes: int) -> None:
        nonlocal before
        context.fence()
        if not context.control.admit(done_bytes - before):
            raise Cancelled
        before = done_bytes
        context.report(Progress("digest", label, done_bytes, total_bytes, 0))

    return report


def open_pending(
    context: RunContext, task: DiskTask, digests: DigestMap | None
) -> tuple[PendingDigests | None, int]:
    """The sidecar of this run, and the byte up to which the disk is done already."""
    if digests is None:
        return None, 0
    key = task.source.key
    if task.resumes is not None and progress_of(context.job, context.run_id, key) is not None:
        pending = digests.resume_run()
        if pending is not None:
            return pending, pending.position
    return digests.begin_run(context.run_id), 0


def apply_digests(context: RunContext, maps: Mapping[str, Path], point: RecoveryPoint) -> None:
    """Folds the sidecars of this run into their maps. `maps`: by the disk's label.

    Call it after the commit. A map that cannot be written now is brought up to date by the next
    run.
    """
    for label, path in maps.items():
        try:
            DigestMap.open(path, latest_point=point.id).close()
        except (VReplicaError, OSError) as error:
            context.warn(f"{label}: {error}")


def rebuild_lost_maps(context: RunContext, point: RecoveryPoint, lost: Mapping[int, str]) -> None:
    """Makes the digest maps that deltas of this run had to do without, by reading the replica.

    `lost`: keys and labels of those disks. Call it last: the point exists, the source's snapshot
    is gone, and a failure is a warning. A failover does not wait for it.
    """
    if not lost or context.failover_run is not None:
        return
    job, destination = context.job, context.sites.destination
    try:
        replica = find_replica(destination, job)
        if replica is None or replica.latest != point or not replica.clean:
            raise DigestMapUnusable(
                path=str(job.job_dir), reason=f"the replica does not stand on {point.id} any more"
            )
        for disk in replica.vm.disks:
            if disk.key in lost:
                label, path = lost[disk.key], map_path(job.job_dir, disk.key)
                context.step("digest", f"reading the replica's {label} for its digest map")
                with closing(open_current(job, destination, replica.vm.ref, disk)) as target:
                    rebuild(
                        path,
                        target,
                        hash_blocks,
                        point=point.id,
                        algorithm=ALGORITHM,
                        progress=_progress_reporter(context, label),
                    ).close()
                context.recovered.append(f"rebuilt the digest map of {label} from the replica")
    except (VReplicaError, OSError) as error:
        context.fence()
        why = error.message if isinstance(error, VReplicaError) else str(error)
        context.warn(f"digest maps are not rebuilt: {why}. The next run tries again")


def move_maps(job_dir: Path, origins: Mapping[int, Origin]) -> None:
    """Gives each of these disks, which came from another place, the map of its origin.

    All maps are carried before the first is replaced: two disks may have changed places. Each is
    of `Origin.base`, so that it is not taken for the map of a point's own disk there when this
    run is rolled back. Where the origin has no map, the old one stays and is of another point.
    """
    carried = []
    for key, origin in origins.items():
        path = map_path(job_dir, key)
        fresh = path.with_suffix(".moved")
        with suppress(DigestMapUnusable):
            old = DigestMap.open(map_path(job_dir, origin.disk.key), latest_point=origin.point.id)
            with closing(old):
                carry(old, fresh, point=origin.base(key), unknown=Extents.empty()).close()
            carried.append((fresh, path))
    for fresh, path in carried:
        pending_path(path).unlink(missing_ok=True)
        fresh.replace(path)
