"""Makes a temporary VM on one of a replica's snapshots: a linked clone, off, on no network yet.

    replica   base ── point 1 ── point 2 ── leaf
                         └── clone's own link            what the clone writes goes there only

The clone reads the links up to its snapshot. While it exists, neither that snapshot nor one
before it may be removed: vSphere would merge into, or drop, a link that the clone reads. Only
vCenter clones; a single ESXi host does not have CloneVM_Task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.collector import read, read_one
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.names import escape, unescape

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink


def create_linked_clone(
    link: ServerLink,
    vm: VmRef,
    snapshot: str,
    name: str,
    *,
    extra_config: Mapping[str, str],
    bios_uuid: str | None,
    limits: WaitLimits,
) -> VmRef:
    """Makes the clone in the folder, pool and host of `vm`, off, its network cards disconnected.

    It is never in a vApp, which somebody may start or move as a whole.
    extra_config: set by the same task, so that the clone never exists without it; an empty value
    removes an entry. bios_uuid: guests identify their machine by it; None: a new one.
    """
    operation = f"cloning snapshot {snapshot} as {name!r}"
    managed = link.managed(vim.VirtualMachine, vm.moref)
    folder, pool, host = _place(link, operation, vm)
    frozen = link.managed(vim.vm.Snapshot, snapshot)
    config = read_one(link, operation, frozen, ["config"], vm=vm.name).get("config")
    cards = [d for d in config.hardware.device if isinstance(d, vim.vm.device.VirtualEthernetCard)]
    for card in cards:
        # vCenter makes a new address where none is given.
        card.macAddress = None
        card.connectable = vim.vm.device.VirtualDevice.ConnectInfo(
            startConnected=False, connected=False, allowGuestControl=True
        )
    spec = vim.vm.CloneSpec(
        location=vim.vm.RelocateSpec(
            diskMoveType="createNewChildDiskBacking",
            pool=pool,
            host=host,
        ),
        snapshot=frozen,
        config=vim.vm.ConfigSpec(
            uuid=bios_uuid,
            extraConfig=[vim.option.OptionValue(key=k, value=v) for k, v in extra_config.items()],
            deviceChange=[
                vim.vm.device.VirtualDeviceSpec(device=card, operation="edit") for card in cards
            ],
        ),
        powerOn=False,
        template=False,
    )
    made = tasks.run(
        link,
        operation,
        managed.CloneVM_Task,
        folder,
        escape(name),
        spec,
        vm=vm.name,
        limits=limits,
    )
    return VmRef(moref(made), unescape(name))


def _place(link: ServerLink, operation: str, vm: VmRef) -> tuple[Any, Any, Any]:
    """Returns folder, pool and host of a VM; of one in a vApp, what the vApp is in."""
    up = ((vim.VirtualMachine, "parentVApp"), (vim.VirtualApp, "parent"))
    properties = {
        vim.VirtualMachine: ("parent", "parentVApp", "resourcePool", "runtime.host"),
        vim.VirtualApp: ("parent", "parentFolder"),
    }
    root = link.managed(vim.VirtualMachine, vm.moref)
    found = {f.moref: f for f in read(link, operation, [root], properties, up, vm=vm.name)}
    here = found[vm.moref]
    folder, pool, above = here.get("parent"), here.get("resourcePool"), here.get("parentVApp")
    while folder is None and above is not None and moref(above) in found:
        app = found[moref(above)]
        folder, pool, above = app.get("parentFolder"), app.get("parent"), app.get("parent")
    return folder, pool, here.get("runtime.host")
