"""Lists the privileges that the account of a site needs, and finds those that are missing.

docs/vsphere.md says what each one is for; a test compares the two. Privileges are asked for on the
objects themselves, since a role may hold on one folder and not on another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.inventory import placement
from vreplica.vsphere.inventory.tree import read_places
from vreplica.vsphere.model import MissingPrivileges, ReplicaPlacement, ReplicaSpec, VmRef

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


def missing_on_source(link: ServerLink, vm: VmRef) -> tuple[MissingPrivileges, ...]:
    """Finds what the account lacks on a source VM and on the datastores of its files."""
    found: Any = link.managed(vim.VirtualMachine, vm.moref)
    stores = link.ask(
        "reading the VM's datastores", lambda: list(found.datastore), expects_answer=False
    )
    wanted = {
        (f"VM {vm.name}", found): ON_SOURCE,
        **{(f"datastore of {vm.name}", store): ON_SOURCE_DATASTORE for store in stores or ()},
    }
    return _lacks(link, wanted)


def missing_at_placement(link: ServerLink, spec: ReplicaSpec) -> ReplicaPlacement:
    """Finds where `create_replica` would put a replica, and what the account lacks there.

    Raises PlacementNotFound, PlacementAmbiguous.
    """
    tree = read_places(link)
    place = placement.choose(link.endpoint.host, tree, spec)
    (store,) = [f for f in tree.of_kind(vim.Datastore) if tree.name(f) == place.datastore][:1]
    wanted: dict[tuple[str, Any], Iterable[str]] = {
        ("folder of the replica", place.folder): ON_FOLDER,
        ("resource pool of the replica", place.pool): ON_POOL,
        (f"datastore {place.datastore}", store.managed): ON_DATASTORE,
    }
    for backing in place.backings.values():
        network = getattr(backing, "network", None)
        if network is not None:
            wanted["network of the replica", network] = ON_NETWORK
    host = tree.name(tree.objects[moref(place.host)])
    lacks = [_lacks(link, wanted)]
    for purpose, names in ON_FOLDER_AT_TIMES.items():
        lacks.append(_lacks(link, {("folder of the replica", place.folder): names}, purpose))
    return ReplicaPlacement(host, tuple(lack for part in lacks for lack in part))


def _lacks(
    link: ServerLink, wanted: Mapping[tuple[str, Any], Iterable[str]], only_for: str = ""
) -> tuple[MissingPrivileges, ...]:
    manager = link.content.authorizationManager
    session = link.ask("asking for the session", lambda: link.content.sessionManager.currentSession)
    found = []
    for (what, item), names in wanted.items():
        if item is None:
            continue
        asked = list(names)
        # One object a call: not every version answers for several objects in the order asked.
        held = link.ask(
            f"asking for the privileges on {what}",
            manager.HasPrivilegeOnEntity,
            item,
            session.key,
            asked,
        )
        missing = tuple(n for n, has in zip(asked, held, strict=True) if not has)
        if missing:
            found.append(MissingPrivileges(what, missing, only_for))
    return tuple(dict.fromkeys(found))
