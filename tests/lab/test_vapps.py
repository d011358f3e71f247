"""vApps: VMs in them have no folder, paths go through them, and they are started as a whole."""

from __future__ import annotations

from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from vreplica.lab import Lab, LabControl


@pytest.fixture
def datacenter(si: Any) -> Any:
    return si.content.rootFolder.childEntity[0]


def make_vapp(pool: Any, name: str, folder: Any = None) -> Any:
    return pool.CreateVApp(
        name,
        vim.ResourceConfigSpec(
            cpuAllocation=vim.ResourceAllocationInfo(),
            memoryAllocation=vim.ResourceAllocationInfo(),
        ),
        vim.vApp.VAppConfigSpec(annotation="shop"),
        folder,
    )


def child(app: Any, name: str) -> Any:
    spec = vim.vm.ConfigSpec(name=name, files=vim.vm.FileInfo(vmPathName="[site-a-ds1]"))
    task = app.CreateChildVM_Task(spec, None)
    WaitForTask(task)
    return task.info.result


def test_a_vm_in_nested_vapps_has_no_folder_and_a_path(si: Any, datacenter: Any) -> None:
    pool = datacenter.hostFolder.childEntity[0].resourcePool
    outer = make_vapp(pool, "shop", datacenter.vmFolder)
    inner = make_vapp(outer, "db")
    vm = child(inner, "vapp-vm")
    assert (vm.parent, vm.parentVApp, vm.resourcePool) == (None, inner, inner)
    assert (inner.parent, inner.parentFolder, inner.parentVApp) == (outer, None, outer)
    assert (outer.parent, outer.parentFolder, outer.parentVApp) == (pool, datacenter.vmFolder, None)
    assert outer in pool.resourcePool
    assert outer in datacenter.vmFolder.childEntity
    assert list(inner.vm) == [vm]
    assert list(outer.vm) == []
    search = si.content.searchIndex
    assert search.FindByInventoryPath("site-a-dc/vm/shop/db/vapp-vm") == vm
    assert search.FindByUuid(datacenter, vm.config.instanceUuid, True, True) == vm
    assert search.FindChild(inner, "vapp-vm") == vm
    with pytest.raises(vim.fault.DuplicateName):
        child(inner, "vapp-vm")
    with pytest.raises(vim.fault.DuplicateName):
        make_vapp(pool, "shop", datacenter.vmFolder)

    views = si.content.viewManager
    view = views.CreateContainerView(si.content.rootFolder, [vim.VirtualMachine], True)
    assert [v for v in view.view if v == vm] == [vm]
    for container in (outer, pool, vm.runtime.host):
        inside = views.CreateContainerView(container, [vim.VirtualMachine], True)
        assert vm in inside.view
    with pytest.raises(vmodl.fault.InvalidArgument):
        views.CreateContainerView(vm, [], True)
    apps = views.CreateContainerView(datacenter.vmFolder, [vim.VirtualApp], True)
    assert {a.name for a in apps.view} == {"shop", "db"}

    events = si.content.eventManager
    entity = vim.event.EventFilterSpec.ByEntity(entity=outer, recursion="children")
    about = events.QueryEvents(vim.event.EventFilterSpec(entity=entity))
    assert [type(e).__name__.rpartition(".")[2] for e in about] == ["VmCreatedEvent"]

    WaitForTask(outer.PowerOnVApp_Task())
    assert vm.runtime.powerState == "poweredOn"
    assert outer.summary.vAppState == "started"
    with pytest.raises(vim.fault.InvalidPowerState):
        WaitForTask(outer.Destroy_Task())
    WaitForTask(outer.PowerOffVApp_Task(True))
    WaitForTask(outer.Destroy_Task())
    assert search.FindByInventoryPath("site-a-dc/vm/shop") is None
    assert outer not in pool.resourcePool


def test_vms_move_into_a_vapp_and_out(lab: Lab, control: LabControl, connect: Any) -> None:
    si = connect(lab.specs[0])
    datacenter = si.content.rootFolder.childEntity[0]
    control.create_vm("site-a", "mover", disks=[])
    pool = datacenter.hostFolder.childEntity[0].resourcePool
    folder = datacenter.vmFolder
    vm = si.content.searchIndex.FindChild(folder, "mover")
    app = make_vapp(pool, "team", folder)
    app.MoveIntoResourcePool([vm])
    assert (vm.parent, vm.parentVApp) == (None, app)
    assert vm not in folder.childEntity
    assert vm not in pool.vm
    with pytest.raises(vmodl.fault.NotSupported):
        WaitForTask(folder.MoveIntoFolder_Task([vm]))
    spec = vim.vm.ConfigSpec(name="x", files=vim.vm.FileInfo(vmPathName="[site-a-ds1]"))
    with pytest.raises(vmodl.fault.InvalidArgument):
        WaitForTask(folder.CreateVM_Task(spec, app))

    # It is there after a restart, too.
    control.restart_site("site-a")
    again = connect(lab.specs[0])
    found = again.content.searchIndex.FindByInventoryPath("site-a-dc/vm/team/mover")
    assert found.parentVApp.name == "team"
    found.resourcePool.parent.MoveIntoResourcePool([found])
    assert (found.parent.name, found.parentVApp) == ("vm", None)
