"""Chooses the digest map that a copy works with, and keeps it with the replica's points.

    before the copy     the map of the replica's latest point: opened, grown, moved or rebuilt
    during the copy     digests of what is written go to a sidecar beside the map
    after the commit    apply_digests() folds the sidecar into the map

A map that is lost costs time, never data.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from vreplica.points.digestmap.pending import PendingDigests, pending_path
from vreplica.points.digestmap.rebuild import rebuild
from vreplica.sync.copy.resume import progress_of
from vreplica.sync.copy.task import DiskTask
from vreplica.sync.job_dir import map_path
from vreplica.sync.prepared_run import PreparedRun
from vreplica.sync.replica.foreign_changes import need_untouched_seed
from vreplica.sync.replica.shape import Origin
from vreplica.sync.run_context import RunContext


def open_map(
    context: RunContext, prepared: PreparedRun, task: DiskTask, target: Disk
) -> DigestMap | None:
    """The digest map that a copy works with; None where a delta has to do without one."""
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
        return _opened(path, point, capacity, may_grow=task.origin is not None)
    except DigestMapUnusable as error:
        label = task.source.label
        if task.plan.mode is CopyMode.DELTA:
            context.warn(f"{label}: {error.message}; redundant writes are written too")
            return None
        context.step("digest", f"reading the replica's {label}: {error.message}")

    def check_fence(done_bytes: int, total_bytes: int) -> None:
        context.fence()

    return rebuild(
        path, target, hash_blocks, point=point, algorithm=ALGORITHM, progress=check_fence
    )


def _opened(path: Path, point: str, capacity_bytes: int, *, may_grow: bool) -> DigestMap:
    """The map at `path` of this point, grown to the disk's capacity where it `may_grow`."""
    found = DigestMap.open(path, latest_point=point)
    if found.capacity_bytes == capacity_bytes:
        return found
    with closing(found):
        if not may_grow or found.capacity_bytes > capacity_bytes:
            raise DigestMapUnusable(path=str(path), reason="it is of a disk of another size")
        found.grow(capacity_bytes)
    return DigestMap.open(path, latest_point=point)


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
