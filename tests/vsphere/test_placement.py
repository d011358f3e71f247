"""Names from a job become objects that fit together, or an error that lists what there is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from pyVmomi import vim

from tests.support.vms import make_vm
from vreplica.vsphere.connection.collector import FoundObject, filter_spec
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import moref
from vreplica.vsphere.errors import PlacementAmbiguous, PlacementNotFound
from vreplica.vsphere.inventory.placement import choose
from vreplica.vsphere.inventory.snapshots import quiesce_evidence
from vreplica.vsphere.inventory.tree import (
    InventoryTree,
    datastores,
    hosts,
    networks,
    similar,
    steps_to_places,
)
from vreplica.vsphere.inventory.vm import guest_family
from vreplica.vsphere.model import (
    Nic,
    QuiesceOptions,
    ReplicaSpec,
    SnapshotInfo,
    VmInfo,
    VmRef,
    datastore_of,
    mapped_network,
)
from vreplica.vsphere.names import split_path, unescape
from vreplica.vsphere.operations import disk_files
from vreplica.vsphere.operations.snapshots import quiesce_spec


def found(kind: Any, moid: str, name: str, parent: Any = None, **values: Any) -> FoundObject:
    properties = {"name": name, **{k.replace("__", "."): v for k, v in values.items()}}
    if parent is not None:
        properties["parent"] = parent.managed
    return FoundObject(kind(moid), properties)


def summary(capacity: int = 100, free: int = 40) -> Any:
    return vim.Datastore.Summary(
        capacity=capacity, freeSpace=free, type="VMFS", accessible=True, name="n", url="u"
    )


def dc_tree(prefix: str, root: FoundObject) -> list[FoundObject]:
    """A datacenter with a cluster of two hosts, a lone host, two datastores and networks."""
    dc = found(vim.Datacenter, f"{prefix}-dc", prefix, root)
    vm = found(vim.Folder, f"{prefix}-vm", "vm", dc, childType=[vim.VirtualMachine, vim.Folder])
    dc.values["vmFolder"] = vm.managed  # type: ignore[index]
    host = found(vim.Folder, f"{prefix}-host", "host", dc, childType=[vim.ComputeResource])
    store = found(vim.Folder, f"{prefix}-store", "datastore", dc, childType=[vim.Datastore])
    net = found(vim.Folder, f"{prefix}-net", "network", dc, childType=[vim.Network])
    finance = found(
        vim.Folder, f"{prefix}-fin", "Finance%2fHR", vm, childType=[vim.VirtualMachine, vim.Folder]
    )
    cluster = found(
        vim.ClusterComputeResource, f"{prefix}-c", f"{prefix}-cluster", host,
        resourcePool=vim.ResourcePool(f"{prefix}-pool"),
    )  # fmt: skip
    pool = found(vim.ResourcePool, f"{prefix}-pool", "Resources", cluster, owner=cluster.managed)
    gold = found(vim.ResourcePool, f"{prefix}-gold", "gold", pool, owner=cluster.managed)
    alone = found(
        vim.ComputeResource, f"{prefix}-cr", f"{prefix}-esx3", host,
        resourcePool=vim.ResourcePool(f"{prefix}-pool3"),
    )  # fmt: skip
    pool3 = found(vim.ResourcePool, f"{prefix}-pool3", "Resources", alone, owner=alone.managed)
    fast = found(vim.Datastore, f"{prefix}-ds1", "fast", store, summary=summary())
    slow = found(vim.Datastore, f"{prefix}-ds2", "slow", store, summary=summary(7, 3))
    lan = found(vim.Network, f"{prefix}-n1", "VM Network", net)
    switch = found(vim.DistributedVirtualSwitch, f"{prefix}-dvs", "dvs", net, uuid="50 11 22")
    prod = found(
        vim.dvs.DistributedVirtualPortgroup, f"{prefix}-pg", "prod", net, key=f"{prefix}-pgkey",
        config__distributedVirtualSwitch=switch.managed,
    )  # fmt: skip

    def esx(name: str, parent: FoundObject, stores: list[FoundObject], **more: Any) -> FoundObject:
        return found(
            vim.HostSystem, f"{prefix}-{name}", f"{prefix}-{name}", parent,
            datastore=[s.managed for s in stores], network=[lan.managed, prod.managed],
            **{
                "runtime__connectionState": "connected", "runtime__powerState": "poweredOn",
                "runtime__inMaintenanceMode": False, "summary__config__product__version": "8.0.3",
                **more,
            },
        )  # fmt: skip

    nodes = [
        esx("esx1", cluster, [fast], runtime__inMaintenanceMode=True),
        esx("esx2", cluster, [fast]),
        esx("esx3", alone, [slow]),
    ]
    return [dc, vm, host, store, net, finance, cluster, pool, gold, alone, pool3, fast, slow, lan,
            switch, prod, *nodes]  # fmt: skip


@pytest.fixture
def tree() -> InventoryTree:
    root = found(vim.Folder, "root", "Datacenters")
    return InventoryTree.of([root, *dc_tree("a", root)])


def spec(vm: VmInfo, **more: Any) -> ReplicaSpec:
    return ReplicaSpec(**{"name": "r", "source": vm, "datastore": "fast", **more})


NIC = Nic(4000, "Network adapter 1", "vmxnet3", None, "VM Network", True, True)
VM = make_vm(
    guest_family="linux",
    power_state="poweredOn",
    tools_running=True,
    tools_status="running",
    nics=(NIC,),
)


def test_a_datastore_alone_decides_everything_that_has_one_answer(tree: InventoryTree) -> None:
    place = choose("vc", tree, spec(VM))
    assert moref(place.host.managed) == "a-esx2", "the one in maintenance is not taken"
    assert moref(place.pool) == "a-pool"
    assert moref(place.folder) == "a-vm"
    assert tree.name(place.store) == "fast"
    assert place.backings[4000].deviceName == "VM Network"


def test_names_choose_host_pool_and_folder(tree: InventoryTree) -> None:
    place = choose("vc", tree, spec(VM, host="a-esx1", resource_pool="gold", folder="Finance/HR"))
    assert [moref(o) for o in (place.host.managed, place.pool, place.folder)] == [
        "a-esx1", "a-gold", "a-fin",
    ]  # fmt: skip
    by_path = choose("vc", tree, spec(VM, folder="/a/vm/Finance/HR"))
    assert moref(by_path.folder) == "a-fin"


def test_a_distributed_network_is_attached_by_switch_and_key(tree: InventoryTree) -> None:
    place = choose("vc", tree, spec(VM, networks={"VM Network": "prod"}))
    port = place.backings[4000].port
    assert (port.switchUuid, port.portgroupKey) == ("50 11 22", "a-pgkey")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"datastore": "fsat"}, "no datastore 'fsat' in vc; there is: fast, slow"),
        ({"host": "esx9"}, "no host 'esx9' in vc; there is: a-esx1, a-esx2, a-esx3"),
        ({"host": "a-esx3"}, "no host with datastore fast called 'a-esx3'"),
        ({"resource_pool": "iron"}, "no resource pool 'iron' in vc; there is: Resources, gold"),
        ({"folder": "Sales"}, "no VM folder 'Sales' in vc; there is: Finance/HR, vm"),
        ({"networks": {"VM Network": "DR"}}, "there is: VM Network, prod"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_a_wrong_name_is_answered_with_the_right_ones(
    tree: InventoryTree, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(PlacementNotFound) as caught:
        choose("vc", tree, spec(VM, **more))
    assert says in str(caught.value)


def test_a_card_on_an_unknown_network_is_refused_or_left_out(tree: InventoryTree) -> None:
    lost = replace(VM, nics=(replace(NIC, network=None),))
    with pytest.raises(PlacementNotFound, match="Network adapter 1"):
        choose("vc", tree, spec(lost))
    assert choose("vc", tree, spec(lost, network_optional=True)).backings == {}


def test_two_of_a_name_are_not_chosen_from() -> None:
    root = found(vim.Folder, "root", "Datacenters")
    both = InventoryTree.of([root, *dc_tree("a", root), *dc_tree("b", root)])
    with pytest.raises(PlacementAmbiguous) as caught:
        choose("vc", both, spec(VM))
    assert "a/datastore/fast (a-ds1), b/datastore/fast (b-ds1)" in str(caught.value)
    place = choose("vc", both, spec(VM, datastore="b-ds1"))
    assert moref(place.folder) == "b-vm"


@pytest.mark.parametrize(
    "more",
    [
        {"host": "b-esx2"},
        {"resource_pool": "b/host/b-cluster/Resources/gold"},
        {"folder": "b/vm/Finance/HR"},
        {"datastore": "b/datastore/fast"},
        {"datastore": "/b/datastore/fast"},
        {"datastore": "b-ds1"},
        {"datastore": "b/datastore/fast (b-ds1)"},
    ],
    ids=str,
)
def test_two_datastores_of_a_name_are_told_apart_by_what_the_job_names(
    more: dict[str, Any],
) -> None:
    root = found(vim.Folder, "root", "Datacenters")
    both = InventoryTree.of([root, *dc_tree("a", root), *dc_tree("b", root)])
    place = choose("vc", both, spec(VM, **more))
    assert (place.store.moref, place.host.moref) == ("b-ds1", "b-esx2")
    assert moref(place.folder) in ("b-vm", "b-fin")


@pytest.mark.parametrize(
    "wanted", ["a-n2", "a/network/tenant 2/prod", "tenant 2/prod", "a/network/tenant 2/prod (a-n2)"]
)
def test_two_networks_of_a_name_are_told_apart_by_path_and_id(
    tree: InventoryTree, wanted: str
) -> None:
    tenant = found(vim.Folder, "a-tenant", "tenant 2", tree.objects["a-net"])
    other = found(vim.Network, "a-n2", "prod", tenant)
    tree.objects.update({f.moref: f for f in (tenant, other)})
    host = tree.objects["a-esx2"]
    host.values["network"] = [*host.get("network"), other.managed]  # type: ignore[index]
    with pytest.raises(PlacementAmbiguous) as caught:
        choose("vc", tree, spec(VM, networks={"VM Network": "prod"}))
    assert "a/network/tenant 2/prod (a-n2)" in str(caught.value)
    assert "called called" not in str(caught.value)
    place = choose("vc", tree, spec(VM, networks={"VM Network": wanted}))
    assert moref(place.backings[4000].network) == "a-n2"


@pytest.mark.parametrize("key", ["VM Network", "network-7", "dc1/network/VM Network"])
def test_a_network_of_the_source_may_be_named_by_path_and_id(key: str) -> None:
    nic = replace(NIC, network_moref="network-7")
    assert mapped_network(nic, {"other": "x", key: "DR"}) == "DR"
    assert mapped_network(nic, {"a/network/Other Network": "x"}) == "VM Network"


def test_datastores_may_have_brackets_in_their_names() -> None:
    for path, expected in (
        ("[ds1] web/web.vmdk", ("ds1", "web/web.vmdk")),
        ("[ds[1]] web/[x] y.vmdk", ("ds[1]", "web/[x] y.vmdk")),
        ("[[prod] fast] a.vmdk", ("[prod", "fast] a.vmdk")),  # cannot be told apart
        ("[ds1]", ("ds1", "")),
        ("", ("", "")),
    ):
        assert split_path(path) == expected
        assert datastore_of(path) == expected[0]


def test_a_vm_in_nested_vapps_has_the_path_of_the_vm_folders() -> None:
    root = found(vim.Folder, "root", "Datacenters")
    tree = dc_tree("a", root)
    by_id = {f.moref: f for f in tree}
    outer = found(vim.VirtualApp, "vapp-1", "shop", by_id["a-pool"], owner=None)
    outer.values["parentFolder"] = by_id["a-fin"].managed  # type: ignore[index]
    inner = found(vim.VirtualApp, "vapp-2", "db", outer)
    vm = found(vim.VirtualMachine, "vm-1", "db01")
    vm.values["parentVApp"] = inner.managed  # type: ignore[index]
    # Pools are not read with the VM folders.
    folders = [f for f in tree if isinstance(f.managed, (vim.Folder, vim.Datacenter))]
    inventory = InventoryTree.of([root, *folders, outer, inner, vm])
    assert inventory.path(vm) == "a/vm/Finance/HR/shop/db/db01"
    assert inventory.path(outer) == "a/vm/Finance/HR/shop"


def test_hosts_of_two_clusters_are_not_chosen_from(tree: InventoryTree) -> None:
    lone = tree.objects["a-esx3"]
    lone.values["datastore"] = [tree.objects["a-ds1"].managed]  # type: ignore[index]
    with pytest.raises(PlacementAmbiguous, match="which host"):
        choose("vc", tree, spec(VM))
    assert moref(choose("vc", tree, spec(VM, resource_pool="gold")).host.managed) == "a-esx2"


def test_no_usable_host_is_told_with_those_that_are_not(tree: InventoryTree) -> None:
    tree.objects["a-esx2"].values["runtime.connectionState"] = "notResponding"  # type: ignore[index]
    with pytest.raises(PlacementNotFound, match="not in maintenance") as caught:
        choose("vc", tree, spec(VM))
    assert caught.value.available == ("a-esx1", "a-esx2")


def test_the_inventory_is_read_as_values(tree: InventoryTree) -> None:
    assert [(d.name, d.capacity_bytes, d.free_bytes) for d in datastores(tree)] == [
        ("fast", 100, 40), ("slow", 7, 3),
    ]  # fmt: skip
    assert [(h.name, h.in_maintenance, h.datastores) for h in hosts(tree)] == [
        ("a-esx1", True, ("fast",)), ("a-esx2", False, ("fast",)), ("a-esx3", False, ("slow",)),
    ]  # fmt: skip
    assert [(n.name, n.type) for n in networks(tree)] == [
        ("VM Network", "standard"), ("prod", "distributed"),
    ]  # fmt: skip


def test_one_filter_reaches_everything_by_steps_that_may_follow_each_other() -> None:
    query = filter_spec([vim.Folder("root")], {vim.Folder: ("name",)}, steps_to_places())
    (start,) = query.objectSet
    names = {t.name for t in start.selectSet}
    assert len(names) == len(steps_to_places())
    assert all({s.name for s in t.selectSet} == names for t in start.selectSet)


def test_similar_names_are_offered() -> None:
    names = ["web01", "web02", "WEB03", "mail", "sql-prod"]
    assert similar("web1", names)[0] == "web01"
    assert "WEB03" in similar("web3", names)
    assert similar("web01.corp.example", names)[0] == "web01"
    assert similar("zzz", names) == ()


def test_escaped_names_are_read_plainly() -> None:
    assert unescape("a%2fb%5cc%25d") == "a/b\\c%d"
    assert unescape("%252f") == "%2f"


@pytest.mark.parametrize(
    ("guest_id", "said", "family"),
    [
        ("windows2019srv_64Guest", None, "windows"),
        ("winNetStandardGuest", None, "windows"),
        ("ubuntu64Guest", None, "linux"),
        ("rhel9_64Guest", None, "linux"),
        ("fusionos_64Guest", None, "linux"),
        ("other5xLinux64Guest", None, "linux"),
        ("freebsd13_64Guest", None, "other"),
        ("darwin21_64Guest", None, "other"),
        ("otherGuest64", "linuxGuest", "linux"),
        ("ubuntu64Guest", "windowsGuest", "windows"),
    ],
)
def test_guest_families(guest_id: str, said: str | None, family: str) -> None:
    assert guest_family(guest_id, said) == family


SNAPSHOT = SnapshotInfo(
    "snapshot-1", "s", "", None, datetime.now(UTC), quiesced=True, backup_manifest=None
)


@pytest.mark.parametrize(
    ("family", "writers", "quiesced", "tools", "power", "level"),
    [
        ("windows", ("System Writer",), True, True, "poweredOn", "application"),
        ("windows", (), True, True, "poweredOn", "filesystem"),
        ("windows", None, True, True, "poweredOn", "filesystem"),
        ("linux", None, True, True, "poweredOn", "filesystem"),
        ("linux", ("System Writer",), True, True, "poweredOn", "filesystem"),
        ("other", None, True, True, "poweredOn", None),
        ("windows", ("System Writer",), False, True, "poweredOn", None),
        ("windows", ("System Writer",), True, False, "poweredOn", None),
        ("linux", None, True, True, "poweredOff", None),
    ],
)
def test_evidence_of_quiescing_is_never_more_than_the_guest_can_have_done(
    family: Any, writers: Any, quiesced: bool, tools: bool, power: Any, level: str | None
) -> None:
    vm = replace(VM, guest_family=family, tools_running=tools, power_state=power)
    snapshot = replace(SNAPSHOT, quiesced=quiesced, backup_manifest="m.zip", vss_writers=writers)
    assert quiesce_evidence(snapshot, vm) == level


def test_windows_is_quiesced_with_a_copy_backup_and_others_in_their_own_way() -> None:
    windows = quiesce_spec(QuiesceOptions(timeout_min=30, windows=True))
    assert type(windows) is vim.vm.WindowsQuiesceSpec
    assert (windows.timeout, windows.vssBackupType, windows.vssBackupContext) == (30, 5, "ctx_auto")
    assert (windows.vssBootableSystemState, windows.vssPartialFileSupport) == (True, False)
    linux = quiesce_spec(QuiesceOptions(timeout_min=1))
    assert type(linux) is vim.vm.GuestQuiesceSpec
    assert linux.timeout == 5, "five minutes are the least that the API takes"


# -- files of disks ---------------------------------------------------------------------------


@pytest.mark.parametrize("datacenter", ["a", "b"])
def test_a_disk_is_deleted_in_the_datacenter_of_its_vm(
    monkeypatch: pytest.MonkeyPatch, datacenter: str
) -> None:
    """Datastores of two datacenters may have one name, as hosts' own ones do."""
    root = found(vim.Folder, "root", "Datacenters")
    both = InventoryTree.of([root, *dc_tree("a", root), *dc_tree("b", root)])
    asked: list[tuple[str, str]] = []

    def run(link: Any, operation: str, method: Any, path: str, where: Any, **_: Any) -> None:
        asked.append((path, moref(where)))

    monkeypatch.setattr(disk_files, "read_places", lambda link: both)
    monkeypatch.setattr(disk_files, "datacenter_of", lambda link, vm: (f"{datacenter}-dc", "a"))
    monkeypatch.setattr(disk_files.tasks, "run", run)
    vm, link = VmRef("vm-1", "web"), SimpleNamespace(content=MagicMock())
    assert disk_files.delete(link, vm, "[fast] web/web.vmdk", WaitLimits())  # type: ignore[arg-type]
    assert asked == [("[fast] web/web.vmdk", f"{datacenter}-dc")]


def test_a_disk_in_one_of_several_other_datacenters_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = found(vim.Folder, "root", "Datacenters")
    both = InventoryTree.of([root, *dc_tree("a", root), *dc_tree("b", root)])
    monkeypatch.setattr(disk_files, "read_places", lambda link: both)
    monkeypatch.setattr(disk_files, "datacenter_of", lambda link, vm: ("c-dc", "c"))
    link: Any = MagicMock()
    with pytest.raises(PlacementAmbiguous, match=r"fast.* of: a, b"):
        disk_files.delete(link, VmRef("vm-1", "web"), "[fast] web/web.vmdk", WaitLimits())
