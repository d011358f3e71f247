"""Answers that clients of other makers rely on, each with the client that ended without it."""

from __future__ import annotations

import base64
import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from tests.support.lab import unchecked
from vreplica.lab import Lab, LabControl
from vreplica.lab.api.soap import to_xml
from vreplica.lab.api.vmodl import NEWEST, support
from vreplica.lab.vcenter.unsupported import _OF_VCENTER

MIB = 1 << 20
query = vmodl.query.PropertyCollector


def retrieve(si: Any, item: Any, *specs: tuple[Any, list[str]]) -> dict[str, Any]:
    """The properties that these (type, paths) give of one object."""
    wanted = [query.PropertySpec(type=kind, all=False, pathSet=paths) for kind, paths in specs]
    spec = query.FilterSpec(objectSet=[query.ObjectSpec(obj=item, skip=False)], propSet=wanted)
    (found,) = si.content.propertyCollector.RetrieveContents([spec])
    return {p.name: p.val for p in found.propSet}


# -- the PropertyCollector ------------------------------------------------------------------


def test_property_specs_of_several_types_add_up(si: Any) -> None:
    """`govc find` asks for the name of a ManagedEntity and for more of a VM."""
    dc = si.content.rootFolder.childEntity[0]
    found = retrieve(
        si, dc, (vim.ManagedEntity, ["name", "parent"]), (vim.Datacenter, ["vmFolder"])
    )
    assert found.keys() == {"name", "parent", "vmFolder"}


def test_a_path_must_belong_to_the_type_that_the_spec_names(si: Any) -> None:
    dc = si.content.rootFolder.childEntity[0]
    with pytest.raises(vmodl.query.InvalidProperty) as raised:
        retrieve(si, dc, (vim.ManagedEntity, ["vmFolder"]))
    assert raised.value.name == "vmFolder"


def array_xml(kind: Any, values: list[Any]) -> str:
    field = support.Object(name="val", type=object, version=support.BASE_VERSION, flags=0)
    return to_xml(kind(values), field, NEWEST)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (
            vim.ManagedEntity.Array,
            [vim.VirtualMachine("vm-1")],
            (
                '<val xsi:type="ArrayOfManagedObjectReference"><ManagedObjectReference '
                'xsi:type="ManagedObjectReference" type="VirtualMachine">vm-1'
                "</ManagedObjectReference></val>"
            ),
        ),
        (
            support.GetVmodlType("string[]"),
            ["a"],
            '<val xsi:type="ArrayOfString"><string xsi:type="xsd:string">a</string></val>',
        ),
        (
            support.GetVmodlType("int[]"),
            [7],
            '<val xsi:type="ArrayOfInt"><int xsi:type="xsd:int">7</int></val>',
        ),
        (
            vim.Description.Array,
            [vim.ElementDescription(label="l", summary="s", key="k")],
            (
                '<val xsi:type="ArrayOfDescription"><Description xsi:type="ElementDescription">'
                "<label>l</label><summary>s</summary><key>k</key></Description></val>"
            ),
        ),
        (vim.Description.Array, [], '<val xsi:type="ArrayOfDescription"></val>'),
    ],
)
def test_each_item_of_an_array_in_an_any_names_its_type(
    kind: Any, values: list[Any], expected: str
) -> None:
    """libvirt refuses an item without a type: "AnyType is missing 'type' property"."""
    assert array_xml(kind, values) == expected


# -- what every vCenter has -----------------------------------------------------------------


def test_the_root_folder_has_the_id_of_every_vcenter(si: Any) -> None:
    """Ansible walks up to `group-d1` and finds no folder elsewhere."""
    assert si.content.rootFolder._moId == "group-d1"


def test_what_the_lab_does_not_play_is_there_and_refuses(si: Any) -> None:
    for field, (kind, moid) in _OF_VCENTER.items():
        manager = getattr(si.content, field)
        assert (type(manager), manager._moId) == (kind, moid)
    assert list(si.content.licenseManager.licenses) == []
    assert list(si.content.extensionManager.extensionList) == []
    with pytest.raises(vmodl.fault.NotSupported):
        si.content.extensionManager.FindExtension("com.example")
    with pytest.raises(vmodl.fault.NotSupported):
        si.content.perfManager.QueryPerfCounter([1])


