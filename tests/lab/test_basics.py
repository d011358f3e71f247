"""The lab as any vSphere client meets it: login, inventory, power, configuration, restart."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from vreplica import lab as lab_module
from vreplica.lab import Lab, LabControl

MIB = 1 << 20


def test_wrong_password_is_invalid_login(lab: Lab, connect: Callable[..., Any]) -> None:
    with pytest.raises(vim.fault.InvalidLogin):
        connect(lab.specs[0], password="wrong")


def test_nothing_is_answered_without_a_login(lab: Lab, connect: Callable[..., Any]) -> None:
    si = connect(lab.specs[0])
    root = si.content.rootFolder
    si.content.sessionManager.Logout()
    with pytest.raises(vim.fault.NotAuthenticated):
        _ = root.name


def test_a_client_walks_from_the_root_to_a_disk(lab: Lab, si: Any, control: LabControl) -> None:
    made = control.create_vm("site-a", "walk", disks=[(8 * MIB, True, None)])
    dc = si.content.rootFolder.childEntity[0]
    vm = next(v for v in dc.vmFolder.childEntity if v.name == "walk")
    assert vm._moId == made["moref"]
    assert vm.parent == dc.vmFolder
    assert vm.runtime.host.parent.resourcePool == vm.resourcePool
    assert [d.name for d in vm.datastore] == ["site-a-ds1"]
    disk = next(d for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk))
    assert (disk.key, disk.capacityInBytes) == (2000, 8 * MIB)
    assert disk.backing.fileName == "[site-a-ds1] walk/walk.vmdk"
    found = si.content.searchIndex.FindByInventoryPath("/site-a-dc/vm/walk")
    assert found == vm
    assert si.content.searchIndex.FindByUuid(None, vm.config.instanceUuid, True, True) == vm


def test_create_reconfigure_and_destroy_through_the_api(si: Any) -> None:
    dc = si.content.rootFolder.childEntity[0]
    cluster = dc.hostFolder.childEntity[0]
    kinds = vim.vm.device
    controller = kinds.VirtualLsiLogicController(key=-5, busNumber=0, sharedBus="noSharing")
    disk = kinds.VirtualDisk(
        key=-6,
        controllerKey=-5,
        unitNumber=3,
        capacityInKB=4096,
        backing=kinds.VirtualDisk.FlatVer2BackingInfo(
            fileName="[site-a-ds2]", diskMode="persistent", thinProvisioned=False
        ),
    )
    spec = vim.vm.ConfigSpec(
        name="made",
        guestId="debian11_64Guest",
        numCPUs=2,
        memoryMB=512,
        files=vim.vm.FileInfo(vmPathName="[site-a-ds1]"),
        deviceChange=[
            kinds.VirtualDeviceSpec(operation="add", device=controller),
            kinds.VirtualDeviceSpec(operation="add", fileOperation="create", device=disk),
        ],
    )
    task = dc.vmFolder.CreateVM_Task(spec, cluster.resourcePool)
    WaitForTask(task)
    vm = task.info.result
    found = next(d for d in vm.config.hardware.device if isinstance(d, kinds.VirtualDisk))
    assert (found.key, found.controllerKey, found.unitNumber) == (2003, 1000, 3)
    assert found.backing.fileName == "[site-a-ds2] made/made.vmdk"
    with pytest.raises(vim.fault.DuplicateName):
        dc.vmFolder.CreateVM_Task(spec, cluster.resourcePool)

    options = [vim.option.OptionValue(key="vreplica.job", value="x")]
    WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(numCPUs=4, extraConfig=options)))
    assert vm.config.hardware.numCPU == 4
    assert {o.key: o.value for o in vm.config.extraConfig} == {
        "nvram": "made.nvram",
        "vreplica.job": "x",
    }

    WaitForTask(vm.PowerOnVM_Task())
    with pytest.raises(vim.fault.InvalidPowerState):
        vm.Destroy_Task()
    WaitForTask(vm.PowerOffVM_Task())
    WaitForTask(vm.Destroy_Task())
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        _ = vm.name


def test_a_full_unit_is_refused_and_leaves_no_file(lab: Lab, si: Any, control: LabControl) -> None:
    made = control.create_vm("site-a", "units", disks=[(MIB, True, None)])
    vm = vim.VirtualMachine(made["moref"], si._stub)
    kinds = vim.vm.device
    disk = kinds.VirtualDisk(
        key=-1,
        controllerKey=1000,
        unitNumber=0,
        capacityInKB=1024,
        backing=kinds.VirtualDisk.FlatVer2BackingInfo(fileName="", diskMode="persistent"),
    )
    change = kinds.VirtualDeviceSpec(operation="add", fileOperation="create", device=disk)
    folder = lab.directory / "site-a" / "site-a-ds1" / "units"
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(vim.fault.InvalidDeviceSpec):
        WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    assert sorted(p.name for p in folder.iterdir()) == before


def test_unregister_and_register_bring_back_snapshots(si: Any, control: LabControl) -> None:
    made = control.create_vm("site-a", "moved", disks=[(MIB, True, None)])
    vm = vim.VirtualMachine(made["moref"], si._stub)
    WaitForTask(vm.CreateSnapshot_Task("kept", "text", False, False))
    path, pool = vm.config.files.vmPathName, vm.resourcePool
    folder = vm.parent
    vm.UnregisterVM()
    task = folder.RegisterVM_Task(path, None, False, pool)
    WaitForTask(task)
    again = task.info.result
    assert again.name == "moved"
    assert [t.name for t in again.snapshot.rootSnapshotList] == ["kept"]
    WaitForTask(again.RemoveAllSnapshots_Task())


def test_shutdown_of_the_guest_is_seen_in_recent_tasks(si: Any, control: LabControl) -> None:
    made = control.create_vm("site-a", "soft", disks=[(MIB, True, None)], power_on=True)
    vm = vim.VirtualMachine(made["moref"], si._stub)
    vm.ShutdownGuest()
    deadline = time.monotonic() + 10
    while vm.runtime.powerState != "poweredOff" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert vm.runtime.powerState == "poweredOff"
    recent = {
        (t.info.entityName, t.info.name.info.wsdlName) for t in si.content.taskManager.recentTask
    }
    assert ("soft", "ShutdownGuest") in recent
    with pytest.raises(vim.fault.InvalidPowerState):
        vm.ShutdownGuest()


def test_shutdown_without_tools_or_by_a_guest_that_hangs(si: Any, control: LabControl) -> None:
    made = control.create_vm("site-a", "hard", disks=[(MIB, True, None)], power_on=True)
    vm = vim.VirtualMachine(made["moref"], si._stub)
    control.set_guest("site-a", "hard", tools="notInstalled")
    with pytest.raises(vim.fault.ToolsUnavailable):
        vm.ShutdownGuest()
    control.set_guest("site-a", "hard", tools="running", shutdown="hangs")
    vm.ShutdownGuest()
    time.sleep(0.3)
    assert vm.runtime.powerState == "poweredOn"
    assert vm.guest.guestState == "shuttingDown"


def test_waiting_client_sees_a_change_of_power(si: Any, control: LabControl) -> None:
    made = control.create_vm("site-a", "watched", disks=[])
    vm = vim.VirtualMachine(made["moref"], si._stub)
    pc = si.content.propertyCollector
    query = vmodl.query.PropertyCollector
    spec = query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=vm)],
        propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=["runtime.powerState"])],
    )
    with_filter = pc.CreateFilter(spec, False)
    first = pc.WaitForUpdatesEx("", query.WaitOptions(maxWaitSeconds=5))
    assert first.filterSet[0].objectSet[0].changeSet[0].val == "poweredOff"
    nothing = pc.WaitForUpdatesEx(first.version, query.WaitOptions(maxWaitSeconds=0))
    assert nothing is None
    control.power("site-a", "watched", on=True)
    second = pc.WaitForUpdatesEx(first.version, query.WaitOptions(maxWaitSeconds=5))
    assert second.filterSet[0].objectSet[0].changeSet[0].val == "poweredOn"
    # The answer got lost: the client asks once more from where it stood.
    replay = pc.WaitForUpdatesEx(first.version, query.WaitOptions(maxWaitSeconds=5))
    assert replay.version == second.version
    with pytest.raises(vmodl.query.InvalidCollectorVersion):
        pc.WaitForUpdatesEx("99", query.WaitOptions(maxWaitSeconds=0))
    with_filter.DestroyPropertyFilter()


def test_updates_come_in_parts_and_each_session_has_its_own(
    lab: Lab, si: Any, control: LabControl, connect: Callable[..., Any]
) -> None:
    vms = [
        vim.VirtualMachine(control.create_vm("site-a", f"part{n}", disks=[])["moref"], si._stub)
        for n in range(3)
    ]
    query = vmodl.query.PropertyCollector
    spec = query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=vm) for vm in vms],
        propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=["name"])],
    )
    pc, other = si.content.propertyCollector, connect(lab.specs[0]).content.propertyCollector
    with_filter = pc.CreateFilter(spec, False)
    assert other.filter == []
    assert other.WaitForUpdatesEx("", query.WaitOptions(maxWaitSeconds=0)) is None
    options = query.WaitOptions(maxWaitSeconds=0, maxObjectUpdates=2)
    first = pc.WaitForUpdatesEx("", options)
    assert (first.truncated, len(first.filterSet[0].objectSet)) == (True, 2)
    rest = pc.WaitForUpdatesEx(first.version, options)
    assert (rest.truncated, len(rest.filterSet[0].objectSet)) == (False, 1)
    seen = [u.obj for part in (first, rest) for u in part.filterSet[0].objectSet]
    assert seen == vms
    with_filter.DestroyPropertyFilter()


def test_pages_of_properties_and_paths_with_keys(si: Any, control: LabControl) -> None:
    for number in range(3):
        control.create_vm("site-a", f"page{number}", disks=[(MIB, True, None)])
    view = si.content.viewManager.CreateContainerView(
        si.content.rootFolder, [vim.VirtualMachine], True
    )
    query = vmodl.query.PropertyCollector
    walk = query.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)
    paths = ["name", "config.hardware.device[2000].capacityInBytes"]
    spec = query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
        propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=paths)],
    )
    pc = si.content.propertyCollector
    found, answer = [], pc.RetrievePropertiesEx([spec], query.RetrieveOptions(maxObjects=2))
    while answer:
        assert len(answer.objects) <= 2
        found += answer.objects
        answer = pc.ContinueRetrievePropertiesEx(answer.token) if answer.token else None
    by_name = {o.propSet[0].val: o for o in found}
    assert {"page0", "page1", "page2"} <= set(by_name)
    assert by_name["page1"].propSet[1].val == MIB
    bad = query.PropertySpec(type=vim.VirtualMachine, pathSet=["nothing"])
    spec.propSet = [bad]
    with pytest.raises(vmodl.query.InvalidProperty):
        pc.RetrieveContents([spec])


def test_kill_and_restart_keep_everything_that_was_acknowledged(
    tmp_path: Path, connect: Callable[..., Any]
) -> None:
    found = lab_module.up(tmp_path / "lab")
    control = LabControl(tmp_path / "lab")
    spec = Lab(tmp_path / "lab").specs[0]
    made = control.create_vm(
        "site-a", "kept", disks=[(4 * MIB, True, None)], cbt=True, power_on=True
    )
    si = connect(spec)
    vm = vim.VirtualMachine(made["moref"], si._stub)
    task = vm.CreateSnapshot_Task("s", "", False, False)
    WaitForTask(task)
    control.guest_write("site-a", "kept", 2000, 65536, b"k" * 512)
    change_id = task.info.result.config.hardware.device
    before = [d.backing.changeId for d in change_id if isinstance(d, vim.vm.device.VirtualDisk)]
    os.kill(found["pid"], signal.SIGKILL)
    while lab_module.status(tmp_path / "lab")["running"]:
        time.sleep(0.02)
    again = lab_module.up(tmp_path / "lab")
    try:
        assert again["pid"] != found["pid"]
        # The pooled connection fails once, and the session is gone.
        with pytest.raises(OSError):
            _ = vm.name
        with pytest.raises(vim.fault.NotAuthenticated):
            _ = vm.name
        si.content.sessionManager.Login(spec.user, spec.password)
        assert vm.name == "kept"
        assert vm.runtime.powerState == "poweredOn"
        snapshot = vm.snapshot.rootSnapshotList[0].snapshot
        after = [
            d.backing.changeId
            for d in snapshot.config.hardware.device
            if isinstance(d, vim.vm.device.VirtualDisk)
        ]
        assert after == before
        assert control.guest_read("site-a", "kept", 2000, 65536, 512) == b"k" * 512
    finally:
        assert lab_module.down(tmp_path / "lab")
    assert not lab_module.status(tmp_path / "lab")["running"]
