"""What a snapshot holds depends on what the guest did: consistency that can be told apart."""

from __future__ import annotations

import zipfile
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim

from vreplica.errors import VReplicaError
from vreplica.lab import Lab, LabControl
from vreplica.lab.guest.database import disk_reader, inspect_image
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.open import open_vddk_disk

MIB = 1 << 20


def result(task: Any) -> Any:
    WaitForTask(task)
    return task.info.result


def level_of(lab: Lab, snapshot: Any, acknowledged: int) -> str:
    """By opening the database in the snapshot's disk."""
    device = next(d for d in snapshot.config.hardware.device if d.key == 2000)
    file = lab.sites["site-a"].disks.path(device.backing.fileName)
    with open_vddk_disk(VddkConfig(isolation=False), VddkConnection(), str(file)) as disk:
        return inspect_image(disk_reader(disk)).level(acknowledged)


@pytest.fixture
def database(control: LabControl, si: Any, request: Any) -> Any:
    name = request.node.name[5:40].strip("[]")
    made = control.create_vm(
        "site-a",
        name,
        disks=[(32 * MIB, True, None)],
        guest_id="windows2019srv_64Guest",
        power_on=True,
        cbt=True,
    )
    control.app_start("site-a", name, seed=3)
    return vim.VirtualMachine(made["moref"], si._stub)


def test_images_of_the_three_levels_differ_by_their_database(
    lab: Lab, control: LabControl, database: Any
) -> None:
    name = database.name
    quiesced = vim.vm.WindowsQuiesceSpec(
        timeout=10, vssBackupType=5, vssBootableSystemState=True, vssBackupContext="ctx_auto"
    )
    done = control.app_work("site-a", name, 40, write_back=0.4)
    crash = result(database.CreateSnapshot_Task("crash", "", False, False))
    assert level_of(lab, crash, done) == "crash"

    control.set_guest("site-a", name, quiesce="filesystemOnly")
    done = control.app_work("site-a", name, 40)
    files = result(database.CreateSnapshotEx_Task("files", "", False, quiesced))
    assert level_of(lab, files, done) == "filesystem"

    control.set_guest("site-a", name, quiesce="works")
    done = control.app_work("site-a", name, 40)
    whole = result(database.CreateSnapshotEx_Task("whole", "", False, quiesced))
    assert level_of(lab, whole, done) == "application"

    trees, tree = {}, database.snapshot.rootSnapshotList
    while tree:
        trees[tree[0].name] = tree[0]
        tree = tree[0].childSnapshotList
    # The flag echoes the wish; the manifest shows what VSS did.
    assert [trees[n].quiesced for n in ("crash", "files", "whole")] == [False, True, True]
    assert trees["crash"].backupManifest is None
    folder = lab.directory / "site-a" / "site-a-ds1" / name
    contents = {
        n: sorted(zipfile.ZipFile(folder / trees[n].backupManifest).namelist())
        for n in ("files", "whole")
    }
    assert contents["files"] == ["BCD.xml"]
    assert "writer0.xml" in contents["whole"]
    WaitForTask(database.RemoveAllSnapshots_Task())


def test_a_clean_shutdown_keeps_everything_and_a_power_off_does_not(
    lab: Lab, control: LabControl, database: Any
) -> None:
    name = database.name
    done = control.app_work("site-a", name, 30)
    database.ShutdownGuest()
    while database.runtime.powerState != "poweredOff":
        pass
    clean = result(database.CreateSnapshot_Task("clean", "", False, False))
    # The shutdown finished the transfer that was half done: one transaction more.
    assert level_of(lab, clean, done + 1) == "application"
    WaitForTask(database.PowerOnVM_Task())
    done = control.app_work("site-a", name, 30, write_back=0.3)
    WaitForTask(database.PowerOffVM_Task())
    dirty = result(database.CreateSnapshot_Task("dirty", "", False, False))
    assert level_of(lab, dirty, done) == "crash"
    WaitForTask(database.RemoveAllSnapshots_Task())


def test_quiescing_is_ignored_without_tools_and_fails_by_order(
    control: LabControl, database: Any
) -> None:
    name = database.name
    control.set_guest("site-a", name, quiesce="applicationFault")
    with pytest.raises(vim.fault.ApplicationQuiesceFault):
        WaitForTask(database.CreateSnapshot_Task("no", "", False, True))
    assert database.snapshot is None
    control.set_guest("site-a", name, quiesce="filesystemFault")
    with pytest.raises(vim.fault.FilesystemQuiesceFault):
        WaitForTask(database.CreateSnapshot_Task("no", "", False, True))
    control.set_guest("site-a", name, tools="notRunning")
    taken = result(database.CreateSnapshot_Task("ignored", "", False, True))
    tree = database.snapshot.rootSnapshotList[0]
    assert tree.snapshot == taken
    assert tree.quiesced
    assert tree.backupManifest is None
    assert database.guest.toolsRunningStatus == "guestToolsNotRunning"
    WaitForTask(database.RemoveAllSnapshots_Task())


