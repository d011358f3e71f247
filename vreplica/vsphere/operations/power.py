"""Power: every decision on a fresh read, every operation harmless when repeated.

ShutdownGuest is a request to the guest: it returns at once, has no task, and is not followed by
anything here. Whoever asks for it waits with `wait_power` and decides what a timeout means.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.collector import read_one
from vreplica.vsphere.connection.link import Link
from vreplica.vsphere.connection.tasks import Waiting
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.errors import (
    HostDisconnected,
    PowerTimeout,
    ToolsUnavailable,
    WrongPowerState,
)
from vreplica.vsphere.inventory.vm import read_guest
from vreplica.vsphere.model import GuestState, PowerState, VmRef

FIRST_POLL_S: Final = 0.1
POLL_S: Final = 1.0


def state(link: Link, vm: VmRef) -> PowerState:
    """As the VM's host has it now. Raises HostDisconnected where vCenter only remembers."""
    operation = "reading the power state"
    managed = link.managed(vim.VirtualMachine, vm.moref)
    paths = ["runtime.powerState", "runtime.connectionState"]
    entry = read_one(link, operation, managed, paths, vm=vm.name)
    connection = str(entry.get("runtime.connectionState"))
    if connection in ("disconnected", "orphaned"):
        remembered = f"the VM is {connection}, was {entry.get('runtime.powerState')}"
        raise HostDisconnected(operation, remembered).at(vm=vm.name)
    return str(entry.get("runtime.powerState"))  # type: ignore[return-value]


def on(link: Link, vm: VmRef, waiting: Waiting) -> None:
    """Power on; nothing happens where it is on."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    _bring(link, vm, "poweredOn", "power-on", managed.PowerOnVM_Task, waiting)


def off(link: Link, vm: VmRef, waiting: Waiting) -> None:
    """Power off hard, as pulling the plug; nothing happens where it is off."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    _bring(link, vm, "poweredOff", "power-off", managed.PowerOffVM_Task, waiting)


def _bring(
    link: Link,
    vm: VmRef,
    wanted: PowerState,
    operation: str,
    method: Callable[..., Any],
    waiting: Waiting,
) -> None:
    if state(link, vm) == wanted:
        return
    try:
        tasks.run(link, operation, method, vm=vm.name, waiting=waiting)
    except WrongPowerState:
        # Between the read and the call somebody else may have done it.
        if state(link, vm) != wanted:
            raise


def shutdown_guest(link: Link, vm: VmRef) -> None:
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
        link.call(operation, managed.ShutdownGuest, vm=vm.name, answers=False)
    except WrongPowerState:
        if state(link, vm) != "poweredOff":
            raise


def wait_power(
    link: Link,
    vm: VmRef,
    wanted: PowerState,
    timeout_s: float,
    on_tick: Callable[[float, GuestState], None] | None = None,
) -> None:
    """Wait for a power state; `on_tick(seconds left, guest)` at every look. Raises PowerTimeout."""

    def reached(guest: GuestState) -> bool:
        return guest.power_state == wanted

    _watch(link, vm, wanted, timeout_s, reached, on_tick)


def wait_guest(
    link: Link,
    vm: VmRef,
    timeout_s: float,
    *,
    heartbeat: bool = True,
    on_tick: Callable[[float, GuestState], None] | None = None,
) -> GuestState:
    """Wait until Tools run in the guest (and, with `heartbeat`, its heartbeat is good)."""

    def reached(guest: GuestState) -> bool:
        alive = guest.power_state == "poweredOn" and guest.tools_running
        return alive and (not heartbeat or guest.heartbeat == "green")

    wanted = "a guest with running Tools" + (" and a good heartbeat" if heartbeat else "")
    return _watch(link, vm, wanted, timeout_s, reached, on_tick)


def _watch(
    link: Link,
    vm: VmRef,
    wanted: str,
    timeout_s: float,
    reached: Callable[[GuestState], bool],
    on_tick: Callable[[float, GuestState], None] | None,
) -> GuestState:
    started, pause = time.monotonic(), FIRST_POLL_S
    while True:
        guest = read_guest(link, vm)
        if reached(guest):
            return guest
        waited = time.monotonic() - started
        if on_tick:
            on_tick(max(timeout_s - waited, 0.0), guest)
        if waited >= timeout_s:
            actual = f"{guest.power_state}, Tools {guest.tools_status}"
            if guest.question:
                actual += f", with an open question ({guest.question})"
            raise PowerTimeout(wanted, actual, waited).at(vm=vm.name)
        time.sleep(min(pause, max(timeout_s - waited, 0.05)))
        pause = min(pause * 1.5, POLL_S)
