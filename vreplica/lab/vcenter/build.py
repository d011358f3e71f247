"""Builds the inventory of a new site, or loads that of an existing one."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from vreplica.lab.api.collector import PropertyCollector
from vreplica.lab.api.events import EventManager
from vreplica.lab.api.privileges import AuthorizationManager
from vreplica.lab.api.tasks import TaskManager
from vreplica.lab.api.vmodl import vim
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.context import SiteSpec
from vreplica.lab.guest.customization import CustomizationSpecManager
from vreplica.lab.guest.operations import MANAGERS, GuestOperationsManager
from vreplica.lab.nfc.host_service import HostServers, NfcService
from vreplica.lab.site.site import Site
from vreplica.lab.storage.datastores import Datastore
from vreplica.lab.vcenter.file_managers import DatastoreBrowser, FileManager, VirtualDiskManager
from vreplica.lab.vcenter.inventory import (
    Cluster,
    Datacenter,
    EnvironmentBrowser,
    Folder,
    Host,
    ResourcePool,
)
from vreplica.lab.vcenter.networks import Network, build_switch
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
    for name in spec.datastores:
        (directory / name).mkdir(parents=True, exist_ok=True)
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


def _folder(site: Site, prefix: str, name: str, parent: Any, *types: Any) -> Any:
    return _make(
        site,
        Folder,
        site.new_id(prefix),
        name=name,
        parent=parent,
        childType=list(types),
        childEntity=[],
    )


def _build(site: Site) -> None:
    name = site.spec.name
    root = _make(
        site,
        Folder,
        ROOT,
        name="Datacenters",
        parent=None,
        childType=[vim.Folder, vim.Datacenter],
        childEntity=[],
    )
    dc = _make(site, Datacenter, site.new_id("datacenter"), name=f"{name}-dc", parent=root)
    root.add_child(dc)
    vms = _folder(site, "group-v", "vm", dc, vim.Folder, vim.VirtualMachine, vim.VirtualApp)
    hosts = _folder(site, "group-h", "host", dc, vim.Folder, vim.ComputeResource)
    stores = _folder(site, "group-s", "datastore", dc, vim.Folder, vim.Datastore)
    nets = _folder(site, "group-n", "network", dc, vim.Folder, vim.Network)
    dc.set(vmFolder=vms, hostFolder=hosts, datastoreFolder=stores, networkFolder=nets)
    datastores = [
        _make(
            site,
            Datastore,
            site.new_id("datastore"),
            name=label,
            parent=stores,
            capacity=CAPACITY,
            accessible=True,
            uuid=uuid.uuid4().hex[:8] + "-" + uuid.uuid4().hex[:8],
        )
        for label in site.spec.datastores
    ]
    for item in datastores:
        _make(site, DatastoreBrowser, f"datastoreBrowser-{item._moId}", datastore=[item])
    isolated = set(site.spec.isolated)
    networks = [
        _make(
            site,
            Network,
            site.new_id("network"),
            name=label,
            parent=nets,
            uplink=label not in isolated,
        )
        for label in (*site.spec.networks, *site.spec.isolated)
        if label not in site.spec.portgroups
    ]
    cluster = _make(site, Cluster, site.new_id("domain-c"), name=f"{name}-cluster", parent=hosts)
    pool = _make(site, ResourcePool, site.new_id("resgroup"), name="Resources", parent=cluster)
    pool.set(owner=cluster, vm=[], resourcePool=[])
    found = [
        _make(
            site,
            Host,
            site.new_id("host"),
            name=f"esx{number}.{name}.lab",
            parent=cluster,
            vm=[],
            datastore=datastores,
            network=networks,
            connected=True,
            uuid=str(uuid.uuid4()),
        )
        for number in range(1, site.spec.hosts + 1)
    ]
    browser = _make(site, EnvironmentBrowser, site.new_id("envbrowser"))
    cluster.set(
        host=found,
        resourcePool=pool,
        datastore=datastores,
        network=networks,
        environmentBrowser=browser,
    )
    hosts.add_child(cluster)
    stores.childEntity = datastores
    nets.childEntity = networks
    networks = [*networks, *build_switch(site, nets, site.spec.portgroups, isolated)]
    for host in found:
        host.network = networks
    cluster.network = networks
    dc.set(datastore=datastores, network=networks)
    _services(site)
    instance = "VirtualCenter.InstanceName"
    site.objects["VpxSettings"].options = {instance: f"127.0.0.1:{site.spec.port}"}
    site.objects["CustomFieldsManager"].field = []
    _make(site, NfcService, "nfcService")
    _make(site, ServiceInstance, "ServiceInstance", capability=vim.Capability())


def _services(site: Site) -> None:
    """Makes the service objects that are missing: a lab of an older version has fewer."""
    kinds = {k.__name__ if f != "setting" else "VpxSettings": k for f, k in _MANAGERS.items()}
    for moid, kind in {**kinds, **MANAGERS}.items():
        if moid not in site.objects:
            _make(site, kind, moid)


def _connect(site: Site) -> None:
    """Sets the site's attributes for its well-known objects."""

    def only(kind: Any) -> Any:
        return next(o for o in site.objects.values() if type(o) is kind)

    site.datacenter = only(Datacenter)
    site.root_folder = site.datacenter.parent
    site.vm_folder = site.datacenter.vmFolder
    site.cluster = only(Cluster)
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