def test_a_host_has_its_hardware_and_its_managers(si: Any) -> None:
    cluster = si.content.rootFolder.childEntity[0].hostFolder.childEntity[0]
    (host,) = cluster.host
    cpu = host.hardware.cpuInfo
    assert (cpu.numCpuCores, cpu.numCpuThreads) == (16, 32)
    assert host.hardware.memorySize == host.summary.hardware.memorySize
    assert host.hardware.systemInfo.uuid == host.summary.hardware.uuid
    long_mode = next(f for f in host.hardware.cpuFeature if f.level == -0x7FFFFFFF)
    assert int(long_mode.edx.replace(":", ""), 2) >> 29 & 1
    network = host.configManager.networkSystem.networkInfo
    assert [s.name for s in network.vswitch] == ["vSwitch0", "vSwitch1"]
    assert f"{network.dnsConfig.hostName}.{network.dnsConfig.domainName}" == host.name
    volumes = host.configManager.storageSystem.fileSystemVolumeInfo.mountInfo
    assert [v.volume.name for v in volumes] == ["site-a-ds1", "site-a-ds2"]
    assert list(host.configManager.storageSystem.storageDeviceInfo.scsiLun) == []
    assert list(host.configManager.datastoreSystem.datastore) == list(host.datastore)
    with pytest.raises(vim.fault.InvalidName):
        host.configManager.advancedOption.QueryOptions("No.Such")
    with pytest.raises(vmodl.fault.NotSupported):
        host.configManager.storageSystem.RescanAllHba()
    assert cluster.configurationEx.drsConfig.enabled is False
    assert [d.name for d in host.datastoreBrowser.datastore] == ["site-a-ds1", "site-a-ds2"]
    # What Ansible's vmware_host_facts and vmware_cluster_info read.
    assert host.configManager.vsanSystem.QueryHostStatus().health == "unknown"
    assert cluster.configurationEx.vsanConfigInfo.defaultConfig.autoClaimStorage is False
    usage = cluster.GetResourceUsage()
    assert usage.memCapacityMB == host.hardware.memorySize // MIB
    assert 0 < usage.storageUsedMB + 1 < usage.storageCapacityMB


def test_a_distributed_switch_and_its_port_groups_have_their_policies(tmp_path: Path) -> None:
    with Lab.create(tmp_path / "lab", sites=("site-a",), portgroups=("pg",)) as lab:
        (switch,) = (o for o in lab.sites["site-a"].objects.values() if hasattr(o, "portgroup"))
        (group,) = switch.portgroup
        for config in (switch.config.defaultPortConfig, group.config.defaultPortConfig):
            assert config.vlan.vlanId == 0
            assert config.macManagementPolicy.allowPromiscuous is False
            assert config.uplinkTeamingPolicy.policy.value == "loadbalance_srcid"
        assert group.config.policy.portConfigResetAtDisconnect is True
        assert (switch.config.uuid, switch.config.maxMtu) == (switch.uuid, 1500)


# -- files ----------------------------------------------------------------------------------


@pytest.fixture
def request_folder(lab: Lab, si: Any) -> Callable[..., int]:
    """`request_folder(method, path, body)`: the status of a request for /folder."""
    cookie = si._stub.cookie.split(";")[0]

    def send(
        method: str,
        path: str,
        body: bytes | None = None,
        cookie: str = cookie,
        login: str | None = None,
    ) -> int:
        spec = lab.specs[0]
        connection = http.client.HTTPSConnection(
            spec.host, spec.port, context=unchecked(), timeout=30
        )
        try:
            headers = {"Cookie": cookie} if login is None else {}
            if login is not None:
                text = base64.b64encode(login.encode()).decode()
                headers = {"Authorization": f"Basic {text}"}
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            answer.read()
            # The connection goes on: the body of a refused request was read.
            connection.request("GET", "/", headers={"Cookie": cookie})
            assert connection.getresponse().status == 200
            return answer.status
        finally:
            connection.close()

    return send


