"""Every fault that vSphere can raise becomes an error with words and a way out."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from pyVmomi import VmomiSupport, vim, vmodl

from vreplica.errors import ConsistencyError, VReplicaError, VSphereError
from vreplica.vsphere import errors
from vreplica.vsphere.connection.faults import CallContext, fault_text, to_error

DOING = CallContext("taking snapshot 'x'", "vc.example", "backup@lab", "web01")


def all_faults() -> list[Any]:
    """Also those that nobody has touched yet: pyVmomi makes its classes when asked."""
    names = [n for n in VmomiSupport._dataDefMap if n.startswith(("vim.", "vmodl."))]
    kinds = [VmomiSupport.GetVmodlType(n) for n in names if ".fault." in n]
    return [k for k in kinds if issubclass(k, vmodl.MethodFault)]


def test_every_fault_class_of_pyvmomi_has_an_error() -> None:
    kinds = all_faults()
    assert len(kinds) > 300
    for kind in kinds:
        error = to_error(kind(msg="the server's words"), DOING)
        assert isinstance(error, VSphereError | ConsistencyError), kind
        assert error.where.vm == "web01"
        assert str(error).startswith("web01: ")
        assert error.explain(), kind
        assert "{" not in str(error) + "".join(error.explain())
        copy = pickle.loads(pickle.dumps(error))
        assert str(copy) == str(error)


@pytest.mark.parametrize(
    ("fault", "expected", "says"),
    [
        (vim.fault.InvalidLogin(), errors.LoginFailed, "backup@lab"),
        (vim.fault.NotAuthenticated(), errors.SessionLost, "vc.example"),
        (vim.fault.NoPermission(privilegeId="VirtualMachine.State.CreateSnapshot"),
         errors.PermissionDenied, "VirtualMachine.State.CreateSnapshot"),
        (vim.fault.RestrictedVersion(), errors.LicenseForbids, "licence"),
        (vim.fault.ApplicationQuiesceFault(msg="VSS writer SqlServerWriter failed"),
         errors.QuiesceFailed, "SqlServerWriter"),
        (vim.fault.FilesystemQuiesceFault(), errors.QuiesceFailed, "filesystem"),
        (vim.fault.ToolsUnavailable(), errors.ToolsUnavailable, "Tools"),
        (vim.fault.NoDiskSpace(datastore="ds-slow"), errors.DatastoreFull, "ds-slow"),
        (vim.fault.NoDiskSpace(file="[ds 1] web/web.vmdk"), errors.DatastoreFull, "ds 1"),
        (vim.fault.FileLocked(file="[ds1] web/web.vmdk"), errors.FileInUse, "[ds1] web/web.vmdk"),
        (vim.fault.TooManySnapshotLevels(), errors.SnapshotFailed, "TooManySnapshotLevels"),
        (vim.fault.SnapshotLocked(), errors.SnapshotFailed, "SnapshotLocked"),
        (vim.fault.InvalidPowerState(existingState="suspended"), errors.WrongPowerState,
         "suspended"),
        (vim.fault.DuplicateName(name="web01-replica"), errors.NameTaken, "web01-replica"),
        (vim.fault.AlreadyExists(name="web01-replica"), errors.NameTaken, "web01-replica"),
        (vmodl.fault.HostNotConnected(msg="host esx1 is away"), errors.HostDisconnected, "esx1"),
        (vmodl.fault.ManagedObjectNotFound(obj=vim.VirtualMachine("vm-7")), errors.ObjectGone,
         "vm-7"),
        (vim.fault.TaskInProgress(), errors.VmBusy, "another task"),
        (vmodl.fault.SystemError(msg="internal"), errors.TaskFailed, "SystemError"),
    ],
    ids=lambda v: type(v).__name__.rpartition(".")[2] if isinstance(v, Exception) else "",
)  # fmt: skip
def test_known_faults_become_their_own_errors(
    fault: Any, expected: type[VReplicaError], says: str
) -> None:
    error = to_error(fault, DOING)
    assert type(error) is expected
    assert says in str(error)


def test_the_object_of_a_missing_privilege_is_named() -> None:
    entry = vim.fault.NoPermission.EntityPrivileges(
        entity=vim.VirtualMachine("vm-7"), privilegeIds=["VirtualMachine.Config.ChangeTracking"]
    )
    fault = vim.fault.NoPermission(object=vim.VirtualMachine("vm-7"), missingPrivileges=[entry])
    error = to_error(fault, DOING)
    assert isinstance(error, errors.PermissionDenied)
    assert error.privilege == "VirtualMachine.Config.ChangeTracking"
    assert error.entity == "web01 (vm-7)"


def test_words_go_down_to_the_cause_and_say_nothing_twice() -> None:
    message = vmodl.LocalizableMessage(key="msg.x", message="disk 2:0 is locked")
    cause = vmodl.LocalizedMethodFault(fault=vim.fault.FileLocked(msg="file is locked"))
    fault = vim.fault.GenericVmConfigFault(
        msg="an error occurred", faultMessage=[message, message], faultCause=cause
    )
    assert fault_text(fault) == "an error occurred; disk 2:0 is locked; file is locked"
    assert fault_text(vim.fault.FileLocked()) == "vCenter gives no reason"


def test_a_loop_of_causes_ends() -> None:
    fault = vmodl.LocalizedMethodFault(fault=vim.fault.FileLocked(msg="again"))
    fault.fault.faultCause = fault
    assert fault_text(fault.fault) == "again"


def test_retryable_is_told_apart() -> None:
    again = {
        vim.fault.FileLocked(file="f"),
        vmodl.fault.HostNotReachable(),
        vim.fault.TaskInProgress(),
    }
    assert all(to_error(f, DOING).retryable for f in again)
    never = [vim.fault.InvalidLogin(), vim.fault.NoPermission(), vim.fault.NoDiskSpace()]
    assert not any(to_error(f, DOING).retryable for f in never)


def test_the_type_registry_is_the_one_that_was_planned_for() -> None:
    assert VmomiSupport.GetWsdlMethod("urn:vim25", "CreateSnapshotEx_Task").info.isTask
    assert VmomiSupport.GetWsdlMethod("urn:vim25", "QueryChangedDiskAreas")
