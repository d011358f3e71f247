"""A source whose shape changed between two points: what its replica becomes, and why.

    the source's disk                          the replica's disk at that place
    ---------------------------------------------------------------------------------------
    same UUID, same size                       stays
    same UUID, larger                          a copy of the old one, grown        rescan
    UUID that some point still has elsewhere   a copy of that point's disk         rescan
    other UUID, same size                      stays                               rescan
    new                                        a new one                           full
    gone, or left out now                      detached

The replica's disks stand under snapshots, so that they cannot be resized; and what a point holds
must stay. So a disk that changes is a new one, and the points before it keep the old one. The
copy is made by the destination's host from the point's own files: nothing crosses the wire.

Files that a run makes are named in `vreplica.made` on the replica before they exist, and those that
are about to lose their last user in `<job>/unused`, so that a run that ends early, or is killed,
leaves none behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from vreplica.errors import VReplicaError, VSphereError
from vreplica.extents import Extents
from vreplica.files import replace_durably
from vreplica.points import DiskPoint, RecoveryPoint
from vreplica.points.digestmap.carry import carry
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.errors import DigestMapUnusable
from vreplica.points.model import LEAF_KEY
from vreplica.sync.events import Listener, Step, Warn
from vreplica.sync.job import Job
from vreplica.sync.replica.state import (
    JOB_KEY,
    SOURCE_KEY,
    ReplicaState,
    disk_identity,
    identity,
    read_replica,
)
from vreplica.units import KIB, human_size
from vreplica.vsphere.model import NewDisk, ReplicaSpec, ReshapeSpec, VmDisk, VmInfo
from vreplica.vsphere.operations.reshape import differences
from vreplica.vsphere.session import Session

MADE_KEY = "vreplica.made"
"""Paths of the disk files that the run in `vreplica.leaf` has made, as JSON."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A disk of a recovery point that has what a new disk is to begin with."""

    point: RecoveryPoint
    disk: DiskPoint
    path: str

    def base(self, key: int) -> str:
        """What the map of a copy at `key` is of: that point, or its disk of another place."""
        if key == self.disk.key:
            return self.point.id
        return f"{self.point.id} disk {self.disk.key}"


