"""Several datacenters and clusters, datastores and networks of one name, and renamed datastores."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from tests.support.lab import unchecked
from vreplica.lab import Lab, LabControl
from vreplica.lab.storage.datastore_names import DatastoreNames
from vreplica.vsphere.model import Endpoint
from vreplica.vsphere.session import connect

MIB = 1 << 20
kinds = vim.vm.device


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """site-a with a second datacenter, in which everything has the names of the first."""
    made = Lab.create(tmp_path_factory.mktemp("lab"), sites=("site-a",), portgroups=("prod",))
    with made as running:
        LabControl(running.directory).add_cluster(
            "site-a",
            "site-a-cluster",
            datacenter="second",
            datastores=["site-a-ds1", "only-here"],
            networks=["VM Network"],
            portgroups=["prod"],
        )
        yield running


def find(si: Any, path: str) -> Any:
    found = si.content.searchIndex.FindByInventoryPath(path)
    assert found is not None, path
    return found


def disk_of(vm: Any) -> Any:
    return next(d for d in vm.config.hardware.device if isinstance(d, kinds.VirtualDisk))


def hosts_of(dc: Any) -> list[Any]:
    return [h for c in dc.hostFolder.childEntity for h in c.host]


def test_names_are_unique_in_a_datacenter_only(si: Any) -> None:
    first, second = find(si, "site-a-dc"), find(si, "second")
    assert "site-a-ds1" in {d.name for d in first.datastore} & {d.name for d in second.datastore}
    assert len({d._moId for d in (*first.datastore, *second.datastore)}) == 4
    (host,) = hosts_of(second)
    assert {d.name for d in host.datastore} == {"site-a-ds1", "only-here"}
    assert [m.key for m in host.datastore[0].host] == [host]
    assert {n.name for n in host.network} == {"VM Network", "prod"}
    assert not {n._moId for n in host.network} & {n._moId for n in hosts_of(first)[0].network}
    with pytest.raises(vim.fault.DuplicateName):
        si.content.rootFolder.CreateDatacenter("second")


def test_one_path_means_a_datastore_of_its_datacenter(
    lab: Lab, si: Any, control: LabControl, tmp_path: Path
) -> None:
    content = tmp_path / "content"
    vms = []
    for dc, host in (("site-a-dc", "esx1.site-a.lab"), ("second", "esx2.site-a.lab")):
        content.write_bytes(dc.encode().ljust(MIB, b"."))
        made = control.create_vm(
            "site-a", f"twin {dc}", disks=[(MIB, True, content)], host=host, network="prod"
        )
        vms.append(vim.VirtualMachine(made["moref"], si._stub))
    for vm in vms:
        WaitForTask(vm.Rename_Task("twin"))
        WaitForTask(vm.RelocateVM_Task(vim.vm.RelocateSpec()))
    first, second = vms
    assert first.parent != second.parent
    search = si.content.searchIndex
    for vm, dc in ((first, "site-a-dc"), (second, "second")):
        assert find(si, f"{dc}/vm/twin") == vm
        path = vm.config.files.vmPathName
        assert path.startswith("[site-a-ds1] twin")
        assert search.FindByDatastorePath(find(si, dc), path) == vm
        assert search.FindByUuid(find(si, dc), vm.config.instanceUuid, True, True) == vm
        assert vm.datastore[0] in find(si, dc).datastore
        assert vm.network[0] in find(si, dc).network
    assert search.FindByUuid(find(si, "second"), first.config.instanceUuid, True, True) is None

    # The file of a path depends on the datacenter.
    spec = lab.specs[0]
    for vm, dc in ((first, "site-a-dc"), (second, "second")):
        connection = http.client.HTTPSConnection(spec.host, spec.port, context=unchecked())
        name = disk_of(vm).backing.fileName.partition("] ")[2].replace(".vmdk", "-flat.vmdk")
        query = urlencode({"dcPath": f"/{dc}", "dsName": "site-a-ds1"})
        cookie = {"Cookie": si._stub.cookie.split(";")[0]}
        connection.request("GET", f"/folder/{name.replace(' ', '%20')}?{query}", headers=cookie)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.read(len(dc)) == dc.encode()
        connection.close()
    files = si.content.fileManager
    files.MakeDirectory("[only-here] made", find(si, "second"))
    with pytest.raises(vim.fault.InvalidDatastore):
        files.MakeDirectory("[only-here] made", find(si, "site-a-dc"))
    for vm in vms:
        WaitForTask(vm.Destroy_Task())


def test_a_vm_uses_what_its_host_has(si: Any, control: LabControl) -> None:
    made = control.create_vm("site-a", "bound", disks=[], host="esx2.site-a.lab")
    vm = vim.VirtualMachine(made["moref"], si._stub)
    disk = kinds.VirtualDisk(
        key=-1,
        controllerKey=1000,
        unitNumber=0,
        capacityInKB=1024,
        backing=kinds.VirtualDisk.FlatVer2BackingInfo(
            fileName="[site-a-ds2]", diskMode="persistent"
        ),
    )
    change = kinds.VirtualDeviceSpec(operation="add", fileOperation="create", device=disk)
    with pytest.raises(vim.fault.InvalidDatastore):
        WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    card = kinds.VirtualVmxnet3(
        key=-1, backing=kinds.VirtualEthernetCard.NetworkBackingInfo(deviceName="Isolated")
    )
    change = kinds.VirtualDeviceSpec(operation="add", device=card)
    with pytest.raises(vim.fault.InvalidDeviceBacking):
        WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    # A distributed port group is named by its key, never by its name.
    card.backing.deviceName = "prod"
    with pytest.raises(vim.fault.InvalidDeviceBacking):
        WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    away = hosts_of(find(si, "site-a-dc"))[0]
    with pytest.raises((vim.fault.CannotAccessVmDisk, vim.fault.CannotAccessNetwork)):
        WaitForTask(vm.RelocateVM_Task(vim.vm.RelocateSpec(host=away)))
    WaitForTask(vm.Destroy_Task())


@pytest.mark.parametrize("name", ["dr store", "a [b]", "x] y", "50% [old]"])
def test_a_renamed_datastore_has_its_new_name_in_every_path(
    lab: Lab, si: Any, control: LabControl, name: str, tmp_path: Path
) -> None:
    made = control.create_vm("site-a", "renamed", disks=[(MIB, True, None)], network=None)
    vm = vim.VirtualMachine(made["moref"], si._stub)
    WaitForTask(vm.CreateSnapshot_Task("s", "", False, False))
    store = vm.datastore[0]
    assert store.name == "site-a-ds1"
    WaitForTask(store.Rename_Task(name))
    shown = store.name
    try:
        assert shown == name.replace("%", "%25")
        leaf = disk_of(vm).backing
        assert leaf.fileName == f"[{shown}] renamed/renamed-000001.vmdk"
        assert leaf.parent.fileName == f"[{shown}] renamed/renamed.vmdk"
        frozen = vm.snapshot.currentSnapshot.config
        assert disk_of(vm.snapshot.currentSnapshot).backing.fileName == leaf.parent.fileName
        assert frozen.files.vmPathName == f"[{shown}] renamed/renamed.vmx"
        assert {f.name.partition(" renamed/")[0] for f in vm.layoutEx.file} == {f"[{shown}]"}
        assert vm.summary.config.vmPathName == f"[{shown}] renamed/renamed.vmx"
        assert control.describe_vm("site-a", "renamed")["disks"][0]["path"] == leaf.fileName
        # A path of before is refused, and one of now accepted.
        dc, files = find(si, "site-a-dc"), si.content.fileManager
        with pytest.raises(vim.fault.InvalidDatastore):
            files.MakeDirectory("[site-a-ds1] made", dc)
        files.MakeDirectory(f"[{shown}] made", dc)
        WaitForTask(files.DeleteDatastoreFile_Task(f"[{shown}] made", dc))
        with pytest.raises(vim.fault.DuplicateName):
            WaitForTask(store.Rename_Task("site-a-ds2"))
        # Both ways to the disk know the new name.
        assert f"\t{shown}\t" in (lab.directory / "hosts.map").read_text()
        spec = lab.specs[0]
        endpoint = Endpoint(spec.host, spec.user, spec.password, sha256(lab), port=spec.port)
        with connect(endpoint) as session:
            read = session.read_vm(session.find_vm("renamed"))
        assert read.disks[0].path == leaf.fileName
        WaitForTask(vm.PowerOnVM_Task())
        control.guest_write("site-a", "renamed", 2000, 0, b"r" * 512)
        WaitForTask(vm.PowerOffVM_Task())
        WaitForTask(vm.RemoveAllSnapshots_Task())
        assert disk_of(vm).backing.fileName == f"[{shown}] renamed/renamed.vmdk"
        vm.UnregisterVM()
        folder, cluster = dc.vmFolder, dc.hostFolder.childEntity[0]
        task = folder.RegisterVM_Task(
            f"[{shown}] renamed/renamed.vmx", None, False, cluster.resourcePool
        )
        WaitForTask(task)
        vm = task.info.result
        assert disk_of(vm).backing.fileName == f"[{shown}] renamed/renamed.vmdk"
    finally:
        WaitForTask(store.Rename_Task("site-a-ds1"))
        WaitForTask(vm.Destroy_Task())


def sha256(lab: Lab) -> str:
    return str(lab.dir.read()["sites"][0]["sha256"])


def test_renamed_datastores_survive_a_restart(tmp_path: Path) -> None:
    with Lab.create(tmp_path, sites=("one",)):
        control = LabControl(tmp_path)
        control.create_vm("one", "stays", disks=[(MIB, True, None)])
        control.add_cluster("one", "more", datacenter="dc2", datastores=["one-ds1"], hosts=2)
        control.rename_datastore("one", "one-ds2", "other")
    with Lab(tmp_path) as again:
        site = again.sites["one"]
        assert [d.name for d in site.datacenters] == ["one-dc", "dc2"]
        assert [h.name for h in site.hosts()] == [f"esx{n}.one.lab" for n in (1, 2, 3)]
        assert {d.folder: d.name for d in site.names.by_folder.values()} == {
            "one-ds1": "one-ds1",
            "one-ds2": "other",
            "one-ds1-2": "one-ds1",
        }
        path = LabControl(tmp_path).describe_vm("one", "stays")["disks"][0]["path"]
        assert path == "[one-ds1] stays/stays.vmdk"


def test_a_datacenter_without_hosts_can_be_destroyed(si: Any) -> None:
    made = si.content.rootFolder.CreateFolder("regions").CreateDatacenter("empty")
    assert made.vmFolder.name == "vm"
    WaitForTask(made.Destroy_Task())
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        _ = made.name
    with pytest.raises(vim.fault.ResourceInUse):
        WaitForTask(find(si, "second").Destroy_Task())


def test_a_second_datastore_of_a_name_is_numbered_in_one_datacenter(
    control: LabControl, si: Any
) -> None:
    made = control.add_cluster("site-a", "c2", datastores=["site-a-ds1"], portgroups=["prod"])
    assert [d["name"] for d in made["datastores"]] == ["site-a-ds1 (1)"]
    groups = [n for n in find(si, "site-a-dc").network if n.name == "prod"]
    assert len({g.parent for g in groups}) == 2


def test_names_without_a_meaning_stay() -> None:
    names = DatastoreNames()
    for text in ("", "plain", "[", "[x", "[x] y"):
        assert names.outgoing(text) == text
