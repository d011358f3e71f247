"""Makes the VM of a test failover from full copies, where the host cannot clone.

    VM without disks, marked  ->  paths in `vreplica.made`  ->  a copy of each frozen disk by the
    host itself, beside the VM  ->  attached, at the places at which the point has them

The copies need nothing of the replica. They take the space of its content, and the time to copy it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from vreplica.failover.testing.errors import NoRoomForTest
from vreplica.points import RecoveryPoint
from vreplica.points.vm_keys import MADE_KEY
from vreplica.sync.plan.space import MARGIN
from vreplica.sync.replica.state import ReplicaState
from vreplica.units import human_size
from vreplica.vsphere.model import NewDisk, ReplicaSpec, ReshapeSpec, VmInfo, VmRef
from vreplica.vsphere.session import Session

Do = Callable[[str, Callable[[], Any]], Any]


def check_room(session: Session, replica: ReplicaState, point: RecoveryPoint) -> None:
    """Raises NoRoomForTest where the copies may not fit beside the replica."""
    name = replica.vm.home_datastore
    moref = replica.vm.datastore_morefs.get(name)
    sizes = [
        min(d.capacity_bytes, d.stats.allocated_bytes) if d.stats else d.capacity_bytes
        for d in point.disks
    ]
    needed = sum(sizes) + MARGIN
    for store in session.datastores():
        if store.moref == moref and store.free_bytes < needed:
            free = human_size(store.free_bytes)
            raise NoRoomForTest(datastore=name, free=free, needed=human_size(needed))


def empty_vm_spec(
    frozen: VmInfo, name: str, network: str | None, extra_config: dict[str, str]
) -> ReplicaSpec:
    """The spec of a VM with the point's hardware and without disks; its cards are disconnected."""
    cards = {nic.network or "": network for nic in frozen.nics} if network is not None else {}
    return ReplicaSpec(
        name=name,
        source=frozen,
        datastore=frozen.datastore_morefs.get(frozen.home_datastore, frozen.home_datastore),
        host=frozen.host,
        networks=cards,
        extra_config=extra_config,
        exclude_disks=frozenset(d.key for d in frozen.disks),
        network_optional=True,
    )


def copy_disks(session: Session, vm: VmRef, frozen: VmInfo, id_: str, do: Do) -> None:
    """Copies the frozen disks and attaches the copies.

    The VM is marked first with the files that will be made, so that they are found after a crash.
    """
    made = session.read_vm(vm)
    folder = made.vmx_path.rpartition("/")[0]
    disks = [NewDisk(d, f"{folder}/{id_}-{d.key}.vmdk", exists=True) for d in frozen.disks]
    session.set_extra_config(vm, {MADE_KEY: json.dumps([d.path for d in disks])})
    for disk in disks:
        do(f"copy {disk.like.path}", partial(session.copy_disk, vm, disk.like.path, disk.path))
    do(
        "attach the copies",
        lambda: session.reshape_replica(vm, ReshapeSpec(made, attach=tuple(disks))),
    )
