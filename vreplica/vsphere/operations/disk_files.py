"""Copies, grows and deletes disk files of datastores, by the hosts themselves.

No byte of a copy passes through this machine: the host reads the whole chain below the source
file and writes one base disk (vSphere API, VirtualDiskManager).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vreplica.units import KIB
from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.errors import PlacementAmbiguous, PlacementNotFound
from vreplica.vsphere.inventory.tree import datacenter_of, read_places
from vreplica.vsphere.model import VmRef, datastore_of
from vreplica.vsphere.names import same_name

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink


def copy(link: ServerLink, vm: VmRef, source: str, target: str, limits: WaitLimits) -> None:
    """Makes a base disk `target` with the content of `source` and the links below it.

    Both are `[datastore] folder/name.vmdk`. The format stays: vCenter does not take another one.
    """
    tasks.run(
        link,
        f"copying {source} to {target}",
        link.content.virtualDiskManager.CopyVirtualDisk_Task,
        source,
        _datacenter(link, vm, source),
        target,
        _datacenter(link, vm, target),
        None,
        False,
        vm=vm.name,
        limits=limits,
    )


def extend(link: ServerLink, vm: VmRef, path: str, capacity_bytes: int, limits: WaitLimits) -> None:
    """Grows a base disk that no VM has. `capacity_bytes`: whole KiB."""
    if capacity_bytes % KIB:
        raise ValueError(f"{capacity_bytes} bytes are not whole KiB")
    tasks.run(
        link,
        f"growing {path}",
        link.content.virtualDiskManager.ExtendVirtualDisk_Task,
        path,
        _datacenter(link, vm, path),
        capacity_bytes // KIB,
        False,
        vm=vm.name,
        limits=limits,
    )


def delete(link: ServerLink, vm: VmRef, path: str, limits: WaitLimits) -> bool:
    """Deletes a disk's files; False where there are none."""
    unmapped = (vim.fault.FileNotFound,)
    try:
        tasks.run(
            link,
            f"deleting {path}",
            link.content.virtualDiskManager.DeleteVirtualDisk_Task,
            path,
            _datacenter(link, vm, path),
            vm=vm.name,
            limits=limits,
            unmapped=unmapped,
        )
    except unmapped:
        return False
    return True


def _datacenter(link: ServerLink, vm: VmRef, path: str) -> Any:
    """Finds the datacenter of a path: vCenter finds a datastore by name only within one."""
    name = datastore_of(path)
    tree = read_places(link)
    stores = tree.of_kind(vim.Datastore)
    found = {tree.datacenter(f) for f in stores if same_name(tree.name(f), name)}
    if not found:
        names = tuple(tree.name(f) for f in stores)
        raise PlacementNotFound(link.endpoint.host, "datastore", name, names)
    if len(found) == 1:
        (here,) = found
        return tree.objects[here].managed if here else None
    # Many hosts have a "datastore1". The one in the VM's datacenter is meant.
    own = datacenter_of(link, vm)
    if own is None or own[0] not in found:
        paths = sorted(tree.path(tree.objects[f]) for f in found if f)
        raise PlacementAmbiguous(link.endpoint.host, f"datastore called {name}", tuple(paths))
    return tree.objects[own[0]].managed
