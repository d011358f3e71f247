"""Reads the inventory as a tree of names, in one call, and lists the VMs and places in it.

Datacenters (root folder, not part of a path)
  └─ dc1 ─┬─ vm ────────── Finance ── web01        path: dc1/vm/Finance/web01
          ├─ host ──────── cluster1 ── esx1
          ├─ datastore ─── ds1
          └─ network ───── VM Network
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from vreplica.vsphere.connection.collector import FoundObject, Properties, Steps, read
from vreplica.vsphere.connection.look import once
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.model import DatastoreInfo, HostInfo, NetworkInfo, VmLocation, VmRef
from vreplica.vsphere.names import unescape

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

NAMED = ("name", "parent")
HOST = (
    "runtime.connectionState",
    "runtime.powerState",
    "runtime.inMaintenanceMode",
    "summary.config.product.version",
)


@cache
def steps_to_vms() -> Steps:
    """Steps from the root folder to every VM."""
    return (
        (vim.Folder, "childEntity"),
        (vim.Datacenter, "vmFolder"),
        (vim.VirtualApp, "vm"),
    )


@cache
def steps_in_vapps() -> Steps:
    """Steps from a vApp to every VM in it, and to vApps in it."""
    return (vim.VirtualApp, "resourcePool"), (vim.VirtualApp, "vm")


def read_vm_tree(link: ServerLink, operation: str, properties: Properties) -> list[FoundObject]:
    """Reads all that stands on the way from the root folder to the VMs, and the VMs.

    Takes a second call where there are vApps, since a vApp may hold others.
    """
    properties = {vim.VirtualApp: (*NAMED, "parentFolder"), **properties}
    found = read(link, operation, [link.content.rootFolder], properties, steps_to_vms())
    apps = [f.managed for f in found if isinstance(f.managed, vim.VirtualApp)]
    if apps:
        found += read(link, operation, apps, properties, steps_in_vapps())
    return list(InventoryTree.of(found).objects.values())


@cache
def steps_to_places() -> Steps:
    """Steps from the root folder to folders, hosts, pools, datastores and networks."""
    return (
        (vim.Folder, "childEntity"),
        (vim.Datacenter, "vmFolder"),
        (vim.Datacenter, "hostFolder"),
        (vim.Datacenter, "datastoreFolder"),
        (vim.Datacenter, "networkFolder"),
        (vim.ComputeResource, "host"),
        (vim.ComputeResource, "resourcePool"),
        (vim.ResourcePool, "resourcePool"),
    )


@cache
def steps_up() -> Steps:
    """Steps from a VM up to the datacenter that it is in."""
    return (
        (vim.VirtualMachine, "parent"),
        (vim.VirtualMachine, "parentVApp"),
        (vim.VirtualApp, "parentFolder"),
        (vim.VirtualApp, "parent"),
        (vim.Folder, "parent"),
        (vim.Datacenter, "parent"),
    )


@dataclass(frozen=True, slots=True)
class InventoryTree:
    """Objects by moref, with their names and parents."""

    objects: dict[str, FoundObject]

    @classmethod
    def of(cls, found: Iterable[FoundObject]) -> InventoryTree:
        return cls({f.moref: f for f in found})

    def of_kind(self, kind: Any) -> list[FoundObject]:
        """Returns all objects of a pyVmomi class, by name."""
        chosen = [f for f in self.objects.values() if isinstance(f.managed, kind)]
        return sorted(chosen, key=lambda f: (self.name(f), f.moref))

    def name(self, found: FoundObject) -> str:
        return unescape(found.get("name") or found.moref)

    def parents(self, found: FoundObject) -> Iterable[FoundObject]:
        """Yields the objects above one, from the nearest up to the root folder."""
        seen: set[str] = set()
        while True:
            # A vApp's `parent` is a resource pool; a VM in a vApp has no `parent`.
            above = (found.get(name) for name in ("parentFolder", "parent", "parentVApp"))
            parent = next((p for p in above if p is not None), None)
            if parent is None or moref(parent) not in self.objects or moref(parent) in seen:
                return
            seen.add(moref(parent))
            found = self.objects[moref(parent)]
            yield found

    def path(self, found: FoundObject) -> str:
        """Returns `dc1/vm/Finance/web01`: without the root folder, as FindByInventoryPath does."""
        above = [self.name(p) for p in self.parents(found)]
        return "/".join([*reversed(above[:-1]), self.name(found)])

    def datacenter(self, found: FoundObject) -> str | None:
        """Returns the moref of the datacenter that an object is in; None above datacenters."""
        for above in [found, *self.parents(found)]:
            if isinstance(above.managed, vim.Datacenter):
                return above.moref
        return None


def list_vms(link: ServerLink) -> tuple[tuple[VmRef, str], ...]:
    """Lists every VM that is no template, with its path, by name."""
    properties: Properties = {
        vim.VirtualMachine: (*NAMED, "parentVApp", "summary.config.template"),
        vim.Folder: NAMED,
        vim.Datacenter: NAMED,
    }
    tree = InventoryTree.of(read_vm_tree(link, "listing the VMs", properties))
    return tuple(
        (VmRef(f.moref, tree.name(f)), tree.path(f))
        for f in tree.of_kind(vim.VirtualMachine)
        if not f.get("summary.config.template")
    )


def similar(wanted: str, names: Iterable[str]) -> tuple[str, ...]:
    """Returns up to five similar names; capitals and domain suffixes do not count."""
    by_fold: dict[str, str] = {}
    for name in names:
        by_fold.setdefault(name.casefold(), name)
    fold = wanted.casefold()
    close = difflib.get_close_matches(fold, by_fold, n=5, cutoff=0.6)
    starts = [f for f in by_fold if fold and (f.startswith(fold) or fold.startswith(f))]
    return tuple(by_fold[f] for f in dict.fromkeys([*close, *starts]))[:5]


def read_places(link: ServerLink) -> InventoryTree:
    """Reads datacenters, folders, hosts, pools, datastores and networks: the places for VMs."""
    properties: Properties = {
        vim.Folder: (*NAMED, "childType"),
        vim.Datacenter: (*NAMED, "vmFolder"),
        vim.ComputeResource: (*NAMED, "resourcePool", "host", "environmentBrowser"),
        vim.ResourcePool: (*NAMED, "owner"),
        vim.HostSystem: (*NAMED, *HOST, "datastore", "network"),
        vim.Datastore: (*NAMED, "summary"),
        vim.Network: NAMED,
        vim.dvs.DistributedVirtualPortgroup: (*NAMED, "key", "config.distributedVirtualSwitch"),
        vim.OpaqueNetwork: (*NAMED, "summary"),
        vim.DistributedVirtualSwitch: (*NAMED, "uuid"),
    }
    root = link.content.rootFolder

    def reading() -> InventoryTree:
        found = read(link, "reading the inventory", [root], properties, steps_to_places())
        return InventoryTree.of(found)

    return once(link.look, "places", reading)


def datacenter_of(link: ServerLink, vm: VmRef) -> tuple[str, str] | None:
    """Returns (moref, inventory path) of a VM's datacenter, in one read up the tree."""
    properties: Properties = {
        vim.VirtualMachine: (*NAMED, "parentVApp"),
        vim.Folder: NAMED,
        vim.VirtualApp: (*NAMED, "parentFolder"),
        vim.Datacenter: NAMED,
    }
    root = link.managed(vim.VirtualMachine, vm.moref)
    tree = InventoryTree.of(
        read(link, "finding the datacenter", [root], properties, steps_up(), vm=vm.name)
    )
    for found in tree.of_kind(vim.Datacenter):
        return found.moref, tree.path(found)
    return None