def test_freeze_scripts_make_a_linux_guest_consistent_or_fail_the_snapshot(
    lab: Lab, control: LabControl, si: Any
) -> None:
    disks: list[Any] = [(32 * MIB, True, None)]
    made = control.create_vm(
        "site-a", "penguin", disks=disks, guest_id="ubuntu64Guest", power_on=True
    )
    vm = vim.VirtualMachine(made["moref"], si._stub)
    control.app_start("site-a", "penguin", seed=3)
    done = control.app_work("site-a", "penguin", 10)
    plain = result(vm.CreateSnapshot_Task("plain", "", False, True))
    assert level_of(lab, plain, done) == "filesystem"

    control.set_programs("site-a", "penguin", {"/bin/sh": ["sh"]})
    folder = "/etc/vmware-tools/backupScripts.d"
    scripts = control.guest_path("site-a", "penguin", folder)
    scripts.mkdir(parents=True)
    for name in ("10-app", "20-log"):
        text = (
            f'#!/bin/sh\necho {name} $1 >> "$GUEST_ROOT/tmp/calls"\n[ ! -e "$GUEST_ROOT/tmp/no" ]'
        )
        (scripts / name).write_text(text)
        (scripts / name).chmod(0o755)
    calls = control.guest_path("site-a", "penguin", "/tmp/calls")
    done = control.app_work("site-a", "penguin", 10)
    frozen = result(vm.CreateSnapshot_Task("frozen", "", False, True))
    assert level_of(lab, frozen, done + 1) == "application"
    assert calls.read_text().splitlines() == [
        "10-app freeze",
        "20-log freeze",
        "20-log thaw",
        "10-app thaw",
    ]
    assert vm.snapshot.rootSnapshotList[0].childSnapshotList[0].backupManifest is None

    control.guest_path("site-a", "penguin", "/tmp/no").touch()
    calls.unlink()
    with pytest.raises(vim.fault.ApplicationQuiesceFault, match="10-app"):
        WaitForTask(vm.CreateSnapshot_Task("no", "", False, True))
    assert calls.read_text().splitlines() == [
        "10-app freeze",
        "20-log freezeFail",
        "10-app freezeFail",
    ]
    WaitForTask(vm.RemoveAllSnapshots_Task())


def test_a_host_that_loses_power_gives_up_its_change_maps(
    control: LabControl, si: Any, database: Any
) -> None:
    before = result(database.CreateSnapshot_Task("before", "", False, False))
    change_id = next(d.backing.changeId for d in before.config.hardware.device if d.key == 2000)
    WaitForTask(database.RemoveAllSnapshots_Task())
    control.host_power_loss("site-a")
    assert database.runtime.powerState == "poweredOff"
    with pytest.raises(vim.fault.FileFault):
        database.QueryChangedDiskAreas(None, 2000, 0, change_id)
    WaitForTask(database.PowerOnVM_Task())
    after = result(database.CreateSnapshot_Task("after", "", False, False))
    with pytest.raises(vim.fault.FileFault):
        database.QueryChangedDiskAreas(after, 2000, 0, change_id)
    assert database.QueryChangedDiskAreas(after, 2000, 0, "*").length == 32 * MIB
    WaitForTask(database.RemoveAllSnapshots_Task())


def test_defects_of_change_tracking_on_demand(control: LabControl, database: Any) -> None:
    name = database.name
    first = result(database.CreateSnapshot_Task("first", "", False, False))
    change_id = next(d.backing.changeId for d in first.config.hardware.device if d.key == 2000)
    for block in range(20):
        control.guest_write("site-a", name, 2000, block * 128 * 1024, b"x" * 512)
    control.guest_write("site-a", name, 2000, 32 * MIB - 512, b"x" * 512)
    later = result(database.CreateSnapshot_Task("later", "", False, False))

    def areas() -> list[Any]:
        return list(database.QueryChangedDiskAreas(later, 2000, 0, change_id).changedArea)

    honest = areas()
    try:
        control.settings("site-a", cbt_bug="drop")
        assert len(areas()) == len(honest) - len(honest) // 10
        control.settings("site-a", cbt_bug="past-end")
        assert areas()[-1].start + areas()[-1].length > 32 * MIB
        control.settings("site-a", cbt_bug="empty-page")
        assert database.QueryChangedDiskAreas(later, 2000, MIB, change_id).length == 0
        with pytest.raises(VReplicaError, match="cbt_bug"):
            control.settings("site-a", cbt_bug="nonsense")
    finally:
        control.settings("site-a", cbt_bug="")
    WaitForTask(database.RemoveAllSnapshots_Task())
