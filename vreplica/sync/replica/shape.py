"""Decides which disks and hardware the replica gets when its source has changed, and why.

    the source's disk                          the replica's disk at that place
    ---------------------------------------------------------------------------------------
    same UUID, same size                       stays
    same UUID, larger                          a copy of the old one, grown        rescan
    UUID that some point still has elsewhere   a copy of that point's disk         rescan
    other UUID, same size                      stays                               rescan
    new                                        a new one                           full
    gone, or left out now                      detached

The replica's disks stand under snapshots, so they cannot be resized, and the content of a point
must stay. So a disk that changes becomes a new disk, and the points before it keep the old one. The
destination's host makes the copy from the point's own files: nothing goes over the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vreplica.points import DiskPoint, RecoveryPoint
from vreplica.points.vm_keys import JOB_KEY, LEAF_KEY, SOURCE_KEY
from vreplica.sync.job import Job
from vreplica.sync.replica.state import ReplicaState, disk_identity, vm_identity
from vreplica.units import KIB, human_size
from vreplica.vsphere.model import ReplicaSpec, VmDisk, VmInfo
from vreplica.vsphere.operations.reshape import differences


@dataclass(frozen=True, slots=True)
class Origin:
    """The disk of a recovery point that a new disk begins with a copy of."""

    point: RecoveryPoint
    disk: DiskPoint
    path: str

    def base(self, key: int) -> str:
        """The point id in the digest map of a copy at `key`; it names a disk of another place."""
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
    """The shape that the replica is to have. Pure: nothing is done yet."""

    disks: tuple[DiskShape, ...]
    gone: tuple[VmDisk, ...]
    """Disks of the replica that the source does not have, or that are left out now."""
    hardware: tuple[str, ...]
    """Differences of the hardware, in words."""

    @property
    def changed(self) -> bool:
        return bool(self.gone or self.hardware or any(d.new for d in self.disks))

    @property
    def grown(self) -> tuple[str, ...]:
        """Labels of the disks that have grown: change tracking is not trusted after that."""
        return tuple(d.disk.label for d in self.disks if d.grown)

    def steps(self) -> Iterable[str]:
        """The steps of a plan, in words."""
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
    """The shape for these disks of the source. Changes nothing."""
    if replica is None:
        return Shape(tuple(DiskShape(d, False) for d in disks), (), ())
    have = {d.key: d for d in replica.disks}
    return Shape(
        tuple(_disk_shape(d, have.get(d.key), replica) for d in disks),
        tuple(m for m in replica.disks if m.key not in {d.key for d in disks}),
        differences(vm, replica.vm, job.placement.networks, job.placement.keep),
    )


def _disk_shape(disk: VmDisk, target: VmDisk | None, replica: ReplicaState) -> DiskShape:
    latest = replica.latest
    base = latest.disk(disk.key) if latest else None
    fits = target is not None and target.capacity_bytes == disk.capacity_bytes
    if fits and (base is None or base.uuid == disk_identity(disk)):
        return DiskShape(disk, False)
    origin = _origin(disk, replica)
    if origin is not None:
        return DiskShape(disk, True, _came_from(disk, base, origin), origin)
    if fits:
        return DiskShape(disk, False)
    if target is None:
        return DiskShape(disk, True, "it is new on the source")
    was = human_size(target.capacity_bytes)
    return DiskShape(disk, True, f"it replaces one of {was}, {human_size(disk.capacity_bytes)} now")


def _origin(disk: VmDisk, replica: ReplicaState) -> Origin | None:
    """The newest point with a disk of this UUID that can be grown to this size."""
    for point in reversed(replica.points):
        snapshot = replica.snapshot_of(point)
        for old in point.disks:
            rest = disk.capacity_bytes - old.capacity_bytes
            usable = rest == 0 or (rest > 0 and disk.capacity_bytes % KIB == 0)
            if old.uuid and old.uuid == disk_identity(disk) and usable:
                for target in snapshot.disks if snapshot else ():
                    if target.key == old.key:
                        return Origin(point, old, target.path)
    return None


def _came_from(disk: VmDisk, base: DiskPoint | None, origin: Origin) -> str:
    if origin.disk.capacity_bytes < disk.capacity_bytes:
        sizes = f"{human_size(origin.disk.capacity_bytes)} to {human_size(disk.capacity_bytes)}"
        return f"it has grown from {sizes}; it begins with a copy of point {origin.point.id}"
    if base is None or base.uuid != origin.disk.uuid:
        return (
            f"it was {origin.disk.label} of point {origin.point.id}, and begins with a copy of it"
        )
    return f"the replica lacks it; it begins with a copy of point {origin.point.id}"


def replica_spec(
    job: Job,
    vm: VmInfo,
    run_id: str,
    without: frozenset[int] = frozenset(),
    claim: Mapping[str, str] | None = None,
) -> ReplicaSpec:
    """The spec of a new replica, for a run or a seed.

    `without`: keys of disks to leave out. `claim`: the entry of the writer that creates it.
    """
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
        extra_config={
            JOB_KEY: job.name,
            SOURCE_KEY: vm_identity(vm),
            LEAF_KEY: run_id,
            **(claim or {}),
        },
        new_vtpm=place.new_vtpm,
        storage_policy=place.storage_policy,
        must_encrypt=not job.allow_plain_replica
        and is_content_encrypted(vm, replicated_disks(job, vm)),
        track_changes=True,
    )


def is_content_encrypted(source: VmInfo, disks: tuple[VmDisk, ...]) -> bool:
    """True where the content of disks is encrypted. A virtual TPM alone encrypts only the home."""
    return any(d.encrypted for d in disks) or (source.encrypted and not source.has_vtpm)


def replicated_disks(job: Job, vm: VmInfo) -> tuple[VmDisk, ...]:
    """The source's disks less those that the job leaves out by name."""
    return tuple(d for d in vm.disks if d.label not in job.exclude_disks)
