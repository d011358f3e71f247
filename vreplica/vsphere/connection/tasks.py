"""Starts tasks of the server, and waits for them.

A task is polled (50 ms, growing to 1 s) by a plain property read. Unlike a property filter, this
survives a new login and a restart of vCenter, and it may be repeated. A task outlives the
connection that started it, so the wait goes on for `PATIENCE_S` while vCenter cannot be reached.

TaskInProgress means that another task holds the VM. The fault names that task (vSphere API,
TaskInProgress): it is waited for, then the call is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vreplica.vsphere.connection.collector import read_one
from vreplica.vsphere.connection.faults import to_error
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.errors import (
    HostUnreachable,
    ObjectGone,
    OutcomeUnknown,
    TaskTimeout,
    VmBusy,
)
from vreplica.vsphere.model import VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

FIRST_POLL_S: Final = 0.05
LAST_POLL_S: Final = 1.0
PATIENCE_S: Final = 120.0
"""How long a wait goes on while vCenter cannot be reached: about as long as vpxd restarts."""


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """Limits of a wait: in all, and while the server cannot be reached."""

    timeout_s: float = 3600.0
    patience_s: float = PATIENCE_S


def run(
    link: ServerLink,
    operation: str,
    method: Callable[..., Any],
    *arguments: Any,
    vm: str,
    limits: WaitLimits,
    unmapped: tuple[Any, ...] = (),
) -> Any:
    """Starts a task, waits for its end, and returns its result.

    Raises the error of the task. Faults of the classes in `unmapped` are raised as they are, from
    the call and from the task alike.
    """
    started = time.monotonic()
    busy = (vim.fault.TaskInProgress,)
    while True:
        try:
            task = link.call(operation, method, *arguments, vm=vm, unmapped=unmapped + busy)
            link.started.append(moref(task))
            return wait(link, task, operation, vm=vm, limits=limits, unmapped=unmapped + busy)
        except vim.fault.TaskInProgress as fault:
            _wait_for_other(link, fault.task, operation, vm=vm, started=started, limits=limits)


def reconfigure(link: ServerLink, operation: str, vm: VmRef, spec: Any, limits: WaitLimits) -> None:
    """Changes a VM's configuration by a ConfigSpec."""
    method = link.managed(vim.VirtualMachine, vm.moref).ReconfigVM_Task
    run(link, operation, method, spec, vm=vm.name, limits=limits)


def ask_when_free(
    link: ServerLink,
    operation: str,
    method: Callable[..., Any],
    *arguments: Any,
    vm: str,
    limits: WaitLimits,
    unmapped: tuple[Any, ...] = (),
) -> Any:
    """Makes a call that changes nothing, again after each other task that holds the VM."""
    started = time.monotonic()
    while True:
        try:
            busy = (vim.fault.TaskInProgress,)
            return link.ask(operation, method, *arguments, vm=vm, unmapped=unmapped + busy)
        except vim.fault.TaskInProgress as fault:
            _wait_for_other(link, fault.task, operation, vm=vm, started=started, limits=limits)


def wait(
    link: ServerLink,
    task: Any,
    operation: str,
    *,
    vm: str,
    limits: WaitLimits,
    unmapped: tuple[Any, ...] = (),
) -> Any:
    """Waits for a task's end, and returns its result."""
    deadline = time.monotonic() + limits.timeout_s
    lost_at: float | None = None
    pause, percent = FIRST_POLL_S, 0
    while True:
        try:
            info = read_one(link, operation, task, ["info"], vm=vm).get("info")
            lost_at = None
        except ObjectGone as error:
            # vCenter forgets its tasks when it restarts.
            host, port = link.endpoint.host, link.endpoint.port
            reason = "vCenter does not know the task any more"
            raise OutcomeUnknown(host, port, reason, operation).at(vm=vm) from error
        except HostUnreachable as error:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > limits.patience_s:
                raise OutcomeUnknown(error.host, error.port, error.reason, operation).at(
                    vm=vm
                ) from error
            info = None
        if info is not None:
            if info.state == vim.TaskInfo.State.success:
                return info.result
            if info.state == vim.TaskInfo.State.error:
                if isinstance(info.error, unmapped):
                    raise info.error
                raise to_error(info.error, link.context(operation, vm))
            percent = int(info.progress or percent)
        if time.monotonic() > deadline:
            raise TaskTimeout(operation, limits.timeout_s, percent).at(vm=vm)
        time.sleep(pause)
        pause = min(pause * 1.5, LAST_POLL_S)


def _wait_for_other(
    link: ServerLink, task: Any, operation: str, *, vm: str, started: float, limits: WaitLimits
) -> None:
    """Waits until the other task has ended in any way; a moment where it is not named."""
    while True:
        if time.monotonic() - started > limits.timeout_s:
            raise VmBusy(operation, time.monotonic() - started).at(vm=vm)
        time.sleep(min(LAST_POLL_S, limits.timeout_s / 10))
        if task is None:
            return
        try:
            state = read_one(link, operation, task, ["info.state"], vm=vm).get("info.state")
        except ObjectGone:
            return
        if state not in (vim.TaskInfo.State.running, vim.TaskInfo.State.queued):
            return