@pytest.mark.parametrize("dc", ["site-a-dc", "/site-a-dc", "site-a-dc/"])
def test_a_datacenter_is_named_by_its_path(request_folder: Any, dc: str) -> None:
    """`govc datastore.upload` sends the inventory path, with its slash."""
    where = f"/folder/by-path.bin?dcPath={quote(dc, safe='')}&dsName=site-a-ds1"
    assert request_folder("PUT", where, b"x" * MIB) in (200, 201)
    assert request_folder("GET", where) == 200
    assert request_folder("DELETE", where) == 204


def test_name_and_password_open_the_files_of_a_datastore(
    lab: Lab, request_folder: Any, control: LabControl
) -> None:
    """As Ansible's vsphere_copy sends them, which has no session."""
    where, spec = "/folder/by-name.bin?dcPath=site-a-dc&dsName=site-a-ds1", lab.specs[0]
    login = f"{spec.user}:{spec.password}"
    assert request_folder("PUT", where, b"x", login=login) in (200, 201)
    assert request_folder("HEAD", where, login=login) == 200
    for wrong in (f"{spec.user}:wrong", "nobody:", ":", "é"):
        assert request_folder("GET", where, login=wrong) == 401
    control.set_user("site-a", "reader", "r", ["Datastore.Browse"])
    assert request_folder("GET", where, login="reader:r") == 200
    assert request_folder("DELETE", where, login="reader:r") == 403
    assert request_folder("DELETE", where, login=login) == 204


def test_a_refused_upload_is_answered_and_its_body_read(
    request_folder: Any, control: LabControl
) -> None:
    body = b"x" * (8 * MIB)
    for dc, store, status in (
        ("nowhere", "site-a-ds1", 404),
        ("site-a-dc", "no-such", 404),
        ("site-a-dc", "site-a-ds1", 404),  # the folder does not exist
    ):
        where = f"/folder/no/such/x.bin?dcPath={dc}&dsName={store}"
        assert request_folder("PUT", where, body) == status
    assert request_folder("PUT", "/folder/x?dcPath=site-a-dc", body) == 404
    assert request_folder("PUT", "/folder/x?dsName=site-a-ds1", body, cookie="") == 401
    made = control.create_vm("site-a", "uploaded", disks=[(MIB, True, None)])
    path = made["disks"][0]["path"].partition("] ")[2]
    assert request_folder("PUT", f"/folder/{path}?dsName=site-a-ds1", body) == 403


def test_a_browser_gives_the_details_that_were_asked_for(si: Any, control: LabControl) -> None:
    """libvirt asks for `capacityKb`, and ends with a segmentation fault where it is missing."""
    control.create_vm("site-a", "browsed", disks=[(2 * MIB, True, None)])
    browser = si.content.rootFolder.childEntity[0].datastore[0].browser
    kinds = vim.host.DatastoreBrowser

    def search(**spec: Any) -> dict[str, Any]:
        task = browser.SearchDatastore_Task("[site-a-ds1] browsed", kinds.SearchSpec(**spec))
        WaitForTask(task)
        return {f.path: f for f in task.info.result.file}

    plain = search()["browsed.vmdk"]
    assert (type(plain), plain.fileSize) == (kinds.FileInfo, None)
    details = kinds.FileInfo.Details(
        fileType=True, fileSize=True, modification=True, fileOwner=False
    )
    typed = search(details=details)
    assert type(typed["browsed.vmdk"]) is kinds.VmDiskInfo
    assert typed["browsed.vmx"].fileSize > 0
    wanted = kinds.VmDiskQuery.Details(
        diskType=True, capacityKb=True, hardwareVersion=False, thin=True
    )
    disks = search(query=[kinds.VmDiskQuery(details=wanted)])
    assert disks.keys() == {"browsed.vmdk"}
    assert disks["browsed.vmdk"].capacityKb == 2048
    assert disks["browsed.vmdk"].thin
    with pytest.raises(vim.fault.InvalidDatastore):
        WaitForTask(browser.SearchDatastore_Task("[site-a-ds2]"))


# -- folders and disks ----------------------------------------------------------------------


