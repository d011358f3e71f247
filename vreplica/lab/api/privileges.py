"""Checks that a user has the privilege that a call needs.

The privilege of a method is the one in pyVmomi's registry. That of ReconfigVM_Task depends on its
spec. A user has all privileges, or a list. Reading needs only a login: every user has
System.View, System.Read and System.Anonymous.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vreplica.lab.api.managed import Managed, live
from vreplica.lab.api.vmodl import fault, vim
from vreplica.lab.context import SiteContext

_GRANTED_TO_ALL = frozenset({"System.Anonymous", "System.View", "System.Read"})

_BY_METHOD = {
    "CreateVM_Task": "VirtualMachine.Inventory.Create",
    "RegisterVM_Task": "VirtualMachine.Inventory.Register",
    "RevertToSnapshot_Task": "VirtualMachine.State.RevertToSnapshot",
    "CloneVM_Task": "VirtualMachine.Provisioning.Clone",
    "MigrateVM_Task": "Resource.ColdMigrate",
    "MoveIntoFolder_Task": "VirtualMachine.Inventory.Move",
    "SearchDatastore_Task": "Datastore.Browse",
    "SearchDatastoreSubFolders_Task": "Datastore.Browse",
    "MakeDirectory": "Datastore.FileManagement",
    "CopyDatastoreFile_Task": "Datastore.FileManagement",
    "MoveDatastoreFile_Task": "Datastore.FileManagement",
    "DeleteDatastoreFile_Task": "Datastore.FileManagement",
    "CreateVirtualDisk_Task": "Datastore.FileManagement",
    "CopyVirtualDisk_Task": "Datastore.FileManagement",
    "ExtendVirtualDisk_Task": "Datastore.FileManagement",
    "DeleteVirtualDisk_Task": "Datastore.FileManagement",
    "SetVirtualDiskUuid": "Datastore.FileManagement",
    "SetField": "Global.SetCustomField",
    "LogUserEvent": "Global.LogEvent",
    "TerminateSession": "Sessions.TerminateSession",
    "ValidateCredentialsInGuest": "VirtualMachine.GuestOperations.Query",
    "StartProgramInGuest": "VirtualMachine.GuestOperations.Execute",
    "TerminateProcessInGuest": "VirtualMachine.GuestOperations.Execute",
    "ListProcessesInGuest": "VirtualMachine.GuestOperations.Query",
    "ReadEnvironmentVariableInGuest": "VirtualMachine.GuestOperations.Query",
    "ListFilesInGuest": "VirtualMachine.GuestOperations.Query",
    "InitiateFileTransferFromGuest": "VirtualMachine.GuestOperations.Query",
    "InitiateFileTransferToGuest": "VirtualMachine.GuestOperations.Modify",
    "MakeDirectoryInGuest": "VirtualMachine.GuestOperations.Modify",
    "DeleteFileInGuest": "VirtualMachine.GuestOperations.Modify",
    "DeleteDirectoryInGuest": "VirtualMachine.GuestOperations.Modify",
    "MoveFileInGuest": "VirtualMachine.GuestOperations.Modify",
    "CreateTemporaryFileInGuest": "VirtualMachine.GuestOperations.Modify",
    "CreateTemporaryDirectoryInGuest": "VirtualMachine.GuestOperations.Modify",
    "ChangeFileAttributesInGuest": "VirtualMachine.GuestOperations.Modify",
}
"""The privileges of methods for which the registry has none, since it depends on the object."""


_BY_KIND: tuple[tuple[Any, dict[str, str]], ...] = (
    (
        vim.VirtualMachine,
        {
            "Destroy_Task": "VirtualMachine.Inventory.Delete",
            "Rename_Task": "VirtualMachine.Config.Rename",
        },
    ),
    (vim.Folder, {"Destroy_Task": "Folder.Delete", "Rename_Task": "Folder.Rename"}),
    (vim.Datacenter, {"Destroy_Task": "Datacenter.Delete", "Rename_Task": "Datacenter.Rename"}),
    (vim.Datastore, {"Destroy_Task": "Datastore.Delete", "Rename_Task": "Datastore.Rename"}),
    (vim.VirtualApp, {"Destroy_Task": "VApp.Delete", "Rename_Task": "VApp.Rename"}),
    (
        vim.ResourcePool,
        {"Destroy_Task": "Resource.DeletePool", "Rename_Task": "Resource.RenamePool"},
    ),
    (vim.ManagedEntity, {"Destroy_Task": "Network.Delete", "Rename_Task": "Network.Config"}),
)
"""The privileges of methods that every object of the inventory has."""

_KNOWN = {*_BY_METHOD.values(), *(p for _, methods in _BY_KIND for p in methods.values())}


def privileges_of(site: SiteContext, user: str) -> frozenset[str] | None:
    """The privileges of a user. None: all of them."""
    known = site.users.get(user, {}).get("privileges", [])
    return None if known is None else frozenset(known) | _GRANTED_TO_ALL


def required_privileges(method: Any, this: Any, arguments: list[Any]) -> Iterator[str]:
    """The privileges that a call needs."""
    name = method.name
    for kind, by_method in _BY_KIND:
        if name in by_method and isinstance(this, kind):
            yield by_method[name]
            return
    if name == "ReconfigVM_Task":
        yield from _by_spec(arguments[0])
    elif name in _BY_METHOD:
        yield _BY_METHOD[name]
    elif method.privilege and method.privilege not in _GRANTED_TO_ALL:
        yield method.privilege


def _by_spec(spec: Any) -> Iterator[str]:
    prefix = "VirtualMachine.Config."
    if spec.changeTrackingEnabled is not None:
        yield prefix + "ChangeTracking"
    if spec.extraConfig:
        yield prefix + "AdvancedConfig"
    if spec.numCPUs is not None:
        yield prefix + "CPUCount"
    if spec.memoryMB is not None:
        yield prefix + "Memory"
    if spec.firmware is not None or spec.guestId is not None:
        yield prefix + "Settings"
    if spec.name is not None:
        yield prefix + "Rename"
    if spec.annotation is not None:
        yield prefix + "Annotation"
    if spec.crypto is not None:
        yield "Cryptographer.EncryptNew"
    for change in spec.deviceChange or ():
        disk = isinstance(change.device, vim.vm.device.VirtualDisk)
        if not disk:
            yield prefix + ("EditDevice" if change.operation == "edit" else "AddRemoveDevice")
        elif change.operation == "add":
            yield prefix + ("AddNewDisk" if change.fileOperation == "create" else "AddExistingDisk")
        else:
            yield prefix + ("RemoveDisk" if change.operation == "remove" else "DiskExtend")


def require_call_privileges(
    site: SiteContext, call: Any, method: Any, this: Any, arguments: list[Any]
) -> None:
    """Raises NoPermission where the caller lacks a privilege that the call needs."""
    if call.session is None:
        return
    have = privileges_of(site, call.user)
    if have is None:
        return
    item = this
    if arguments and method.name.endswith("Guest"):
        # Guest operations are called on a manager; their privilege is checked on the VM.
        item = arguments[0]
    for privilege in required_privileges(method, this, arguments):
        require_privilege(site, call.user, privilege, item)


def require_property_privilege(site: SiteContext, user: str, item: Any, path: str) -> None:
    """Raises NoPermission where the user may not read a property."""
    try:
        privilege = type(item)._GetPropertyInfo(path.partition(".")[0].partition("[")[0]).privId
    except AttributeError:
        return  # no such property: the read that follows raises InvalidProperty
    if user and privilege and privilege not in _GRANTED_TO_ALL:
        require_privilege(site, user, privilege, item)


def require_privilege(site: SiteContext, user: str, privilege: str, item: Any) -> None:
    """Raises NoPermission, which names the privilege and the object."""
    have = privileges_of(site, user)
    if have is not None and privilege not in have:
        entity = item.vm if isinstance(item, vim.vm.Snapshot) else item
        raise fault(
            vim.fault.NoPermission,
            "Permission to perform this operation was denied.",
            object=entity if isinstance(entity, vim.ManagedEntity) else site.root_folder,
            privilegeId=privilege,
        )


class AuthorizationManager(Managed, vim.AuthorizationManager):
    @live
    def roleList(self) -> Any:
        role: Any = vim.AuthorizationManager.Role
        found = [
            role(
                roleId=-1,
                system=True,
                name="Admin",
                info=vim.Description(label="Administrator", summary="Full access rights"),
                privilege=sorted(_KNOWN | _GRANTED_TO_ALL),
            )
        ]
        for number, (user, values) in enumerate(sorted(self._site.users.items()), 1):
            if values["privileges"] is not None:
                found.append(
                    role(
                        roleId=number,
                        system=False,
                        name=user,
                        info=vim.Description(label=user, summary=user),
                        privilege=sorted(privileges_of(self._site, user) or ()),
                    )
                )
        return found

    def _answers(self, user: str, privileges: Any) -> list[bool]:
        have = privileges_of(self._site, user)
        return [have is None or p in have for p in privileges]

    def HasPrivilegeOnEntity(self, entity: Any, sessionId: str, privId: Any = ()) -> Any:
        session = self._site.sessions.by_key.get(sessionId)
        return self._answers(session.user if session else "", privId or ())

    def HasUserPrivilegeOnEntities(self, entities: Any, userName: str, privId: Any = ()) -> Any:
        answers = self._answers(userName, privId or ())
        pairs = zip(privId or (), answers, strict=True)
        manager: Any = vim.AuthorizationManager
        found = [manager.PrivilegeAvailability(privId=p, isGranted=a) for p, a in pairs]
        return [manager.EntityPrivilege(entity=e, privAvailability=found) for e in entities]

    def FetchUserPrivilegeOnEntities(self, entities: Any, userName: str) -> Any:
        have = privileges_of(self._site, userName)
        granted = sorted(have if have is not None else _KNOWN)
        result: Any = vim.AuthorizationManager.UserPrivilegeResult
        return [result(entity=e, privileges=granted) for e in entities]
