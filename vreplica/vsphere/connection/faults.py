"""Maps vSphere's faults to our errors.

One table is tried from the top. A fault that it does not name becomes `TaskFailed`, with the
fault's own name and words. A caller that handles a fault itself names it in `unmapped` of
`ServerLink.ask` and `ServerLink.call`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from vreplica.errors import VReplicaError
from vreplica.redact import hide
from vreplica.vsphere import errors
from vreplica.vsphere.connection.vmomi import moref, vim, vmodl, wire_name


@dataclass(frozen=True, slots=True)
class CallContext:
    """The call that a fault came from, for the words of the error."""

    operation: str
    host: str
    user: str
    vm: str | None = None


def fault_text(fault: Any) -> str:
    """Returns everything that a fault says in text, each sentence once, causes last.

    A server may repeat the password that it was given: it is hidden.
    """
    said: list[str] = []
    seen = 0
    while fault is not None and seen < 5:
        texts = [fault.msg, *(m.message for m in fault.faultMessage or [])]
        said += [t.strip() for t in texts if t]
        cause = fault.faultCause
        fault = getattr(cause, "fault", cause)
        seen += 1
    return hide("; ".join(dict.fromkeys(said))) or "vCenter gives no reason"


def _permission(fault: Any, context: CallContext) -> VReplicaError:
    # privilegeId is the old field; since 7.0.3.2 missingPrivileges lists every one.
    missing = [name for entry in fault.missingPrivileges or [] for name in entry.privilegeIds or []]
    privilege = ", ".join(missing) or fault.privilegeId or "(vCenter does not say which)"
    entity = moref(fault.object) if fault.object is not None else None
    where = " ".join(p for p in (context.vm, f"({entity})" if entity else None) if p)
    return errors.PermissionDenied(
        context.operation, context.user, privilege, where or "the object"
    )


def _datastore_of(fault: Any) -> str:
    """Returns the name of a full datastore.

    NoDiskSpace has it; other faults name only a file, `[ds] dir/x.vmdk`.
    """
    name = getattr(fault, "datastore", None)
    if isinstance(name, str) and name:
        return name
    match = re.match(r"\[([^\]]+)\]", getattr(fault, "file", None) or "")
    return match[1] if match else "of the VM"


def _gone(fault: Any, context: CallContext) -> VReplicaError:
    return errors.ObjectGone(context.operation, moref(fault.obj) if fault.obj else "the object")


def _power(fault: Any, context: CallContext) -> VReplicaError:
    return errors.WrongPowerState(context.operation, str(fault.existingState or "in another state"))


def _quiesce(kind: str) -> Callable[[Any, CallContext], VReplicaError]:
    return lambda fault, context: errors.QuiesceFailed(kind, fault_text(fault))


Rule = tuple[Any, Callable[[Any, CallContext], VReplicaError]]


@cache
def rules() -> tuple[Rule, ...]:
    """Returns the table; the first row whose class fits decides."""
    return (
        (vim.fault.InvalidLogin, lambda f, d: errors.LoginFailed(d.host, d.user)),
        # NotAuthenticated is a NoPermission: it has to come first.
        (vim.fault.NotAuthenticated, lambda f, d: errors.SessionLost(d.host)),
        (vim.fault.NoPermission, _permission),
        (vmodl.fault.ManagedObjectNotFound, _gone),
        (vim.fault.RestrictedVersion, lambda f, d: errors.LicenseForbids(d.operation, d.host)),
        (vim.fault.ApplicationQuiesceFault, _quiesce("application")),
        (vim.fault.FilesystemQuiesceFault, _quiesce("filesystem")),
        (
            vim.fault.ToolsUnavailable,
            lambda f, d: errors.ToolsUnavailable(d.operation, fault_text(f)),
        ),
        (
            vim.fault.NoDiskSpace,
            lambda f, d: errors.DatastoreFull(d.operation, _datastore_of(f), fault_text(f)),
        ),
        (
            vim.fault.InsufficientStorageSpace,
            lambda f, d: errors.DatastoreFull(d.operation, "of the VM", fault_text(f)),
        ),
        (vim.fault.ConcurrentAccess, lambda f, d: errors.ConfigurationChanged(d.operation)),
        (vim.fault.FileLocked, lambda f, d: errors.FileInUse(d.operation, f.file or "a file")),
        (
            vim.fault.SnapshotFault,
            lambda f, d: errors.SnapshotFailed(d.operation, wire_name(f), fault_text(f)),
        ),
        (vim.fault.InvalidPowerState, _power),
        (vim.fault.DuplicateName, lambda f, d: errors.NameTaken(d.operation, f.name or "?")),
        (vim.fault.AlreadyExists, lambda f, d: errors.NameTaken(d.operation, f.name or "?")),
        (vim.fault.FileAlreadyExists, lambda f, d: errors.NameTaken(d.operation, f.file or "?")),
        (
            vmodl.fault.HostCommunication,
            lambda f, d: errors.HostDisconnected(d.operation, fault_text(f)),
        ),
        (vim.fault.InvalidGuestLogin, lambda f, d: errors.GuestLoginRefused(d.operation)),
        (vim.fault.GuestPermissionDenied, lambda f, d: errors.GuestLoginRefused(d.operation)),
        (
            vim.fault.GuestOperationsUnavailable,
            lambda f, d: errors.GuestOperationsUnavailable(d.operation, fault_text(f)),
        ),
        (vim.fault.TaskInProgress, lambda f, d: errors.VmBusy(d.operation, 0.0)),
    )


def to_error(fault: Any, context: CallContext) -> VReplicaError:
    """Returns the error for a fault, with the VM's name filled in."""
    for kind, make in rules():
        if isinstance(fault, kind):
            return make(fault, context).at(vm=context.vm)
    found = errors.TaskFailed(context.operation, wire_name(fault), fault_text(fault))
    return found.at(vm=context.vm)
