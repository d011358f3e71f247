"""Many VMs on many hosts, and what else a larger inventory has."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim, vmodl
from pyVmomi.SoapAdapter import SoapSerializer

from vreplica.lab import Lab, LabControl
from vreplica.lab.api.managed import vmodl_class
from vreplica.lab.api.properties import _VAL
from vreplica.lab.api.soap import Serializer
from vreplica.lab.api.vmodl import NEWEST
from vreplica.lab.vcenter.make_vm import make_vm

COUNT = 200
TYPICAL = (
    "name",
    "runtime.powerState",
    "config.uuid",
    "config.changeTrackingEnabled",
    "config.hardware.device",
    "snapshot",
    "guest",
)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab that was filled and stopped."""
    lab = Lab.create(
        tmp_path_factory.mktemp("large"), sites=("site-a",), hosts=20, portgroups=("dpg",)
    )
    with lab:
        for number in range(COUNT):
            host = f"esx{number % 20 + 1}.site-a.lab"
            make_vm(lab.sites["site-a"], f"vm{number:04}", disks=[], host=host)
    return Lab(lab.directory)


def query(root: Any, view: Any, paths: tuple[str, ...]) -> Any:
    kinds = vmodl.query.PropertyCollector
    walk = kinds.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)
    return kinds.FilterSpec(
        objectSet=[kinds.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
        propSet=[kinds.PropertySpec(type=vim.VirtualMachine, pathSet=list(paths))],
    )


def test_many_vms_start_and_answer_a_query(large: Lab, connect: Callable[..., Any]) -> None:
    """How soon: benchmarks/lab_scale.py, with 1,000 VMs."""
    with large:
        si = connect(large.specs[0])
        root = si.content.rootFolder
        view = si.content.viewManager.CreateContainerView(root, [vim.VirtualMachine], True)
        found = si.content.propertyCollector.RetrieveContents([query(root, view, TYPICAL)])
        assert len(found) == COUNT
        hosts = root.childEntity[0].hostFolder.childEntity[0].host
        assert [len(h.vm) for h in hosts] == [COUNT // 20] * 20


def test_without_a_scheduler_the_caller_names_the_host(
    large: Lab, connect: Callable[..., Any]
) -> None:
    with large:
        si = connect(large.specs[0])
        dc = si.content.rootFolder.childEntity[0]
        cluster = dc.hostFolder.childEntity[0]
        group = next(n for n in dc.network if n.name == "dpg")
        port = vim.dvs.PortConnection(
            portgroupKey=group.key, switchUuid=group.config.distributedVirtualSwitch.uuid
        )
        card = vim.vm.device.VirtualVmxnet3(
            key=-1,
            backing=vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(port=port),
        )
        spec = vim.vm.ConfigSpec(
            name="placed",
            files=vim.vm.FileInfo(vmPathName="[site-a-ds1]"),
            deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="add", device=card)],
        )
        with pytest.raises(vmodl.fault.InvalidArgument):
            dc.vmFolder.CreateVM_Task(spec, cluster.resourcePool)
        task = dc.vmFolder.CreateVM_Task(spec, cluster.resourcePool, cluster.host[3])
        while task.info.state in ("queued", "running"):
            time.sleep(0.01)
        vm = task.info.result
        assert vm.runtime.host == cluster.host[3]
        assert vm.network == [group]


def test_properties_that_a_user_may_not_read_are_in_the_missing_set(
    lab: Lab, control: LabControl, connect: Callable[..., Any], tmp_path: Path
) -> None:
    control.set_user("site-a", "viewer", "v", [])
    si = connect(lab.specs[0], user="viewer", password="v")
    kinds = vmodl.query.PropertyCollector
    manager = si.content.sessionManager
    names = ["sessionList", "defaultLocale"]
    spec = kinds.FilterSpec(
        objectSet=[kinds.ObjectSpec(obj=manager)],
        propSet=[kinds.PropertySpec(type=vim.SessionManager, pathSet=names)],
    )
    (content,) = si.content.propertyCollector.RetrieveContents([spec])
    assert [p.name for p in content.propSet] == ["defaultLocale"]
    assert [(m.path, type(m.fault)) for m in content.missingSet] == [
        ("sessionList", vim.fault.NoPermission)
    ]
    with pytest.raises(vim.fault.NoPermission):
        _ = manager.sessionList


def test_every_property_of_every_object_can_be_read_and_is_spelled_as_pyvmomi_spells_it(
    lab: Lab, si: Any, control: LabControl
) -> None:
    """The lab writes plain fields by itself; the elements are those of pyvmomi's serializer."""
    disks: list[Any] = [(1 << 20, True, None)]
    made = control.create_vm("site-a", "a & <b>", disks=disks, cbt=True, power_on=True)
    task = vim.VirtualMachine(made["moref"], si._stub).CreateSnapshot_Task("s", "", False, False)
    while task.info.state in ("queued", "running"):
        time.sleep(0.01)
    site, kinds = lab.sites["site-a"], vmodl.query.PropertyCollector

    class Plain(Serializer):
        _SerializeDataObject = SoapSerializer._SerializeDataObject

    for item in list(site.objects.values()):
        kind = vmodl_class(type(item))
        spec = kinds.FilterSpec(
            objectSet=[kinds.ObjectSpec(obj=kind(item._moId))],
            propSet=[kinds.PropertySpec(type=kind, all=True)],
        )
        (content,) = si.content.propertyCollector.RetrieveContents([spec])
        assert not content.missingSet
        for value in (p.val for p in content.propSet):
            for version in ("vim.version.version9", NEWEST):
                texts = []
                for serializer in (Serializer, Plain):
                    writer = StringIO()
                    serializer(writer, version).Serialize(value, _VAL)
                    texts.append(writer.getvalue())
                assert texts[0] == texts[1]


def test_custom_attributes_and_folders(si: Any, control: LabControl) -> None:
    made = control.create_vm("site-a", "labelled", disks=[])
    vm = vim.VirtualMachine(made["moref"], si._stub)
    field = si.content.customFieldsManager.AddCustomFieldDef("owner", vim.VirtualMachine)
    si.content.customFieldsManager.SetField(vm, field.key, "ops")
    assert [(v.key, v.value) for v in vm.customValue] == [(field.key, "ops")]
    folder = vm.parent.CreateFolder("replicas")
    task = folder.MoveIntoFolder_Task([vm])
    while task.info.state in ("queued", "running"):
        time.sleep(0.01)
    found = si.content.searchIndex.FindByInventoryPath("/site-a-dc/vm/replicas/labelled")
    assert found == vm
    with pytest.raises(vim.fault.DuplicateName):
        vm.parent.parent.CreateFolder("replicas")
