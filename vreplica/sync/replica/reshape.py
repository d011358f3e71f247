"""Brings the replica into the shape of its source, before its next point."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from vreplica.errors import VSphereError
from vreplica.extents import Extents
from vreplica.points.digestmap.carry import carry
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.errors import DigestMapUnusable
from vreplica.points.vm_keys import LEAF_KEY, MADE_KEY
from vreplica.sync.events import Listener, Step, Warn
from vreplica.sync.job import Job
from vreplica.sync.job_dir import map_path
from vreplica.sync.replica.orphan_files import base_files, delete_unused, remember_unused
from vreplica.sync.replica.shape import DiskShape, Origin, Shape
from vreplica.sync.replica.state import ReplicaState, read_replica
from vreplica.vsphere.model import NewDisk, ReshapeSpec, VmInfo
from vreplica.vsphere.session import Session


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
