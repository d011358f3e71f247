"""Powers VMs on and off. Each decision uses a fresh read; repeating an operation does no harm.

ShutdownGuest is a request to the guest. It returns at once and has no task: wait for its effect
with `inventory.guest.wait_power`.
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
    """Powers a VM on; does nothing where it is on."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    _change(link, vm, "poweredOn", managed.PowerOnVM_Task, limits)


def off(link: ServerLink, vm: VmRef, limits: WaitLimits) -> None:
    """Powers a VM off hard, as pulling the plug does; does nothing where it is off."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    _change(link, vm, "poweredOff", managed.PowerOffVM_Task, limits)


def _change(
    link: ServerLink, vm: VmRef, wanted: PowerState, method: Callable[..., Any], limits: WaitLimits
) -> None:
    operation = "power-on" if wanted == "poweredOn" else "power-off"
    if power_state(link, vm) == wanted:
        return
    try:
        tasks.run(link, operation, method, vm=vm.name, limits=limits)
    except WrongPowerState:
        # Between the read and the call somebody else may have done it.
        if power_state(link, vm) != wanted:
            raise


def shutdown_guest(link: ServerLink, vm: VmRef) -> None:
    """Asks the guest to shut itself down, and returns at once; nothing where it is off.

    Raises ToolsUnavailable where no Tools run, WrongPowerState where the VM is suspended.
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
