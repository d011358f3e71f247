"""Switches changed block tracking of a VM on and off, and reads back that vCenter did it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.collector import read_one
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.errors import (
    CbtEnableRefused,
    CbtNotActive,
    CbtUnsupported,
)
from vreplica.vsphere.inventory.vm import read_vm
from vreplica.vsphere.model import VmDisk, VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink


def tracking_obstacle(disk: VmDisk) -> str | None:
    """The reason why a disk is in no snapshot or cannot be tracked; None for a disk that can.

    From the VDDK 8.0 Programming Guide ("Changed Block Tracking on Virtual Disks") and KB-320557.
    """
    if disk.mode != "persistent":
        return f"it is {disk.mode.replace('_', ' ')}: snapshots leave it out"
    if disk.sharing not in ("sharingNone", ""):
        return "it is shared by several VMs (multi-writer)"
    if disk.shared_bus != "noSharing":
        return f"its controller shares the bus ({disk.shared_bus})"
    if disk.backing == "rdm-physical":
        return "it is a physical-mode raw device mapping"
    if disk.backing not in ("flat", "sesparse", "sparse", "rdm-virtual"):
        return f"its backing ({disk.backing}) cannot be tracked"
    return None


def enable(link: ServerLink, vm: VmRef, limits: WaitLimits) -> bool:
    """Switches tracking on; False where it was on. It becomes active at the next snapshot.

    Raises CbtEnableRefused while snapshots exist: since vSphere 6.5 vCenter accepts that, and the
    tracking is incomplete without a fault. Raises CbtUnsupported, CbtNotActive.
    """
    now = read_vm(link, vm)
    if now.cbt_enabled:
        return False
    if not now.cbt_supported:
        reason = f"hardware version {now.hw_version or 'unknown'} does not offer it"
        raise CbtUnsupported(reason).at(vm=vm.name)
    if now.snapshots:
        names = ", ".join(s.name for s in now.snapshots)
        raise CbtEnableRefused(names).at(vm=vm.name)
    _set(link, vm, True, limits)
    return True


def disable(link: ServerLink, vm: VmRef, limits: WaitLimits) -> None:
    """Switches tracking off: the first half of a reset (KB-2139574)."""
    _set(link, vm, False, limits)


def _set(link: ServerLink, vm: VmRef, on: bool, limits: WaitLimits) -> None:
    managed = link.managed(vim.VirtualMachine, vm.moref)
    spec = vim.vm.ConfigSpec(changeTrackingEnabled=on)
    operation = f"switching changed block tracking {'on' if on else 'off'}"
    tasks.reconfigure(link, operation, vm, spec, limits)
    entry = read_one(link, operation, managed, ["config.changeTrackingEnabled"], vm=vm.name)
    if bool(entry.get("config.changeTrackingEnabled")) != on:
        reason = f"vCenter agreed to switch it {'on' if on else 'off'}, but did not do it"
        raise CbtNotActive(reason).at(vm=vm.name)
