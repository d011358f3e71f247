"""Chooses where a replica goes: names from the job -> objects of one datacenter that fit together.

    datastore ──mounted by──► host ──in──► compute resource ──► resource pool
        │                      │
        └──────── the same datacenter ─────► folder          host ──► networks

An error about a name that does not exist lists the names that do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vreplica.vsphere.connection.collector import FoundObject
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.errors import PlacementNotFound
from vreplica.vsphere.inventory.choose import ambiguous, matching, the_one
from vreplica.vsphere.inventory.tree import InventoryTree
from vreplica.vsphere.model import Nic, ReplicaSpec, mapped_network


@dataclass(frozen=True, slots=True)
class PlacementObjects:
    """The managed objects that a replica is created with. `backings`: NIC key -> new backing."""

    store: FoundObject
    folder: Any
    pool: Any
    host: FoundObject
    compute: FoundObject
    backings: Mapping[int, Any]


def choose(server: str, tree: InventoryTree, spec: ReplicaSpec) -> PlacementObjects:
    """Chooses datastore, host, pool, folder and networks.

    Of several datastores with the name, the one counts that the named host, pool or folder goes
    with. Raises PlacementNotFound or PlacementAmbiguous, both with the choices.
    """
    finder = _Finder(server, tree)
    store, host = finder.store_and_host(spec)
    compute = finder.compute_of(host)
    backings = {}
    for nic in spec.source.nics:
        network = finder.network(spec, nic, host)
        if network is not None:
            backings[nic.key] = network_backing(tree, network)
    return PlacementObjects(
        store=store,
        folder=finder.folder(spec, host),
        pool=finder.pool(spec, compute),
        host=host,
        compute=compute,
        backings=backings,
    )


@dataclass(frozen=True, slots=True)
class _Finder:
    server: str
    tree: InventoryTree

    def one(self, kind: str, wanted: str, candidates: Sequence[FoundObject]) -> FoundObject:
        return the_one(self.server, self.tree, kind, wanted, candidates)

    def store_and_host(self, spec: ReplicaSpec) -> tuple[FoundObject, FoundObject]:
        """Returns the datastore, and a host that mounts it."""
        tree, known = self.tree, self.tree.of_kind(vim.Datastore)
        stores = matching(tree, spec.datastore, known)
        if not stores:
            self.one("datastore", spec.datastore, known)
        named = self._named_hosts(spec)
        mounted = {f.moref: self._mounting(f, named) for f in stores}
        fitting = [f for f in stores if mounted[f.moref]]
        if len(fitting) > 1:
            kind = f"datastore called {spec.datastore}"
            raise ambiguous(self.server, tree, kind, fitting)
        if not fitting:
            mounting = [h for f in stores for h in self._mounting(f, tree.of_kind(vim.HostSystem))]
            names = tuple(tree.name(h) for h in mounting)
            if spec.host:
                kind = f"host with datastore {spec.datastore} called"
                raise PlacementNotFound(self.server, kind, spec.host, names)
            kind = "usable host (connected, not in maintenance) with datastore"
            raise PlacementNotFound(self.server, kind, spec.datastore, names)
        return fitting[0], self._host(spec, fitting[0], mounted[fitting[0].moref])

    def _named_hosts(self, spec: ReplicaSpec) -> list[FoundObject]:
        """Returns the hosts that the job's host, pool and folder leave."""
        hosts = self.tree.of_kind(vim.HostSystem)
        if spec.host:
            named = matching(self.tree, spec.host, hosts)
            return named or [self.one("host", spec.host, hosts)]
        if spec.resource_pool:
            pools = matching(self.tree, spec.resource_pool, self._pools())
            if not pools:
                self.one("resource pool", spec.resource_pool, self._pools())
            owners = {self._owner(pool) for pool in pools}
            hosts = [f for f in hosts if self.compute_of(f).moref in owners]
        if spec.folder:
            folders = matching(self.tree, spec.folder, self._vm_folders())
            if not folders:
                self.one("VM folder", spec.folder, self._vm_folders())
            here = {self.tree.datacenter(f) for f in folders}
            hosts = [f for f in hosts if self.tree.datacenter(f) in here]
        return hosts

    def _mounting(self, store: FoundObject, hosts: Iterable[FoundObject]) -> list[FoundObject]:
        return [f for f in hosts if store.moref in {moref(d) for d in f.get("datastore") or []}]

    def _host(
        self, spec: ReplicaSpec, store: FoundObject, mounting: list[FoundObject]
    ) -> FoundObject:
        if spec.host:
            return self.one("host", spec.host, mounting)
        usable = [
            f
            for f in mounting
            if str(f.get("runtime.connectionState")) == "connected"
            and not f.get("runtime.inMaintenanceMode")
        ]
        if not usable:
            names = tuple(self.tree.name(f) for f in mounting)
            kind = "usable host (connected, not in maintenance) with datastore"
            raise PlacementNotFound(self.server, kind, spec.datastore, names)
        # Within one cluster any host is good: DRS or the operator moves the VM at power-on.
        if len({self.compute_of(f).moref for f in usable}) > 1:
            raise ambiguous(self.server, self.tree, "host", usable)
        return usable[0]

    def compute_of(self, host: FoundObject) -> FoundObject:
        return self.tree.objects[moref(host.get("parent"))]

    def pool(self, spec: ReplicaSpec, compute: FoundObject) -> Any:
        if not spec.resource_pool:
            return compute.get("resourcePool")
        mine = [f for f in self._pools() if self._owner(f) == compute.moref]
        return self.one("resource pool", spec.resource_pool, mine).managed

    def folder(self, spec: ReplicaSpec, host: FoundObject) -> Any:
        here = self.tree.datacenter(host)
        if not spec.folder:
            return self.tree.objects[here].get("vmFolder") if here else None
        mine = [f for f in self._vm_folders() if self.tree.datacenter(f) == here]
        return self.one("VM folder", spec.folder, mine).managed

    def network(self, spec: ReplicaSpec, nic: Nic, host: FoundObject) -> FoundObject | None:
        here = networks_of(self.tree, host)
        wanted = mapped_network(nic, spec.networks)
        if spec.network_optional and (wanted is None or not matching(self.tree, wanted, here)):
            return None
        if wanted is None:
            names = tuple(self.tree.name(f) for f in here)
            kind = "destination network (name one in `networks` of the job) for"
            raise PlacementNotFound(self.server, kind, nic.label, names)
        return self.one(f"network for {nic.label} called", wanted, here)

    def _vm_folders(self) -> list[FoundObject]:
        folders = self.tree.of_kind(vim.Folder)
        return [f for f in folders if "VirtualMachine" in _type_names(f)]

    def _pools(self) -> list[FoundObject]:
        """Returns the pools. A vApp is one too, but no VM is created in it by way of a folder."""
        pools = self.tree.of_kind(vim.ResourcePool)
        return [f for f in pools if not isinstance(f.managed, vim.VirtualApp)]

    def _owner(self, pool: FoundObject) -> str:
        owner = pool.get("owner")
        return moref(owner) if owner is not None else ""


