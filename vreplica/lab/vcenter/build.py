"""Builds the inventory of a new site, or loads that of an existing one."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from vreplica.lab.api.collector import PropertyCollector
from vreplica.lab.api.events import EventManager
from vreplica.lab.api.names import escape_name, file_name
from vreplica.lab.api.privileges import AuthorizationManager
from vreplica.lab.api.tasks import TaskManager
from vreplica.lab.api.vmodl import vim
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.context import SiteSpec
from vreplica.lab.guest.customization import CustomizationSpecManager
from vreplica.lab.guest.operations import MANAGERS, GuestOperationsManager
from vreplica.lab.nfc.host_service import HostServers, NfcService
from vreplica.lab.site.site import Site
from vreplica.lab.site.state_db import number_of
from vreplica.lab.storage.datastores import Datastore
from vreplica.lab.vcenter.environment import NEWEST_OF, EnvironmentBrowser
from vreplica.lab.vcenter.file_managers import DatastoreBrowser, FileManager, VirtualDiskManager
from vreplica.lab.vcenter.inventory import (
    Cluster,
    Datacenter,
    Folder,
    Host,
)
from vreplica.lab.vcenter.networks import Network, build_switch
from vreplica.lab.vcenter.pools import ResourcePool
from vreplica.lab.vcenter.service_objects import (
    CustomFieldsManager,
    OptionManager,
    SearchIndex,
    ServiceInstance,
    SessionManager,
    ViewManager,
    content,
)
from vreplica.units import TIB

CAPACITY = TIB
ROOT = "group-d1"
"""The id of every vCenter's root folder: clients compare it."""

_MANAGERS: dict[str, Any] = {
    "sessionManager": SessionManager,
    "viewManager": ViewManager,
    "searchIndex": SearchIndex,
    "taskManager": TaskManager,
    "eventManager": EventManager,
    "customFieldsManager": CustomFieldsManager,
    "setting": OptionManager,
    "authorizationManager": AuthorizationManager,
    "fileManager": FileManager,
    "virtualDiskManager": VirtualDiskManager,
    "customizationSpecManager": CustomizationSpecManager,
    "guestOperationsManager": GuestOperationsManager,
}


def open_site(directory: Path, spec: SiteSpec, certificate: ServerCertificate) -> Site:
    """A site with its state, which is made where there is none."""
    site = Site(directory, spec, certificate)
    if site.state_db.meta().get("built"):
        site.state_db.load(site, site)
        _services(site)
    else:
        site.instance_uuid = str(uuid.uuid4())
        _build(site)
    _connect(site)
    site.flush()
    site.save_values(built=True, instance_uuid=site.instance_uuid)
    return site


def recover_site(site: Site) -> None:
    """Finishes what a kill interrupted, and opens the disks of running VMs."""
    for vm in site.vms():
        if vm.unfinished:
            vm.remove_from_inventory()
    site.flush()
    site.orphan_files.remove_leftovers()
    with site.orphan_files.operation():
        for vm in site.vms():
            vm.recover()
    site.flush()


def _make(site: Site, kind: Any, moid: str, **values: Any) -> Any:
    made = kind(site, moid)
    made.__dict__.update(values)
    return site.add(made)


def _build(site: Site) -> None:
    spec = site.spec
    root = _make(
        site,
        Folder,
        ROOT,
        name="Datacenters",
        parent=None,
        childType=[vim.Folder, vim.Datacenter],
        childEntity=[],
    )
    site.root_folder = root
    datacenter = root.CreateDatacenter(f"{spec.name}-dc")
    add_cluster(
        site,
        datacenter,
        f"{spec.name}-cluster",
        hosts=spec.hosts,
        datastores=spec.datastores,
        networks=tuple(n for n in (*spec.networks, *spec.isolated) if n not in spec.portgroups),
        portgroups=spec.portgroups,
        isolated=spec.isolated,
        releases=spec.releases,
    )
    _services(site)
    instance = "VirtualCenter.InstanceName"
    site.objects["VpxSettings"].options = {instance: f"127.0.0.1:{site.spec.port}"}
    site.objects["CustomFieldsManager"].field = []
    _make(site, NfcService, "ha-nfc-service" if spec.bare_host else "nfcService")
    _make(site, ServiceInstance, "ServiceInstance", capability=vim.Capability())


