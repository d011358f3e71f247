"""Reads the power state of a VM and the state of its guest, and waits for a wanted state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vreplica.vsphere.connection.collector import FoundObject, read_one
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.errors import (
    HostDisconnected,
    PowerTimeout,
)
from vreplica.vsphere.model import GuestState, PowerState, VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

FIRST_POLL_S: Final = 0.1
POLL_S: Final = 1.0
GUEST = (
    "runtime.powerState",
    "runtime.question",
    "guest.toolsRunningStatus",
    "guest.toolsVersionStatus2",
    "guest.guestState",
    "guest.hostName",
    "guest.ipAddress",
    "guest.customizationInfo",
    "guestHeartbeatStatus",
)


def read_guest(link: ServerLink, vm: VmRef) -> GuestState:
    """Reads power state, Tools, heartbeat and any open question."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    entry = read_one(link, "reading the guest's state", managed, GUEST, vm=vm.name)
    question = entry.get("runtime.question")
    custom = entry.get("guest.customizationInfo")
    return GuestState(
        power_state=str(entry.get("runtime.powerState")),  # type: ignore[arg-type]
        tools_running=tools_running(entry),
        tools_status=tools_status(entry),
        guest_state=str(entry.get("guest.guestState") or "unknown"),
        heartbeat=str(entry.get("guestHeartbeatStatus") or "gray"),
        host_name=entry.get("guest.hostName") or None,
        ip_address=entry.get("guest.ipAddress") or None,
        question=question.text if question is not None else None,
        customization=str(getattr(custom, "customizationStatus", "")).rpartition("_")[2],
        customization_error=getattr(custom, "errorMsg", None) or None,
    )


def tools_running(entry: FoundObject) -> bool:
    """True where Tools run. Tools that execute scripts run too (vSphere API, GuestInfo)."""
    return str(entry.get("guest.toolsRunningStatus")) in (
        "guestToolsRunning",
        "guestToolsExecutingScripts",
    )


def tools_status(entry: FoundObject) -> str:
    """Says for people how Tools are: `running`, `not running` or `not installed`."""
    if tools_running(entry):
        return "running"
    if str(entry.get("guest.toolsVersionStatus2")) == "guestToolsNotInstalled":
        return "not installed"
    return "not running"


def power_state(link: ServerLink, vm: VmRef) -> PowerState:
    """Reads the power state. Raises HostDisconnected where vCenter only remembers it."""
    operation = "reading the power state"
    managed = link.managed(vim.VirtualMachine, vm.moref)
    paths = ["runtime.powerState", "runtime.connectionState"]
    entry = read_one(link, operation, managed, paths, vm=vm.name)
    connection = str(entry.get("runtime.connectionState"))
    if connection in ("disconnected", "orphaned"):
        remembered = f"the VM is {connection}, was {entry.get('runtime.powerState')}"
        raise HostDisconnected(operation, remembered).at(vm=vm.name)
    return str(entry.get("runtime.powerState"))  # type: ignore[return-value]


def wait_power(
    link: ServerLink,
    vm: VmRef,
    wanted: PowerState,
    timeout_s: float,
    on_tick: Callable[[float, GuestState], None] | None = None,
) -> None:
    """Waits for a power state; each poll calls `on_tick(seconds left, guest)`.

    Raises PowerTimeout.
    """

    def reached(guest: GuestState) -> bool:
        return guest.power_state == wanted

    _watch(link, vm, wanted, reached, timeout_s=timeout_s, on_tick=on_tick)


def wait_guest(
    link: ServerLink,
    vm: VmRef,
    timeout_s: float,
    *,
    heartbeat: bool = True,
    on_tick: Callable[[float, GuestState], None] | None = None,
) -> GuestState:
    """Waits until Tools run in the guest and, with `heartbeat`, its heartbeat is good.

    Raises PowerTimeout.
    """

    def reached(guest: GuestState) -> bool:
        alive = guest.power_state == "poweredOn" and guest.tools_running
        return alive and (not heartbeat or guest.heartbeat == "green")

    wanted = "a guest with running Tools" + (" and a good heartbeat" if heartbeat else "")
    return _watch(link, vm, wanted, reached, timeout_s=timeout_s, on_tick=on_tick)


def _watch(
    link: ServerLink,
    vm: VmRef,
    wanted: str,
    reached: Callable[[GuestState], bool],
    *,
    timeout_s: float,
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