def networks_of(tree: InventoryTree, host: FoundObject | None) -> list[FoundObject]:
    """Returns the networks that a host reaches, by name."""
    reachable = {moref(n) for n in (host.get("network") if host else None) or []}
    return [f for f in tree.of_kind(vim.Network) if f.moref in reachable]


def _type_names(folder: FoundObject) -> list[str]:
    """Returns a folder's childType as names: `VirtualMachine`."""
    kinds = (getattr(k, "__name__", str(k)) for k in folder.get("childType") or [])
    return [kind.rpartition(".")[2] for kind in kinds]


def network_backing(tree: InventoryTree, network: FoundObject) -> Any:
    """Makes the backing that attaches a NIC to a standard, distributed or opaque network."""
    card = vim.vm.device.VirtualEthernetCard
    if isinstance(network.managed, vim.dvs.DistributedVirtualPortgroup):
        switch = network.get("config.distributedVirtualSwitch")
        uuid = tree.objects[moref(switch)].get("uuid")
        port = vim.dvs.PortConnection(switchUuid=uuid, portgroupKey=network.get("key"))
        return card.DistributedVirtualPortBackingInfo(port=port)
    if isinstance(network.managed, vim.OpaqueNetwork):
        summary = network.get("summary")
        return card.OpaqueNetworkBackingInfo(
            opaqueNetworkId=summary.opaqueNetworkId, opaqueNetworkType=summary.opaqueNetworkType
        )
    return card.NetworkBackingInfo(deviceName=tree.name(network), network=network.managed)