def vm_locations(link: ServerLink) -> tuple[VmLocation, ...]:
    """Reads every VM with its host and datastores, by name, in one call."""
    root = link.content.rootFolder
    properties: Properties = {
        vim.VirtualMachine: (
            "name",
            "summary.config.instanceUuid",
            "runtime.host",
            "runtime.powerState",
            "datastore",
        ),
        vim.HostSystem: ("name",),
        vim.Datastore: ("name",),
    }
    tree = InventoryTree.of(
        read(
            link,
            "finding out where VMs are",
            [root],
            properties,
            (*steps_to_places(), *steps_to_vms()[2:]),
        )
    )
    names = {key: tree.name(found) for key, found in tree.objects.items()}
    return tuple(
        VmLocation(
            vm=VmRef(f.moref, tree.name(f)),
            instance_uuid=f.get("summary.config.instanceUuid"),
            host=names.get(moref(f.get("runtime.host"))) if f.get("runtime.host") else None,
            datastores=tuple(
                names[moref(d)] for d in f.get("datastore") or [] if moref(d) in names
            ),
            power_state=str(f.get("runtime.powerState") or ""),
        )
        for f in tree.of_kind(vim.VirtualMachine)
    )


def datastores(tree: InventoryTree) -> tuple[DatastoreInfo, ...]:
    return tuple(datastore_info(tree, f) for f in tree.of_kind(vim.Datastore))


def datastore_info(tree: InventoryTree, found: FoundObject) -> DatastoreInfo:
    summary = found.get("summary")
    return DatastoreInfo(
        name=tree.name(found),
        moref=found.moref,
        capacity_bytes=summary.capacity,
        free_bytes=summary.freeSpace,
        type=summary.type,
        accessible=bool(summary.accessible),
        path=tree.path(found),
    )


def hosts(tree: InventoryTree) -> tuple[HostInfo, ...]:
    names = {f.moref: tree.name(f) for f in tree.of_kind(vim.Datastore)}
    return tuple(
        HostInfo(
            name=tree.name(f),
            moref=f.moref,
            connection_state=str(f.get("runtime.connectionState")),
            power_state=str(f.get("runtime.powerState")),
            in_maintenance=bool(f.get("runtime.inMaintenanceMode")),
            version=f.get("summary.config.product.version") or "unknown",
            datastores=tuple(
                names[moref(d)] for d in f.get("datastore") or [] if moref(d) in names
            ),
        )
        for f in tree.of_kind(vim.HostSystem)
    )


def networks(tree: InventoryTree) -> tuple[NetworkInfo, ...]:
    return tuple(
        NetworkInfo(
            name=tree.name(f),
            moref=f.moref,
            type=(
                "distributed"
                if isinstance(f.managed, vim.dvs.DistributedVirtualPortgroup)
                else "opaque"
                if isinstance(f.managed, vim.OpaqueNetwork)
                else "standard"
            ),
            path=tree.path(f),
        )
        for f in tree.of_kind(vim.Network)
    )