@dataclass(frozen=True, slots=True)
class DiskShape:
    """One disk of the source. `new`: the replica gets another disk, a copy of `origin` or empty."""

    disk: VmDisk
    new: bool
    reason: str = ""
    origin: Origin | None = None

    @property
    def grown(self) -> bool:
        """The same disk, larger than at the latest point."""
        return (
            self.origin is not None and self.origin.disk.capacity_bytes < self.disk.capacity_bytes
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """`gone`: disks of the replica that nothing on the source stands for any more."""

    disks: tuple[DiskShape, ...]
    gone: tuple[VmDisk, ...]
    hardware: tuple[str, ...]

    def of(self, key: int) -> DiskShape:
        return next(d for d in self.disks if d.disk.key == key)

    @property
    def changed(self) -> bool:
        return bool(self.gone or self.hardware or any(d.new for d in self.disks))

    @property
    def grown(self) -> tuple[str, ...]:
        """Labels of the disks after whose growth change tracking is not to be trusted."""
        return tuple(d.disk.label for d in self.disks if d.grown)

    def steps(self) -> Iterable[str]:
        """What a plan says."""
        for d in self.disks:
            if d.new:
                yield f"give the replica another {d.disk.label}: {d.reason}"
        for disk in self.gone:
            yield (
                f"detach the replica's {disk.label}: the source does not have it, or it is left "
                "out; earlier points keep it"
            )
        for text in self.hardware:
            yield f"change the replica's hardware: {text}"


def shape_of(
    job: Job, vm: VmInfo, disks: tuple[VmDisk, ...], replica: ReplicaState | None
) -> Shape:
    """What `reshape` would do for these disks of the source; decides only."""
    if replica is None:
        return Shape(tuple(DiskShape(d, False) for d in disks), (), ())
    have = {d.key: d for d in replica.disks}
    return Shape(
        tuple(_disk_shape(d, have.get(d.key), replica) for d in disks),
        tuple(m for m in replica.disks if m.key not in {d.key for d in disks}),
        differences(vm, replica.vm, job.placement.networks, job.placement.keep),
    )


def _disk_shape(disk: VmDisk, mirror: VmDisk | None, replica: ReplicaState) -> DiskShape:
    latest = replica.latest
    base = latest.disk(disk.key) if latest else None
    fits = mirror is not None and mirror.capacity_bytes == disk.capacity_bytes
    if fits and (base is None or base.uuid == disk_identity(disk)):
        return DiskShape(disk, False)
    origin = _origin(disk, replica)
    if origin is not None:
        return DiskShape(disk, True, _came_from(disk, base, origin), origin)
    if fits:
        return DiskShape(disk, False)
    if mirror is None:
        return DiskShape(disk, True, "it is new on the source")
    was = human_size(mirror.capacity_bytes)
    return DiskShape(disk, True, f"it replaces one of {was}, {human_size(disk.capacity_bytes)} now")


def _origin(disk: VmDisk, replica: ReplicaState) -> Origin | None:
    """The newest point with a disk of this UUID that can be grown to this size."""
    for point in reversed(replica.points):
        frozen = replica.frozen(point)
        for old in point.disks:
            rest = disk.capacity_bytes - old.capacity_bytes
            usable = rest == 0 or (rest > 0 and disk.capacity_bytes % KIB == 0)
            if old.uuid and old.uuid == disk_identity(disk) and usable:
                for mirror in frozen.disks if frozen else ():
                    if mirror.key == old.key:
                        return Origin(point, old, mirror.path)
    return None


def _came_from(disk: VmDisk, base: DiskPoint | None, origin: Origin) -> str:
    if origin.disk.capacity_bytes < disk.capacity_bytes:
        sizes = f"{human_size(origin.disk.capacity_bytes)} to {human_size(disk.capacity_bytes)}"
        return f"it has grown from {sizes}; begun with a copy of point {origin.point.id}"
    if base is None or base.uuid != origin.disk.uuid:
        return (
            f"it was {origin.disk.label} of point {origin.point.id}, and begins with a copy of it"
        )
    return f"the replica lacks it; begun with a copy of point {origin.point.id}"


def replica_spec(
    job: Job, vm: VmInfo, run_id: str, without: frozenset[int] = frozenset()
) -> ReplicaSpec:
    """What a new replica is made as, by a run or for a seed. `without`: keys of disks left out."""
    place = job.placement
    return ReplicaSpec(
        source=vm,
        name=place.name,
        datastore=place.datastore,
        host=place.host,
        resource_pool=place.resource_pool,
        folder=place.folder,
        networks=dict(place.networks),
        keep=place.keep,
        exclude_disks=without | {d.key for d in vm.disks if d.label in job.exclude_disks},
        extra_config={JOB_KEY: job.name, SOURCE_KEY: identity(vm), LEAF_KEY: run_id},
        track_changes=True,
    )


# -- doing it -------------------------------------------------------------------------------


def reshape(
    job: Job,
    session: Session,
    vm: VmInfo,
    replica: ReplicaState,
    shape: Shape,
    run_id: str,
    listener: Listener,
) -> tuple[ReplicaState, Shape]:
    """Bring the replica into shape, before its next point. Returns it, and what was done.

    A copy that the destination refuses becomes an empty disk and a full copy, and that is said.
    The leaf is marked first: whatever fails, the next run takes the replica back.
    """
    ref, folder = replica.vm.ref, replica.vm.vmx_path.rpartition("/")[0]
    paths = {d.disk.key: f"{folder}/{run_id}-{d.disk.key}.vmdk" for d in shape.disks if d.new}
    session.set_extra_config(
        ref, {LEAF_KEY: run_id, MADE_KEY: json.dumps(sorted(paths.values())) if paths else ""}
    )
    done, attach = [], []
    for disk in shape.disks:
        if disk.new:
            listener(Step("shape", f"replica's {disk.disk.label}: {disk.reason}"))
            disk = _begun(session, replica, disk, paths[disk.disk.key], listener)
            exists = disk.origin is not None
            attach.append(NewDisk(disk.disk, paths[disk.disk.key], exists))
        done.append(disk)
    for text in (*(f"{d.label} is detached" for d in shape.gone), *shape.hardware):
        listener(Step("shape", f"replica: {text}"))
    if any(text.startswith("virtual hardware") for text in shape.hardware):
        try:
            session.upgrade_hardware(ref, vm)
        except VSphereError as error:
            listener(Warn(f"the replica keeps its virtual hardware version: {error.message}"))
    new = {d.disk.key for d in shape.disks if d.new}
    old = {d.key for d in replica.vm.disks}
    detach = (*(d.key for d in shape.gone), *sorted(new & old))
    place = job.placement
    want = ReshapeSpec(vm, place.networks, place.keep, detach, tuple(attach))
    if not replica.points:
        remember_unused(job, base_files(d for d in replica.vm.disks if d.key in detach))
    session.reshape_replica(ref, want)
    made = read_replica(session, job, ref)
    if not made.points:
        delete_unused(job, session, made, listener)
    return made, Shape(tuple(done), shape.gone, shape.hardware)


def _begun(
    session: Session, replica: ReplicaState, disk: DiskShape, path: str, listener: Listener
) -> DiskShape:
    """The file that a disk begins with, where it is a copy."""
    origin = disk.origin
    if origin is None:
        return disk
    try:
        session.copy_disk(replica.vm.ref, origin.path, path)
        if disk.grown:
            session.extend_disk(replica.vm.ref, path, disk.disk.capacity_bytes)
    except VSphereError as error:
        listener(Warn(f"{disk.disk.label} is copied in full from the source: {error.message}"))
        session.delete_disk(replica.vm.ref, path)
        return DiskShape(disk.disk, True, disk.reason)
    return disk


def map_path(job_dir: Path, key: int) -> Path:
    """The digest map of the replica's disk with this key."""
    return job_dir / f"disk-{key}.digests"


def bring_maps(job_dir: Path, origins: Mapping[int, Origin]) -> None:
    """Let the map of each of these keys, a disk that came from another place, be its origin's.

    All are carried before the first is replaced: two disks may have changed places. And each is
    of `Origin.base`, so that nobody takes it for the map of a point's own disk there once this
    run is undone. Where the origin has no map any more there is none of that name.
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
        path.with_name(path.name + ".pending").unlink(missing_ok=True)
        fresh.replace(path)


# -- files that nobody needs any more -------------------------------------------------------


def made_by_run(replica: ReplicaState) -> tuple[str, ...]:
    """Files that the run which marked the leaf was making. Read before a revert forgets it."""
    try:
        return tuple(json.loads(replica.vm.extra_config.get(MADE_KEY) or "[]"))
    except ValueError:
        return ()


def base_files(disks: Iterable[VmDisk]) -> set[str]:
    """The lowest links of these disks: what stays when the last snapshot of a disk is gone."""
    return {d.parents[-1] if d.parents else d.path for d in disks}


def remember_unused(job: Job, paths: Iterable[str]) -> None:
    """What is about to lose its last user; kept until `delete_unused` has seen to it."""
    if wanted := {*unused(job), *paths}:
        _keep_unused(job, wanted)


def delete_unused(job: Job, session: Session, replica: ReplicaState, listener: Listener) -> None:
    """Delete remembered disk files in the replica's folder that neither it nor a snapshot has.

    Those that cannot be deleted now are remembered on.
    """
    paths = unused(job)
    if not paths:
        return
    snapshots = session.read_snapshots(replica.vm.ref)
    disks = [*replica.vm.disks, *(d for s in snapshots for d in s.disks)]
    used = {path for d in disks for path in (d.path, *d.parents)}
    folder = replica.vm.vmx_path.rpartition("/")[0] + "/"
    left = []
    for path in paths:
        if path in used or not path.startswith(folder):
            continue
        try:
            if session.delete_disk(replica.vm.ref, path):
                listener(Step("tidy", f"deleted {path}, which no recovery point needs"))
        except VReplicaError as error:
            left.append(path)
            text = f"{path} is not needed any more and could not be deleted"
            listener(Warn(f"{text}; the next run tries again: {error.message}"))
    _keep_unused(job, left)


def unused(job: Job) -> list[str]:
    """Paths that were remembered."""
    try:
        return (job.job_dir / "unused").read_text().splitlines()
    except FileNotFoundError:
        return []


def _keep_unused(job: Job, paths: Iterable[str]) -> None:
    path = job.job_dir / "unused"
    lines = sorted(paths)
    if not lines:
        path.unlink(missing_ok=True)
        return
    replace_durably(path, "".join(f"{line}\n" for line in lines))
