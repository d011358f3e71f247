"""Snapshots as chains of real VMDK links, and change tracking bounded by them."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from vreplica.extents import Extents
from vreplica.lab import Lab, LabControl

KIB = 1 << 10
MIB = 1 << 20
BLOCK = 64 * KIB


def machine(si: Any, made: dict[str, Any]) -> Any:
    return vim.VirtualMachine(made["moref"], si._stub)


def snapshot(vm: Any, name: str, **options: Any) -> Any:
    task = vm.CreateSnapshot_Task(name, "", False, options.get("quiesce", False))
    WaitForTask(task)
    return task.info.result


def disk_of(config: Any, key: int = 2000) -> Any:
    return next(d for d in config.hardware.device if d.key == key)


def areas(vm: Any, of: Any, change_id: str, capacity: int, key: int = 2000) -> Extents:
    """All pages, with the coverage that a client must check."""
    found, at = [], 0
    while at < capacity:
        page = vm.QueryChangedDiskAreas(of, key, at, change_id)
        assert page.startOffset == at
        assert page.length > 0
        for area in page.changedArea:
            assert at <= area.start < area.start + area.length <= at + page.length
            found.append((area.start, area.start + area.length))
        at += page.length
    assert at == capacity
    return Extents.from_pairs(found)


class Machine:
    """A VM with one disk and a model of its content, changed only through the guest."""

    def __init__(self, control: LabControl, si: Any, name: str, capacity: int, **more: Any) -> None:
        self.control, self.capacity, self.name = control, capacity, name
        self.made = control.create_vm(
            "site-a", name, disks=[(capacity, True, None)], power_on=True, **more
        )
        self.vm = machine(si, self.made)
        self.model = np.zeros(capacity, np.uint8)

    def write(self, offset: int, data: bytes) -> None:
        self.control.guest_write("site-a", self.name, 2000, offset, data)
        self.model[offset : offset + len(data)] = np.frombuffer(data, np.uint8)

    def content(self) -> np.ndarray[Any, Any]:
        data = self.control.guest_read("site-a", self.name, 2000, 0, self.capacity)
        return np.frombuffer(data, np.uint8)

    @property
    def links(self) -> dict[str, str]:
        links: dict[str, str] = self.control.describe_vm("site-a", self.name)["links"]
        return links


@pytest.fixture
def make(control: LabControl, si: Any, request: Any) -> Callable[..., Machine]:
    def build(capacity: int = 4 * MIB, **more: Any) -> Machine:
        return Machine(control, si, request.node.name[:60], capacity, **more)

    return build


def test_a_snapshot_is_a_link_and_removing_it_merges_the_link(make: Callable[..., Machine]) -> None:
    m = make()
    m.write(0, b"a" * BLOCK)
    first = snapshot(m.vm, "first")
    m.write(BLOCK, b"b" * 512)
    second = snapshot(m.vm, "second")
    m.write(2 * BLOCK, b"c" * 512)
    assert len(m.links) == 3
    assert disk_of(first.config).backing.fileName.endswith(f"{m.name}.vmdk")
    assert disk_of(second.config).backing.fileName.endswith("-000001.vmdk")
    assert (
        disk_of(m.vm.config).backing.parent.parent.fileName
        == disk_of(first.config).backing.fileName
    )
    WaitForTask(first.RemoveSnapshot_Task(False))
    # The second snapshot now stands for the base, which took what the link held.
    assert disk_of(second.config).backing.fileName.endswith(f"{m.name}.vmdk")
    assert len(m.links) == 2
    assert np.array_equal(m.content(), m.model)
    WaitForTask(m.vm.RemoveAllSnapshots_Task())
    assert len(m.links) == 1
    assert m.vm.snapshot is None
    assert np.array_equal(m.content(), m.model)


def test_a_tree_with_two_branches_keeps_the_shared_link(make: Callable[..., Machine]) -> None:
    m = make()
    m.write(0, b"1" * 512)
    root = snapshot(m.vm, "root")
    m.write(0, b"2" * 512)
    left = snapshot(m.vm, "left")
    WaitForTask(root.RevertToSnapshot_Task())
    WaitForTask(m.vm.PowerOnVM_Task())
    m.model[:512] = ord("1")
    m.write(512, b"3" * 512)
    right = snapshot(m.vm, "right")
    tree = m.vm.snapshot.rootSnapshotList
    assert [t.name for t in tree] == ["root"]
    assert sorted(t.name for t in tree[0].childSnapshotList) == ["left", "right"]
    assert m.vm.snapshot.currentSnapshot == right
    WaitForTask(root.RemoveSnapshot_Task(False))
    assert np.array_equal(m.content(), m.model)
    WaitForTask(left.RevertToSnapshot_Task())
    WaitForTask(m.vm.PowerOnVM_Task())
    assert m.content()[:1024].tobytes() == b"2" * 512 + bytes(512)
    WaitForTask(m.vm.RemoveAllSnapshots_Task())
    assert len(m.links) == 1
    assert m.content()[:1024].tobytes() == b"2" * 512 + bytes(512)


def test_the_tree_shows_a_snapshot_taken_after_its_parent_was_read(
    make: Callable[..., Machine],
) -> None:
    m = make(MIB)
    snapshot(m.vm, "first")
    assert not m.vm.snapshot.rootSnapshotList[0].childSnapshotList
    second = snapshot(m.vm, "second")
    (shown,) = m.vm.snapshot.rootSnapshotList[0].childSnapshotList
    assert shown.snapshot == second


def test_revert_brings_back_disks_configuration_and_power_off(make: Callable[..., Machine]) -> None:
    m = make(cbt=True)
    m.write(0, b"old" + bytes(509))
    taken = snapshot(m.vm, "before")
    generation = disk_of(m.vm.config).backing.changeId.partition("/")[0]
    m.write(0, b"new" + bytes(509))
    option = vim.option.OptionValue(key="guestinfo.x", value="1")
    WaitForTask(m.vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[option])))
    assert not [o for o in taken.config.extraConfig if o.key == "guestinfo.x"]
    WaitForTask(taken.RevertToSnapshot_Task())
    assert m.vm.runtime.powerState == "poweredOff"
    assert not [o for o in m.vm.config.extraConfig if o.key == "guestinfo.x"]
    assert disk_of(m.vm.config).backing.changeId.partition("/")[0] != generation
    WaitForTask(m.vm.PowerOnVM_Task())
    assert m.content()[:3].tobytes() == b"old"
    # What was asked before the revert cannot be answered any more.
    after = snapshot(m.vm, "after")
    with pytest.raises((vim.fault.FileFault, vmodl.fault.InvalidArgument)):
        m.vm.QueryChangedDiskAreas(after, 2000, 0, disk_of(taken.config).backing.changeId)


def test_tracking_starts_with_the_next_stun_of_a_running_vm(make: Callable[..., Machine]) -> None:
    m = make()
    m.write(3 * BLOCK, b"x" * 512)
    WaitForTask(m.vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=True)))
    assert m.vm.config.changeTrackingEnabled
    assert disk_of(m.vm.config).backing.changeId is None
    taken = snapshot(m.vm, "stun")
    change_id = disk_of(taken.config).backing.changeId
    assert change_id
    # On enabling the map holds what is allocated.
    assert areas(m.vm, taken, "*", m.capacity) == Extents.of(3 * BLOCK, 4 * BLOCK)
    m.write(5 * BLOCK, b"y" * 512)
    later = snapshot(m.vm, "later")
    assert areas(m.vm, later, change_id, m.capacity) == Extents.of(5 * BLOCK, 6 * BLOCK)
    m.write(7 * BLOCK, b"z" * 512)
    # A snapshot's answer does not move with the VM.
    assert areas(m.vm, later, change_id, m.capacity) == Extents.of(5 * BLOCK, 6 * BLOCK)


def test_questions_that_esxi_refuses(make: Callable[..., Machine]) -> None:
    m = make()
    untracked = snapshot(m.vm, "untracked")
    with pytest.raises(vim.fault.FileFault):
        m.vm.QueryChangedDiskAreas(untracked, 2000, 0, "*")
    WaitForTask(m.vm.RemoveAllSnapshots_Task())
    WaitForTask(m.vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=True)))
    taken = snapshot(m.vm, "tracked")
    change_id = disk_of(taken.config).backing.changeId
    generation, _, number = change_id.partition("/")
    for of, key, start, asked in (
        (taken, 2000, m.capacity, change_id),
        (taken, 2000, -1, change_id),
        (taken, 2999, 0, change_id),
        (taken, 2000, 0, "nonsense"),
        (taken, 2000, 0, f"{generation}/{int(number) + 1}"),
        (None, 2000, 0, change_id),
    ):
        with pytest.raises(vmodl.fault.InvalidArgument):
            m.vm.QueryChangedDiskAreas(of, key, start, asked)
    other = change_id.replace(generation[:2], "00" if generation[:2] != "00" else "01", 1)
    with pytest.raises(vim.fault.FileFault):
        m.vm.QueryChangedDiskAreas(taken, 2000, 0, other)


def test_a_disk_grows_only_without_snapshots(make: Callable[..., Machine]) -> None:
    m = make(cbt=True)
    disk = disk_of(m.vm.config)
    disk.capacityInBytes *= 2
    disk.capacityInKB *= 2
    change = vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)
    taken = snapshot(m.vm, "s")
    with pytest.raises(vim.fault.InvalidDeviceOperation):
        WaitForTask(m.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    change_id = disk_of(taken.config).backing.changeId
    WaitForTask(m.vm.RemoveAllSnapshots_Task())
    WaitForTask(m.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    m.control.guest_write("site-a", m.name, 2000, 7 * MIB, b"n" * 512)
    after = snapshot(m.vm, "after")
    assert areas(m.vm, after, change_id, 8 * MIB) == Extents.of(7 * MIB, 7 * MIB + BLOCK)


@pytest.mark.parametrize("seed", range(3))
def test_reported_areas_cover_every_change_whatever_happens(
    make: Callable[..., Machine], control: LabControl, tool: Any, seed: int
) -> None:
    """Random writes, snapshots, removals and reverts against a model of the content."""
    qemu_img = tool("qemu-img", "qemu-utils")
    chance = random.Random(seed)
    # Not whole blocks at the end, for half of the runs.
    capacity = 2 * MIB + (0 if seed % 2 else 40 * KIB)
    control.settings("site-a", page_size=3)
    m = make(capacity, cbt=True)
    taken: list[tuple[Any, np.ndarray[Any, Any], str]] = []
    for _ in range(30):
        action = chance.choices(["write", "snapshot", "remove", "revert"], [10, 4, 3, 1])[0]
        if action == "write":
            for _ in range(chance.randrange(1, 6)):
                sectors = chance.choice([1, 3, 128, 200])
                at = chance.randrange(0, capacity // 512 - sectors) * 512
                data = (
                    bytes(sectors * 512)
                    if chance.random() < 0.2
                    else chance.randbytes(sectors * 512)
                )
                m.write(at, data)
        elif action == "snapshot" and len(taken) < 6:
            made = snapshot(m.vm, f"s{len(taken)}")
            taken.append((made, m.model.copy(), disk_of(made.config).backing.changeId))
            now, model, change_id = taken[-1]
            generation = change_id.partition("/")[0]
            for _, before, since in taken[:-1]:
                if since.partition("/")[0] != generation:
                    with pytest.raises(vim.fault.FileFault):
                        m.vm.QueryChangedDiskAreas(now, 2000, 0, since)
                    continue
                reported = areas(m.vm, now, since, capacity)
                changed = np.flatnonzero(before != model)
                rows = Extents.from_pairs([(int(b), int(b) + 1) for b in changed])
                assert reported.covers(rows)
            used = areas(m.vm, now, "*", capacity)
            data = np.flatnonzero(model)
            assert used.covers(Extents.from_pairs([(int(b), int(b) + 1) for b in data]))
        elif action == "remove" and taken:
            gone, _, _ = taken.pop(chance.randrange(len(taken)))
            WaitForTask(gone.RemoveSnapshot_Task(False, True))
        elif action == "revert" and taken:
            back, model, _ = chance.choice(taken)
            WaitForTask(back.RevertToSnapshot_Task())
            WaitForTask(m.vm.PowerOnVM_Task())
            m.model = model.copy()
        assert np.array_equal(m.content(), m.model)
    control.settings("site-a", page_size=2000)
    control.guest_flush("site-a", m.name)
    WaitForTask(m.vm.PowerOffVM_Task())
    # Every snapshot, read by somebody else.
    folder = Path(control.directory) / "site-a" / "site-a-ds1"
    for number, (made, model, _) in enumerate(taken):
        path = folder / disk_of(made.config).backing.fileName.partition("] ")[2]
        raw = folder / f"{m.name}-{number}.raw"
        raw.write_bytes(model.tobytes())
        compared = subprocess.run(
            [qemu_img, "compare", "-f", "vmdk", "-F", "raw", str(path), str(raw)],
            capture_output=True,
            text=True,
            check=False,
        )
        raw.unlink()
        assert compared.returncode == 0, compared.stdout + compared.stderr


def test_a_template_has_no_snapshots(make: Callable[..., Machine]) -> None:
    vm = make().vm
    WaitForTask(vm.PowerOffVM_Task())
    vm.MarkAsTemplate()
    with pytest.raises(vmodl.fault.NotSupported):
        snapshot(vm, "s")


def test_snapshot_of_a_vm_that_is_off_refuses_while_somebody_writes(
    lab: Lab, make: Callable[..., Machine]
) -> None:
    m = make()
    WaitForTask(m.vm.PowerOffVM_Task())
    disks = lab.sites["site-a"].disks
    with disks.open(m.made["disks"][0]["path"], read_only=False):
        with pytest.raises(vim.fault.FileLocked):
            snapshot(m.vm, "busy")
        with pytest.raises(vim.fault.FileLocked):
            WaitForTask(m.vm.PowerOnVM_Task())
    assert snapshot(m.vm, "free")


def test_consolidation_that_finds_a_lock_leaves_the_need_for_it(
    lab: Lab, make: Callable[..., Machine]
) -> None:
    m = make()
    first = snapshot(m.vm, "first")
    WaitForTask(m.vm.PowerOffVM_Task())
    disks = lab.sites["site-a"].disks
    with disks.open(disk_of(m.vm.config).backing.fileName, read_only=False):
        with pytest.raises(vim.fault.FileLocked):
            WaitForTask(first.RemoveSnapshot_Task(False))
        assert m.vm.snapshot is None
        assert m.vm.runtime.consolidationNeeded
    WaitForTask(m.vm.ConsolidateVMDisks_Task())
    assert not m.vm.runtime.consolidationNeeded
    assert len(m.links) == 1
