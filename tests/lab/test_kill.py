"""kill -9 of the lab while it works: what was acknowledged is there, disks included."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from vreplica import lab as lab_module
from vreplica.lab import Lab, LabControl, LabNotRunning

MIB = 1 << 20
BLOCK = 64 << 10


class Writer(threading.Thread):
    """A guest that writes until the lab dies, and remembers what was acknowledged."""

    def __init__(self, control: LabControl, model: bytearray, seed: int) -> None:
        super().__init__()
        self.control, self.model, self.chance = control, model, random.Random(seed)
        self.in_doubt: tuple[int, bytes] | None = None

    def run(self) -> None:
        while True:
            at = self.chance.randrange(0, len(self.model) // 512 - 8) * 512
            data = self.chance.randbytes(4096)
            self.in_doubt = (at, data)
            try:
                self.control.guest_write("site-a", "busy", 2000, at, data)
            except (LabNotRunning, OSError):
                return
            self.model[at : at + 4096] = data
            self.in_doubt = None


@pytest.mark.parametrize("seed", range(2))
def test_killed_while_snapshots_come_and_go(
    tmp_path: Path, connect: Callable[..., Any], seed: int
) -> None:
    directory = tmp_path / "lab"
    pid = lab_module.up(directory)["pid"]
    control, spec = LabControl(directory), Lab(directory).specs[0]
    capacity = 4 * MIB + 24 * 1024
    control.create_vm("site-a", "busy", disks=[(capacity, True, None)], cbt=True, power_on=True)
    chance, model, snapshots = random.Random(seed), bytearray(capacity), 0
    try:
        for turn in range(3):
            writer = Writer(control, model, seed * 10 + turn)
            writer.start()
            si = connect(spec)
            vm = next(iter(si.content.rootFolder.childEntity[0].vmFolder.childEntity))
            killer = threading.Timer(0.2 + chance.random(), os.kill, (pid, signal.SIGKILL))
            killer.start()
            snapshots = len(work_until_killed(vm, chance))
            killer.join()
            writer.join(30)
            assert not writer.is_alive()
            pid = lab_module.up(directory)["pid"]
            described = control.describe_vm("site-a", "busy")
            assert described["power"] == "poweredOn"
            found = control.guest_read("site-a", "busy", 2000, 0, capacity)
            if writer.in_doubt is not None:
                # The last write was not acknowledged: either state is right, sector by sector.
                at, data = writer.in_doubt
                for start in range(at, at + len(data), 512):
                    sector = found[start : start + 512]
                    assert sector in (data[start - at :][:512], model[start : start + 512])
                    model[start : start + 512] = sector
            assert found == model
            # One snapshot may have been made without the answer having arrived, and so removed.
            assert abs(len(described["snapshots"]) - snapshots) <= 1
            links = {Path(link).name for link in described["links"]}
            folder = directory / "site-a" / "site-a-ds1" / "busy"
            on_disk = {p.name for p in folder.glob("busy*.vmdk")}
            maps = {name for name in on_disk if name.endswith("-ctk.vmdk")}
            assert on_disk - maps - {"busy-flat.vmdk"} == links
    finally:
        lab_module.down(directory)


def work_until_killed(vm: Any, chance: random.Random) -> list[Any]:
    """Snapshots and removals; returns the snapshots that are acknowledged at the end."""
    known: list[Any] = []
    try:
        tree = vm.snapshot.rootSnapshotList if vm.snapshot else []
        while tree:
            known += [t.snapshot for t in tree]
            tree = [c for t in tree for c in t.childSnapshotList]
        while True:
            if len(known) < 3 or chance.random() < 0.5:
                known.append(finished(vm.CreateSnapshot_Task("s", "", False, False)).result)
            else:
                gone = known[chance.randrange(len(known))]
                finished(gone.RemoveSnapshot_Task(False, True))
                known.remove(gone)
    except OSError:
        return known


def finished(task: Any) -> Any:
    while (info := task.info).state not in ("success", "error"):
        time.sleep(0.005)
    if info.error is not None and not isinstance(info.error, vim.fault.TooManySnapshotLevels):
        raise info.error
    return info


def test_killed_in_the_middle_of_a_clone_or_a_move_no_file_is_left_over(
    tmp_path: Path, connect: Callable[..., Any]
) -> None:
    directory = tmp_path / "lab"
    pid = lab_module.up(directory)["pid"]
    control, spec = LabControl(directory), Lab(directory).specs[0]
    chance = random.Random(7)
    content = tmp_path / "content"
    content.write_bytes(chance.randbytes(16 * MIB))
    disks: list[Any] = [(16 * MIB, True, content), (16 * MIB, False, content)]
    control.create_vm("site-a", "source", disks, cbt=True)
    control.create_vm("site-a", "mover", disks, cbt=True)
    interrupted = 0
    try:
        for turn in range(6):
            si = connect(spec)
            vms = {v.name: v for v in si.content.rootFolder.childEntity[0].vmFolder.childEntity}
            stores = {d.name: d for d in si.content.rootFolder.childEntity[0].datastore}
            if turn % 2:
                away = "ds2" if "ds1" in vms["mover"].datastore[0].name else "ds1"
                target = vim.vm.RelocateSpec(datastore=stores[f"site-a-{away}"])
                task = vms["mover"].RelocateVM_Task(target)
            else:
                clone = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False)
                clone.template = False
                task = vms["source"].CloneVM_Task(vms["source"].parent, f"copy{turn}", clone)
            while task.info.state == "queued":
                pass
            time.sleep(chance.random() * 0.1)
            os.kill(pid, signal.SIGKILL)
            pid = lab_module.up(directory)["pid"]
            si = connect(spec)
            task = vim.Task(task._moId, si._stub)
            interrupted += task.info.state == "error"
            names = {v["name"] for v in control.do("list_vms", site="site-a")}
            known: set[str] = set()
            for name in names:
                described = control.describe_vm("site-a", name)
                assert len(described["disks"]) == 2
                known |= set(described["links"])
                assert control.do("power", site="site-a", vm=name, on=True) == {}
                for disk in described["disks"]:
                    key, size = disk["key"], 16 * MIB
                    found = control.guest_read("site-a", name, key, 0, size)
                    assert found == content.read_bytes()
                control.power("site-a", name, on=False)
            site = directory / "site-a"
            on_disk = {
                f"[{p.parts[-3]}] {p.parts[-2]}/{p.name}"
                for p in site.glob("*/*/*.vmdk")
                if not p.name.endswith(("-flat.vmdk", "-ctk.vmdk"))
            }
            assert on_disk == known
            # Every folder that is left is a VM's.
            homes = {f"[{p.parts[-3]}] {p.parts[-2]}/{p.name}" for p in site.glob("*/*/*.vmx")}
            vms = si.content.rootFolder.childEntity[0].vmFolder.childEntity
            assert homes == {v.config.files.vmPathName for v in vms}
            for folder in (p for p in site.glob("*-ds*/*") if p.is_dir()):
                assert list(folder.glob("*.vmx")) or list(folder.glob("*.vmdk"))
    finally:
        lab_module.down(directory)
    assert interrupted


def test_rules_of_faults_go_on_where_they_stood_after_a_kill(
    tmp_path: Path, connect: Callable[..., Any]
) -> None:
    directory = tmp_path / "lab"
    pid = lab_module.up(directory)["pid"]
    control, spec = LabControl(directory), Lab(directory).specs[0]
    try:
        control.add_fault("site-a", method="CurrentTime", fault="FileLocked", skip=1, count=2)
        control.add_nfc_fault("site-a", kind="slow", operation="read", count=None)
        si = connect(spec)
        si.CurrentTime()
        with pytest.raises(vim.fault.FileLocked):
            si.CurrentTime()
        os.kill(pid, signal.SIGKILL)
        pid = lab_module.up(directory)["pid"]
        (rule,) = control.list_faults("site-a")
        assert (rule["seen"], rule["struck"]) == (2, 1)
        assert [r["kind"] for r in control.list_nfc_faults("site-a")] == ["slow"]
        si = connect(spec)
        with pytest.raises(vim.fault.FileLocked):
            si.CurrentTime()
        si.CurrentTime()
        assert control.add_fault("site-a", method="Nothing") == rule["id"] + 1
        control.clear_faults("site-a")
        os.kill(pid, signal.SIGKILL)
        lab_module.up(directory)
        assert control.list_faults("site-a") == []
        assert control.list_nfc_faults("site-a") == []
    finally:
        lab_module.down(directory)
