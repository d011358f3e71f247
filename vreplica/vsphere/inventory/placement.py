"""Chooses where a replica goes: names from the job -> objects of one datacenter that fit together.

    datastore ──mounted by──► host ──in──► compute resource ──► resource pool
        │                      │
        └──────── the same datacenter ─────► folder          host ──► networks

An error about a name that does not exist lists the names that do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vreplica.vsphere.connection.collector import FoundObject
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.errors import PlacementAmbiguous, PlacementNotFound
from vreplica.vsphere.inventory.tree import InventoryTree
from vreplica.vsphere.model import Nic, ReplicaSpec


@dataclass(frozen=True, slots=True)
class PlacementObjects:
    """The managed objects that a replica is created with. `backings`: NIC key -> new backing."""

    datastore: str
    folder: Any
    pool: Any
    host: Any
    backings: Mapping[int, Any]


def choose(server: str, tree: InventoryTree, spec: ReplicaSpec) -> PlacementObjects:
    """Chooses datastore, host, pool, folder and networks.

    Raises PlacementNotFound or PlacementAmbiguous, both with the names to choose from.
    """
    finder = _Finder(server, tree)
    store = finder.one("datastore", spec.datastore, tree.of_kind(vim.Datastore))
    host = finder.host(spec, store)
    compute = finder.compute_of(host)
    backings = {}
    for nic in spec.source.nics:
        network = finder.network(spec, nic, host)
        if network is not None:
            backings[nic.key] = network_backing(tree, network)
    return PlacementObjects(
        datastore=tree.name(store),
        folder=finder.folder(spec, host),
        pool=finder.pool(spec, compute),
        host=host.managed,
        backings=backings,
    )


@dataclass(frozen=True, slots=True)
class _Finder:
    server: str
    tree: InventoryTree

    def one(
        self,
        kind: str,
        name: str,
        candidates: Iterable[FoundObject],
        also: Callable[[FoundObject], str] | None = None,
    ) -> FoundObject:
        """Returns the one candidate with this name (or, with `also`, this path)."""
        candidates = list(candidates)
        hits = [f for f in candidates if self.tree.name(f) == name or f.moref == name]
        if not hits and also:
            tail = "/" + name.strip("/")
            hits = [f for f in candidates if f"/{also(f)}".endswith(tail)]
        if not hits:
            names = sorted({self.tree.name(f) for f in candidates})
            raise PlacementNotFound(self.server, kind, name, tuple(names))
        if len(hits) > 1:
            paths = tuple(f"{self.tree.path(f)} ({f.moref})" for f in hits)
            raise PlacementAmbiguous(self.server, f"{kind} called {name}", paths)
        return hits[0]

    def host(self, spec: ReplicaSpec, store: FoundObject) -> FoundObject:
        mounting = [
            f
            for f in self.tree.of_kind(vim.HostSystem)
            if store.moref in {moref(d) for d in f.get("datastore") or []}
        ]
        if spec.host:
            known = self.one("host", spec.host, self.tree.of_kind(vim.HostSystem))
            if known.moref not in {f.moref for f in mounting}:
                names = tuple(self.tree.name(f) for f in mounting)
                kind = f"host with datastore {spec.datastore} called"
                raise PlacementNotFound(self.server, kind, spec.host, names)
            return known
        if spec.resource_pool:
            pool = self.one("resource pool", spec.resource_pool, self._pools(), also=self.tree.path)
            mounting = [f for f in mounting if self.compute_of(f).moref == self._owner(pool)]
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
            names = tuple(self.tree.name(f) for f in usable)
            raise PlacementAmbiguous(self.server, "host", names)
        return usable[0]

    def compute_of(self, host: FoundObject) -> FoundObject:
        return self.tree.objects[moref(host.get("parent"))]

    def pool(self, spec: ReplicaSpec, compute: FoundObject) -> Any:
        if not spec.resource_pool:
            return compute.get("resourcePool")
        mine = [f for f in self._pools() if self._owner(f) == compute.moref]
        return self.one("resource pool", spec.resource_pool, mine, also=self.tree.path).managed

    def folder(self, spec: ReplicaSpec, host: FoundObject) -> Any:
        here = self.tree.datacenter(host)
        if not spec.folder:
            return self.tree.objects[here].get("vmFolder") if here else None
        mine = [
            f
            for f in self.tree.of_kind(vim.Folder)
            if "VirtualMachine" in {k.rpartition(".")[2] for k in _type_names(f)}
            and self.tree.datacenter(f) == here
        ]
        return self.one("VM folder", spec.folder, mine, also=self.tree.path).managed

    def network(self, spec: ReplicaSpec, nic: Nic, host: FoundObject) -> FoundObject | None:
        reachable = {moref(n) for n in host.get("network") or []}
        here = [f for f in self.tree.of_kind(vim.Network) if f.moref in reachable]
        wanted = spec.networks.get(nic.network or "", nic.network)
        if spec.network_optional and wanted not in {self.tree.name(f) for f in here}:
            return None
        if wanted is None:
            names = tuple(self.tree.name(f) for f in here)
            kind = "destination network (name one in `networks` of the job) for"
            raise PlacementNotFound(self.server, kind, nic.label, names)
        return self.one(f"network for {nic.label} called", wanted, here)

    def _pools(self) -> list[FoundObject]:
        return self.tree.of_kind(vim.ResourcePool)

    def _owner(self, pool: FoundObject) -> str:
        owner = pool.get("owner")
        return moref(owner) if owner is not None else ""


def _type_names(folder: FoundObject) -> list[str]:
    """Returns a folder's childType as names."""
    return [getattr(k, "__name__", str(k)) for k in folder.get("childType") or []]


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
