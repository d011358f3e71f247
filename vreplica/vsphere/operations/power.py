"""Power: every decision on a fresh read, every operation harmless when repeated.

ShutdownGuest is a request to the guest: it returns at once, has no task, and is not followed by
anything here. Whoever asks for it waits with `wait_power` and decides what a timeout means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.errors import (
    ToolsUnavailable,
    WrongPowerState,
)
from vreplica.vsphere.inventory.guest import power_state, read_guest
from vreplica.vsphere.model import PowerState, VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink


def on(link: ServerLink, vm: VmRef, limits: WaitLimits) -> None:
    """Power on; nothing happens where it is on."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    _bring(link, vm, "poweredOn", "power-on", managed.PowerOnVM_Task, limits)


def off(link: ServerLink, vm: VmRef, limits: WaitLimits) -> None:
    """Power off hard, as pulling the plug; nothing happens where it is off."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    _bring(link, vm, "poweredOff", "power-off", managed.PowerOffVM_Task, limits)


def _bring(
    link: ServerLink,
    vm: VmRef,
    wanted: PowerState,
    operation: str,
    method: Callable[..., Any],
    limits: WaitLimits,
) -> None:
    if power_state(link, vm) == wanted:
        return
    try:
        tasks.run(link, operation, method, vm=vm.name, limits=limits)
    except WrongPowerState:
        # Between the read and the call somebody else may have done it.
        if power_state(link, vm) != wanted:
            raise


def shutdown_guest(link: ServerLink, vm: VmRef) -> None:
    """Ask the guest to shut itself down. Returns at once; nothing happens where it is off.

    Raises ToolsUnavailable when there is nobody to ask, WrongPowerState when suspended.
    """
    operation = "guest shutdown"
    now = read_guest(link, vm)
    if now.power_state == "poweredOff":
        return
    if now.power_state == "suspended":
        raise WrongPowerState(operation, "suspended").at(vm=vm.name)
    if not now.tools_running:
        raise ToolsUnavailable(operation, now.tools_status).at(vm=vm.name)
    managed = link.managed(vim.VirtualMachine, vm.moref)
    try:
        link.call(operation, managed.ShutdownGuest, vm=vm.name, expects_answer=False)
    except WrongPowerState:
        if power_state(link, vm) != "poweredOff":
            raise
