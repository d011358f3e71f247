"""Brings the replica into the shape of its source, before its next point.

The leaf is marked first: whatever fails later, the next run takes the replica back.
"""

from __future__ import annotations

import json

from vreplica.errors import VSphereError
from vreplica.points.vm_keys import LEAF_KEY, MADE_KEY
from vreplica.sync.replica.orphan_files import base_files, delete_unused, remember_unused
from vreplica.sync.replica.shape import DiskShape, Shape
from vreplica.sync.replica.state import ReplicaState, read_replica
from vreplica.sync.run_context import RunContext
from vreplica.vsphere.model import NewDisk, ReshapeSpec, VmInfo, VmRef


def reshape(
    context: RunContext, source: VmInfo, replica: ReplicaState, shape: Shape
) -> tuple[ReplicaState, Shape]:
    """Gives the replica the disks and the hardware of `shape`.

    Returns the replica, and the shape that was made: a copy that the destination refuses becomes
    an empty disk, which is then copied in full.
    """
    job, destination, ref = context.job, context.sites.destination, replica.vm.ref
    paths = _new_paths(context, replica, shape)
    made = json.dumps(sorted(paths.values())) if paths else ""
    context.replica_changed = True
    context.claim.write({LEAF_KEY: context.run_id, MADE_KEY: made})
    context.leaf_marked = True
    disks, attach = [], []
    for disk in shape.disks:
        if disk.new:
            path = paths[disk.disk.key]
            context.step("shape", f"replica's {disk.disk.label}: {disk.reason}")
            disk = _copy_origin(context, replica, disk, path)
            attach.append(NewDisk(disk.disk, path, exists=disk.origin is not None))
        disks.append(disk)
    for text in (*(f"{d.label} is detached" for d in shape.gone), *shape.hardware):
        context.step("shape", f"replica: {text}")
    _upgrade_hardware(context, source, ref, shape)
    detach = _detached(replica, shape)
    if not replica.points:
        remember_unused(job, base_files(d for d in replica.vm.disks if d.key in detach))
    place = job.placement
    spec = ReshapeSpec(source, place.networks, place.keep, detach, tuple(attach))
    # A writer that lost the replica meanwhile must not change its disks.
    version = context.claim.check().change_version
    destination.reshape_replica(ref, spec, change_version=version)
    now = read_replica(destination, job, ref)
    if not now.points:
        delete_unused(context, now)
    return now, Shape(tuple(disks), shape.gone, shape.hardware)


def _new_paths(context: RunContext, replica: ReplicaState, shape: Shape) -> dict[int, str]:
    """Key of each new disk -> path of its file, in the replica's folder."""
    folder = replica.vm.vmx_path.rpartition("/")[0]
    return {
        d.disk.key: f"{folder}/{context.run_id}-{d.disk.key}.vmdk" for d in shape.disks if d.new
    }


def _copy_origin(
    context: RunContext, replica: ReplicaState, disk: DiskShape, path: str
) -> DiskShape:
    """Copies the disk that a new one begins with, on the destination's host."""
    destination, ref, origin = context.sites.destination, replica.vm.ref, disk.origin
    if origin is None:
        return disk
    try:
        destination.copy_disk(ref, origin.path, path)
        if disk.grown:
            destination.extend_disk(ref, path, disk.disk.capacity_bytes)
    except VSphereError as error:
        context.warn(f"{disk.disk.label} is copied in full from the source: {error.message}")
        destination.delete_disk(ref, path)
        return DiskShape(disk.disk, True, disk.reason)
    return disk


def _upgrade_hardware(context: RunContext, source: VmInfo, replica: VmRef, shape: Shape) -> None:
    if not any(text.startswith("virtual hardware") for text in shape.hardware):
        return
    try:
        context.sites.destination.upgrade_hardware(replica, source)
    except VSphereError as error:
        context.warn(f"the replica keeps its virtual hardware version: {error.message}")


def _detached(replica: ReplicaState, shape: Shape) -> tuple[int, ...]:
    """Keys of the replica's disks that are detached: gone ones, and those that get replaced."""
    new = {d.disk.key for d in shape.disks if d.new}
    old = {d.key for d in replica.vm.disks}
    return (*(d.key for d in shape.gone), *sorted(new & old))