def test_a_folder_is_destroyed_with_what_is_in_it(si: Any, control: LabControl) -> None:
    vms = si.content.rootFolder.childEntity[0].vmFolder
    outer = vms.CreateFolder("outer")
    inner = outer.CreateFolder("inner")
    made = control.create_vm("site-a", "doomed", disks=[(MIB, True, None)])
    doomed = vim.VirtualMachine(made["moref"], si._stub)
    WaitForTask(inner.MoveIntoFolder_Task([doomed]))
    WaitForTask(doomed.PowerOnVM_Task())
    with pytest.raises(vim.fault.InvalidPowerState):
        WaitForTask(outer.Destroy_Task())
    WaitForTask(doomed.PowerOffVM_Task())
    WaitForTask(outer.Destroy_Task())
    assert all(c.name != "outer" for c in vms.childEntity)
    for gone in (outer, inner, doomed):
        with pytest.raises(vmodl.fault.ManagedObjectNotFound):
            _ = gone.name

    # The VMs in it keep their files.
    outer = vms.CreateFolder("outer")
    inner = outer.CreateFolder("inner")
    made = control.create_vm("site-a", "kept", disks=[(MIB, True, None)])
    WaitForTask(inner.MoveIntoFolder_Task([vim.VirtualMachine(made["moref"], si._stub)]))
    WaitForTask(outer.UnregisterAndDestroy_Task())
    assert all(c.name != "outer" for c in vms.childEntity)
    assert Path(made["disks"][0]["file"]).exists()
    for kept in (vms, si.content.rootFolder):
        with pytest.raises(vmodl.fault.NotSupported):
            WaitForTask(kept.Destroy_Task())


def test_a_vm_is_made_with_the_child_of_another_disk(si: Any, control: LabControl) -> None:
    """`govc vm.create -disk FILE -link` names the parent in the backing of a new disk."""
    parent = control.create_vm("site-a", "golden", disks=[(2 * MIB, True, None)])
    path = parent["disks"][0]["path"]
    kinds = vim.vm.device
    flat = kinds.VirtualDisk.FlatVer2BackingInfo
    disk = kinds.VirtualDisk(
        key=-2,
        controllerKey=-1,
        unitNumber=0,
        capacityInKB=2048,
        backing=flat(
            fileName="[site-a-ds1]",
            diskMode="persistent",
            parent=flat(fileName=path, diskMode="persistent"),
        ),
    )
    controller = kinds.ParaVirtualSCSIController(key=-1, busNumber=0, sharedBus="noSharing")
    spec = vim.vm.ConfigSpec(
        name="offspring",
        guestId="otherGuest64",
        files=vim.vm.FileInfo(vmPathName="[site-a-ds1]"),
        deviceChange=[
            kinds.VirtualDeviceSpec(operation="add", device=controller),
            kinds.VirtualDeviceSpec(operation="add", fileOperation="create", device=disk),
        ],
    )
    dc = si.content.rootFolder.childEntity[0]
    pool = dc.hostFolder.childEntity[0].resourcePool
    task = dc.vmFolder.CreateVM_Task(spec, pool)
    WaitForTask(task)
    vm = task.info.result
    (made,) = [d for d in vm.config.hardware.device if isinstance(d, kinds.VirtualDisk)]
    assert made.capacityInBytes == 2 * MIB
    assert made.backing.parent.fileName == path
    assert made.backing.fileName != path
    WaitForTask(vm.PowerOnVM_Task())
    control.guest_write("site-a", "offspring", made.key, 0, b"c" * 512)
    WaitForTask(vm.PowerOffVM_Task())
    control.power("site-a", "golden", on=True)
    assert control.guest_read("site-a", "golden", 2000, 0, 512) == bytes(512)
    WaitForTask(vm.Destroy_Task())
    assert control.describe_vm("site-a", "golden")["links"] == {path: ""}
    disk.backing.parent.fileName = "[site-a-ds1] no/such.vmdk"
    with pytest.raises(vim.fault.FileNotFound):
        WaitForTask(dc.vmFolder.CreateVM_Task(spec, pool))


def test_a_second_login_in_one_session_is_refused(lab: Lab, connect: Callable[..., Any]) -> None:
    spec = lab.specs[0]
    instance = connect(spec)
    with pytest.raises(vim.fault.InvalidLogin):
        instance.content.sessionManager.Login(spec.user, spec.password)
    assert instance.content.rootFolder.name == "Datacenters"