def add_cluster(
    site: Site,
    datacenter: Any,
    name: str,
    *,
    hosts: int = 1,
    datastores: tuple[str, ...] = (),
    networks: tuple[str, ...] = (),
    portgroups: tuple[str, ...] = (),
    isolated: tuple[str, ...] = (),
    releases: tuple[str, ...] = (),
) -> Any:
    """Adds a cluster with hosts, datastores and networks of its own to a datacenter.

    As in a vCenter, a datastore whose name the datacenter has already becomes `NAME (1)`, and a
    network is one for all hosts of a datacenter that have a port group of its name. Distributed
    port groups of one name lie in different network folders.
    """
    datacenter.hostFolder.require_free(name)
    stores = [_datastore(site, datacenter, label) for label in datastores]
    known = {n.name: n for n in datacenter.network if type(n) is Network}
    folder = datacenter.networkFolder
    nets = []
    for label in networks:
        if label not in known:
            known[label] = _make(
                site,
                Network,
                site.new_id("network"),
                name=escape_name(label),
                parent=folder,
                uplink=label not in isolated,
            )
            folder.add_child(known[label])
        nets.append(known[label])
    taken = {n.name for n in folder.childEntity}
    if taken & {*portgroups}:
        folder = folder.CreateFolder(name)
    groups = build_switch(site, folder, f"{name}-dvs", portgroups, {*isolated})
    cluster = _make(site, Cluster, site.new_id("domain-c"), name=name, parent=datacenter.hostFolder)
    pool = _make(site, ResourcePool, site.new_id("resgroup"), name="Resources", parent=cluster)
    pool.set(owner=cluster, vm=[], resourcePool=[])
    first = 1 + len(site.hosts())
    made = [
        _make(
            site,
            Host,
            site.new_id("host"),
            name=f"esx{number}.{site.name}.lab",
            parent=cluster,
            vm=[],
            datastore=stores,
            network=[*nets, *groups],
            connected=True,
            uuid=str(uuid.uuid4()),
        )
        for number in range(first, first + hosts)
    ]
    for host, release in zip(made, releases, strict=False):
        host.set(release=release, newest_hardware=NEWEST_OF[release])
    cluster.set(
        host=made,
        resourcePool=pool,
        datastore=stores,
        network=[*nets, *groups],
        environmentBrowser=_make(site, EnvironmentBrowser, site.new_id("envbrowser")),
    )
    datacenter.hostFolder.add_child(cluster)
    datacenter.set(
        datastore=[*datacenter.datastore, *stores],
        network=list(dict.fromkeys([*datacenter.network, *nets, *groups])),
    )
    site.clusters = [*site.clusters, cluster]
    site.datastores_changed()
    return cluster


def _datastore(site: Site, datacenter: Any, label: str) -> Any:
    """A new datastore, with a name that is free in the datacenter and a folder that is free."""
    taken = {d.name for d in datacenter.datastoreFolder.childEntity}
    name, number = escape_name(label), 0
    while name in taken:
        number += 1
        name = f"{escape_name(label)} ({number})"
    folder, number = file_name(label).replace("[", "_").replace("]", "_"), 1
    while any(isinstance(o, Datastore) and o.folder == folder for o in site.objects.values()):
        number += 1
        folder = f"{file_name(label)}-{number}"
    (site.directory / folder).mkdir(parents=True, exist_ok=True)
    made = _make(
        site,
        Datastore,
        site.new_id("datastore"),
        name=name,
        folder=folder,
        parent=datacenter.datastoreFolder,
        capacity=CAPACITY,
        accessible=True,
        uuid=uuid.uuid4().hex[:8] + "-" + uuid.uuid4().hex[:8],
    )
    _make(site, DatastoreBrowser, f"datastoreBrowser-{made._moId}", datastore=[made])
    datacenter.datastoreFolder.add_child(made)
    return made


def _services(site: Site) -> None:
    """Makes the service objects that are missing: a lab of an older version has fewer."""
    kinds = {k.__name__ if f != "setting" else "VpxSettings": k for f, k in _MANAGERS.items()}
    for moid, kind in {**kinds, **MANAGERS}.items():
        if moid not in site.objects:
            _make(site, kind, moid)


def _connect(site: Site) -> None:
    """Sets the site's attributes for its well-known objects."""

    def every(kind: Any) -> list[Any]:
        found = [o for o in site.objects.values() if type(o) is kind]
        return sorted(found, key=lambda o: number_of(o._moId))

    def only(kind: Any) -> Any:
        return every(kind)[0]

    site.datacenters, site.clusters = every(Datacenter), every(Cluster)
    site.datacenter, site.cluster = site.datacenters[0], site.clusters[0]
    site.root_folder = site.datacenter
    while site.root_folder.parent is not None:
        site.root_folder = site.root_folder.parent
    site.vm_folder = site.datacenter.vmFolder
    site.datastores_changed()
    site.task_manager = only(TaskManager)
    site.event_manager = only(EventManager)
    managers = {field: only(kind) for field, kind in _MANAGERS.items()}
    managers["propertyCollector"] = _collector(site)
    site.content = content(site, managers)
    site.tasks.restore()
    site.host_servers = HostServers(site)
    site.disks.write_library_limits()


def _collector(site: Site) -> Any:
    """The id of the PropertyCollector, behind which each session has its own."""
    return PropertyCollector(site, "propertyCollector")
