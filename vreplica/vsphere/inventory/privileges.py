"""Lists the privileges that the account of a site needs, and finds those that are missing.

docs/vsphere.md says what each one is for; a test compares the two. Privileges are asked for on the
objects themselves, since a role may hold on one folder and not on another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from vreplica.vsphere.connection.collector import read_one
from vreplica.vsphere.connection.look import once
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.inventory.placement import PlacementObjects
from vreplica.vsphere.inventory.tree import InventoryTree
from vreplica.vsphere.model import MissingPrivileges, VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

ON_SOURCE: Final = (
    "VirtualMachine.State.CreateSnapshot",
    "VirtualMachine.State.RemoveSnapshot",
    "VirtualMachine.Config.ChangeTracking",
    "VirtualMachine.Provisioning.DiskRandomRead",
    "VirtualMachine.Provisioning.GetVmFiles",
    "VirtualMachine.Interact.PowerOff",
    "VirtualMachine.Interact.PowerOn",
)
ON_ENCRYPTED_SOURCE: Final = ("Cryptographer.Access",)
"""Beside ON_SOURCE, to read the disks of an encrypted VM (Direct Access)."""
ON_SOURCE_DATASTORE: Final = ("Datastore.Browse",)
ON_FOLDER: Final = (
    "VirtualMachine.Inventory.Create",
    "VirtualMachine.Inventory.Delete",
    "VirtualMachine.Config.AddNewDisk",
    "VirtualMachine.Config.AddRemoveDevice",
    "VirtualMachine.Config.EditDevice",
    "VirtualMachine.Config.AdvancedConfig",
    "VirtualMachine.Config.CPUCount",
    "VirtualMachine.Config.Memory",
    "VirtualMachine.Config.Settings",
    "VirtualMachine.Config.UpgradeVirtualHardware",
    "VirtualMachine.State.CreateSnapshot",
    "VirtualMachine.State.RemoveSnapshot",
    "VirtualMachine.State.RevertToSnapshot",
    "VirtualMachine.Provisioning.DiskRandomAccess",
    "VirtualMachine.Provisioning.DiskRandomRead",
    "VirtualMachine.Interact.PowerOn",
    "VirtualMachine.Interact.PowerOff",
)
ON_FOLDER_AT_TIMES: Final = {
    "test failovers": (
        "VirtualMachine.Provisioning.Clone",
        "VirtualMachine.Inventory.CreateFromExisting",
    ),
    "addresses by specification": (
        "VirtualMachine.Provisioning.Customize",
        "VirtualMachine.Provisioning.ReadCustSpecs",
    ),
    "encrypted replicas and new virtual TPMs": ("Cryptographer.EncryptNew",),
    "scripts in the guest": (
        "VirtualMachine.GuestOperations.Modify",
        "VirtualMachine.GuestOperations.Execute",
        "VirtualMachine.GuestOperations.Query",
    ),
}
"""Privileges that only some jobs need, by purpose."""
ON_POOL: Final = ("Resource.AssignVMToPool",)
ON_DATASTORE: Final = ("Datastore.AllocateSpace", "Datastore.FileManagement")
ON_NETWORK: Final = ("Network.Assign",)


def missing_on_source(
    link: ServerLink, vm: VmRef, *, encrypted: bool = False
) -> tuple[MissingPrivileges, ...]:
    """Finds what the account lacks on a source VM and on the datastores of its files."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    found = read_one(link, "reading the VM's datastores", managed, ["datastore"], vm=vm.name)
    wanted = (*ON_SOURCE, *(ON_ENCRYPTED_SOURCE if encrypted else ()))
    lacks = [*_lacks(link, f"VM {vm.name}", managed, wanted)]
    for store in found.get("datastore") or ():
        lacks += _lacks(link, f"datastore of {vm.name}", store, ON_SOURCE_DATASTORE)
    return tuple(dict.fromkeys(lacks))


def missing_at_placement(
    link: ServerLink, tree: InventoryTree, place: PlacementObjects
) -> tuple[MissingPrivileges, ...]:
    """Finds what the account lacks where `create_replica` would put a replica."""
    store = tree.name(place.store)
    lacks = [
        *_lacks(link, "folder of the replica", place.folder, ON_FOLDER, ON_FOLDER_AT_TIMES),
        *_lacks(link, "resource pool of the replica", place.pool, ON_POOL),
        *_lacks(link, f"datastore {store}", place.store.managed, ON_DATASTORE),
    ]
    for backing in place.backings.values():
        network = getattr(backing, "network", None)
        lacks += _lacks(link, "network of the replica", network, ON_NETWORK)
    return tuple(dict.fromkeys(lacks))


def _lacks(
    link: ServerLink,
    what: str,
    item: Any,
    always: Iterable[str],
    at_times: Mapping[str, Iterable[str]] | None = None,
) -> Iterator[MissingPrivileges]:
    """Yields what is missing on one object, for every run and for each purpose."""
    if item is None:
        return
    purposes = {"": tuple(always), **{k: tuple(v) for k, v in (at_times or {}).items()}}
    asked = [name for names in purposes.values() for name in names]
    held = once(
        link.look, ("privileges", moref(item), *asked), lambda: _held(link, what, item, asked)
    )
    for purpose, names in purposes.items():
        if missing := tuple(n for n in names if n not in held):
            yield MissingPrivileges(what, missing, purpose)


def _held(link: ServerLink, what: str, item: Any, asked: list[str]) -> frozenset[str]:
    manager = link.content.authorizationManager
    session = link.ask("asking for the session", lambda: link.content.sessionManager.currentSession)
    # One object a call: not every version answers for several objects in the order asked.
    method, operation = manager.HasPrivilegeOnEntity, f"asking for the privileges on {what}"
    held = link.ask(operation, method, item, session.key, asked)
    return frozenset(name for name, has in zip(asked, held, strict=True) if has)
