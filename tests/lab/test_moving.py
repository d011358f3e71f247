"""Clones, Storage vMotion, and files and disks without a VM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from vreplica.lab import Lab, LabControl

MIB = 1 << 20


def result(task: Any) -> Any:
    WaitForTask(task)
    return task.info.result


def disk_of(vm: Any) -> Any:
    return next(d for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk))


@pytest.fixture
def source(control: LabControl, si: Any, request: Any) -> Any:
    name = request.node.name[5:40]
    made = control.create_vm("site-a", name, disks=[(2 * MIB, True, None)], cbt=True, power_on=True)
    control.guest_write("site-a", name, 2000, 0, b"one" + bytes(509))
    return vim.VirtualMachine(made["moref"], si._stub)


def head(control: LabControl, vm: Any) -> bytes:
    control.power("site-a", vm._moId, on=True)
    return control.guest_read("site-a", vm._moId, 2000, 0, 512)[:3]


def test_a_full_clone_has_its_own_disks(si: Any, control: LabControl, source: Any) -> None:
    taken = result(source.CreateSnapshot_Task("s", "", False, False))
    control.guest_write("site-a", source.name, 2000, 0, b"two" + bytes(509))
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=False)
    spec.snapshot = taken
    clone = result(source.CloneVM_Task(source.parent, source.name + "-clone", spec))
    assert disk_of(clone).backing.parent is None
    assert disk_of(clone).backing.uuid != disk_of(source).backing.uuid
    assert clone.config.instanceUuid != source.config.instanceUuid
    assert not clone.config.changeTrackingEnabled
    WaitForTask(source.PowerOffVM_Task())
    WaitForTask(source.Destroy_Task())
    assert head(control, clone) == b"one"


def test_a_linked_clone_keeps_what_it_stands_on(si: Any, control: LabControl, source: Any) -> None:
    taken = result(source.CreateSnapshot_Task("s", "", False, False))
    where = vim.vm.RelocateSpec(diskMoveType="createNewChildDiskBacking")
    spec = vim.vm.CloneSpec(location=where, powerOn=False, template=False, snapshot=taken)
    clone = result(source.CloneVM_Task(source.parent, source.name + "-link", spec))
    assert disk_of(clone).backing.parent.fileName == disk_of(taken).backing.fileName
    control.guest_write("site-a", source.name, 2000, 0, b"two" + bytes(509))
    WaitForTask(taken.RemoveSnapshot_Task(False))
    assert head(control, clone) == b"one"
    control.guest_write("site-a", clone._moId, 2000, 0, b"own" + bytes(509))
    assert control.guest_read("site-a", source.name, 2000, 0, 512)[:3] == b"two"
    WaitForTask(source.PowerOffVM_Task())
    WaitForTask(source.Destroy_Task())
    assert control.guest_read("site-a", clone._moId, 2000, 0, 512)[:3] == b"own"


def test_an_instant_clone_runs_beside_its_parent(si: Any, control: LabControl, source: Any) -> None:
    spec = vim.vm.InstantCloneSpec(name=source.name + "-now", location=vim.vm.RelocateSpec())
    clone = result(source.InstantClone_Task(spec))
    assert clone.runtime.powerState == "poweredOn"
    control.guest_write("site-a", clone._moId, 2000, 0, b"own" + bytes(509))
    assert control.guest_read("site-a", source.name, 2000, 0, 512)[:3] == b"one"


def test_storage_vmotion_moves_every_link_and_goes_on_tracking(
    lab: Lab, si: Any, control: LabControl, source: Any
) -> None:
    taken = result(source.CreateSnapshot_Task("s", "", False, False))
    change_id = disk_of(taken).backing.changeId
    target = next(d for d in source.parent.parent.datastore if d.name == "site-a-ds2")
    WaitForTask(source.RelocateVM_Task(vim.vm.RelocateSpec(datastore=target)))
    assert disk_of(source).backing.fileName.startswith("[site-a-ds2]")
    assert disk_of(taken).backing.fileName.startswith("[site-a-ds2]")
    # The home goes with them, and of the old one nothing is left.
    assert not (lab.directory / "site-a" / "site-a-ds1" / source.name).exists()
    files = source.config.files
    assert files.vmPathName == f"[site-a-ds2] {source.name}/{source.name}.vmx"
    assert files.snapshotDirectory == taken.config.files.snapshotDirectory
    assert files.snapshotDirectory == f"[site-a-ds2] {source.name}/"
    kinds = {f.type: f.name for f in source.layoutEx.file if f.accessible}
    assert kinds["config"] == files.vmPathName
    assert all(name.startswith("[site-a-ds2]") for name in kinds.values())
    (event,) = si.content.eventManager.QueryEvents(
        vim.event.EventFilterSpec(
            entity=vim.event.EventFilterSpec.ByEntity(entity=source, recursion="self"),
            eventTypeId=["VmRelocatedEvent"],
        )
    )
    assert event.sourceDatastore.name == "site-a-ds1"
    control.guest_write("site-a", source.name, 2000, MIB, b"new" + bytes(509))
    later = result(source.CreateSnapshot_Task("later", "", False, False))
    page = source.QueryChangedDiskAreas(later, 2000, 0, change_id)
    assert [(a.start, a.length) for a in page.changedArea] == [(MIB, 65536)]
    assert control.guest_read("site-a", source.name, 2000, 0, 512)[:3] == b"one"
    WaitForTask(source.RevertToCurrentSnapshot_Task())
    assert source.config.files.vmPathName.startswith("[site-a-ds2]")
    WaitForTask(source.RemoveAllSnapshots_Task())


def test_a_home_moves_with_its_manifests_and_not_into_a_strangers_folder(
    lab: Lab, si: Any, control: LabControl
) -> None:
    disks: list[Any] = [(2 * MIB, True, None), (2 * MIB, True, None)]
    made = control.create_vm("site-a", "nomad", disks, guest_id="windows2019srv_64Guest")
    vm = vim.VirtualMachine(made["moref"], si._stub)
    control.power("site-a", "nomad", on=True)
    quiesced = vim.vm.WindowsQuiesceSpec(timeout=10)
    result(vm.CreateSnapshotEx_Task("s", "", False, quiesced))
    ds2 = lab.directory / "site-a" / "site-a-ds2"
    (ds2 / "nomad").mkdir()
    (ds2 / "nomad" / "stranger.txt").write_text("there before")
    target = next(d for d in vm.parent.parent.datastore if d.name == "site-a-ds2")
    apart = vim.vm.RelocateSpec.DiskLocator(diskId=2000, datastore=vm.datastore[0])
    with pytest.raises(vim.fault.InvalidState):
        WaitForTask(vm.RelocateVM_Task(vim.vm.RelocateSpec(datastore=target, disk=[apart])))
    WaitForTask(vm.RelocateVM_Task(vim.vm.RelocateSpec(datastore=target)))
    assert vm.config.files.vmPathName == "[site-a-ds2] nomad_1/nomad.vmx"
    assert [f.name for f in (ds2 / "nomad").iterdir()] == ["stranger.txt"]
    manifest = vm.snapshot.rootSnapshotList[0].backupManifest
    assert (ds2 / "nomad_1" / manifest).exists()
    WaitForTask(vm.RemoveAllSnapshots_Task())
    assert not (ds2 / "nomad_1" / manifest).exists()
    # One disk away from the others, and nothing else: the home stays.
    away = next(d for d in vm.parent.parent.datastore if d.name == "site-a-ds1")
    locator = vim.vm.RelocateSpec.DiskLocator(diskId=2001, datastore=away)
    WaitForTask(vm.RelocateVM_Task(vim.vm.RelocateSpec(disk=[locator])))
    assert vm.config.files.vmPathName == "[site-a-ds2] nomad_1/nomad.vmx"
    stores = [d.backing.datastore.name for d in vm.config.hardware.device if d.key in (2000, 2001)]
    assert stores == ["site-a-ds2", "site-a-ds1"]
    # What it has now is what another vCenter would register.
    control.power("site-a", "nomad", on=False)
    folder, pool, path = vm.parent, vm.resourcePool, vm.config.files.vmPathName
    vm.UnregisterVM()
    again = result(folder.RegisterVM_Task(path=path, asTemplate=False, pool=pool))
    assert again.config.files.vmPathName == path
    control.power("site-a", "nomad", on=True)


def test_a_linked_clone_takes_a_copy_of_what_it_stands_on(
    lab: Lab, si: Any, control: LabControl, source: Any
) -> None:
    taken = result(source.CreateSnapshot_Task("s", "", False, False))
    where = vim.vm.RelocateSpec(diskMoveType="createNewChildDiskBacking")
    spec = vim.vm.CloneSpec(location=where, powerOn=False, template=False, snapshot=taken)
    clone = result(source.CloneVM_Task(source.parent, source.name + "-link", spec))
    target = next(d for d in source.parent.parent.datastore if d.name == "site-a-ds2")
    WaitForTask(clone.RelocateVM_Task(vim.vm.RelocateSpec(datastore=target)))
    assert disk_of(clone).backing.parent.fileName.startswith("[site-a-ds2]")
    # The other VM keeps its own, and is not needed any more.
    assert control.guest_read("site-a", source.name, 2000, 0, 512)[:3] == b"one"
    WaitForTask(source.PowerOffVM_Task())
    WaitForTask(source.Destroy_Task())
    assert head(control, clone) == b"one"


def test_a_move_to_a_datastore_that_is_full_or_of_a_disk_in_use_changes_nothing(
    lab: Lab, si: Any, control: LabControl, source: Any
) -> None:
    target = next(d for d in source.parent.parent.datastore if d.name == "site-a-ds2")
    before = control.describe_vm("site-a", source.name)["links"]
    site = lab.sites["site-a"]
    capacity = target.summary.capacity
    control.set_datastore("site-a", "site-a-ds2", capacity=site.disks.used("site-a-ds2") + 512)
    with pytest.raises(vim.fault.NoDiskSpace):
        WaitForTask(source.RelocateVM_Task(vim.vm.RelocateSpec(datastore=target)))
    control.set_datastore("site-a", "site-a-ds2", capacity=capacity)
    WaitForTask(source.PowerOffVM_Task())
    (link,) = before
    with site.disks.open(link, read_only=False), pytest.raises(vim.fault.FileLocked):
        WaitForTask(source.RelocateVM_Task(vim.vm.RelocateSpec(datastore=target)))
    assert control.describe_vm("site-a", source.name)["links"] == before
    assert not (lab.directory / "site-a" / "site-a-ds2" / source.name).exists()
    assert head(control, source) == b"one"


def test_files_and_disks_without_a_vm(lab: Lab, si: Any, source: Any) -> None:
    content, dc = si.content, source.parent.parent
    files, disks = content.fileManager, content.virtualDiskManager
    files.MakeDirectory("[site-a-ds1] loose/deep", dc, True)
    spec = vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
        capacityKb=1024, diskType="thin", adapterType="lsiLogic"
    )
    path = "[site-a-ds1] loose/deep/x.vmdk"
    WaitForTask(disks.CreateVirtualDisk_Task(path, dc, spec))
    with pytest.raises(vmodl.fault.InvalidArgument):
        WaitForTask(disks.DeleteVirtualDisk_Task(path))
    with pytest.raises(vim.fault.FileAlreadyExists):
        WaitForTask(disks.CreateVirtualDisk_Task(path, dc, spec))
    WaitForTask(disks.ExtendVirtualDisk_Task(path, dc, 2048, False))
    assert lab.sites["site-a"].disks.capacity(path) == 2 * MIB
    WaitForTask(disks.CopyVirtualDisk_Task(path, dc, "[site-a-ds1] loose/y.vmdk", dc))
    disks.SetVirtualDiskUuid(path, dc, "60 00 c2 91 00 00 00 00-00 00 00 00 00 00 00 01")
    assert disks.QueryVirtualDiskUuid(path, dc).startswith("60 00 c2 91")
    browser = next(d for d in dc.datastore if d.name == "site-a-ds1").browser
    details = vim.host.DatastoreBrowser.SearchSpec(matchPattern=["*.vmdk"])
    found = result(browser.SearchDatastoreSubFolders_Task("[site-a-ds1] loose", details))
    by_folder = {Path(r.folderPath.partition("] ")[2]).name: r.file for r in found}
    assert {f.path for f in by_folder["deep"]} >= {"x.vmdk"}
    with pytest.raises(vim.fault.FileLocked):
        WaitForTask(disks.DeleteVirtualDisk_Task(disk_of(source).backing.fileName, dc))
    WaitForTask(disks.DeleteVirtualDisk_Task(path, dc))
    WaitForTask(files.DeleteDatastoreFile_Task("[site-a-ds1] loose", dc))
    assert not (lab.directory / "site-a" / "site-a-ds1" / "loose").exists()
    with pytest.raises(vim.fault.FileNotFound):
        WaitForTask(files.DeleteDatastoreFile_Task("[site-a-ds1] loose", dc))
