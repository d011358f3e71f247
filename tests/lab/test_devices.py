"""Disks that come and go while snapshots hold the old configuration, and while the VM runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim

from vreplica.lab import Lab, LabControl
from vreplica.units import KIB, MIB

device: Any = vim.vm.device


class Vm:
    def __init__(self, lab: Lab, control: LabControl, si: Any, name: str, **options: Any) -> None:
        made = control.create_vm("site-a", name, [(2 * MIB, True, None)], **options)
        self.lab, self.control, self.name = lab, control, name
        self.vm = vim.VirtualMachine(made["moref"], si._stub)

    def disks(self) -> dict[int, str]:
        devices = self.vm.config.hardware.device
        found = (d for d in devices if isinstance(d, device.VirtualDisk))
        return {d.key: d.backing.fileName for d in found}

    def file(self, ds_path: str) -> Path:
        return self.lab.sites["site-a"].disks.path(ds_path)

    def reconfigure(self, **spec: Any) -> None:
        WaitForTask(self.vm.ReconfigVM_Task(vim.vm.ConfigSpec(**spec)))

    def add(self, path: str | None = None, unit: int = 1) -> None:
        backing = device.VirtualDisk.FlatVer2BackingInfo(
            fileName=path or "[site-a-ds1]", diskMode="persistent", thinProvisioned=True
        )
        disk = device.VirtualDisk(
            key=-1, controllerKey=1000, unitNumber=unit, capacityInKB=MIB // KIB, backing=backing
        )
        change = device.VirtualDeviceSpec(operation="add", device=disk)
        if path is None:
            change.fileOperation = "create"
        self.reconfigure(deviceChange=[change])

    def remove(self, key: int, *, destroy: bool) -> None:
        disk = next(d for d in self.vm.config.hardware.device if d.key == key)
        change = device.VirtualDeviceSpec(operation="remove", device=disk)
        if destroy:
            change.fileOperation = "destroy"
        self.reconfigure(deviceChange=[change])

    def snapshot(self, name: str) -> Any:
        task = self.vm.CreateSnapshot_Task(name, "", False, False)
        WaitForTask(task)
        return task.info.result


@pytest.fixture
def make(lab: Lab, control: LabControl, si: Any, request: Any) -> Any:
    def build(**options: Any) -> Vm:
        return Vm(lab, control, si, request.node.name[5:70], **options)

    return build


def test_a_disk_added_above_a_snapshot_is_not_in_it_and_goes_with_a_revert(make: Any) -> None:
    m = make()
    taken = m.snapshot("before")
    m.add()
    assert sorted(m.disks()) == [2000, 2001]
    assert m.vm.snapshot.currentSnapshot == taken
    # The new disk has no link yet; the next snapshot gives it one.
    assert "-0000" not in m.disks()[2001]
    m.snapshot("after")
    assert m.disks()[2001].endswith("-000001.vmdk")
    WaitForTask(taken.RevertToSnapshot_Task())
    assert sorted(m.disks()) == [2000]


@pytest.mark.parametrize("destroy", [True, False])
def test_a_disk_removed_above_a_snapshot_comes_back_with_a_revert(make: Any, destroy: bool) -> None:
    m = make()
    m.add()
    base = m.disks()[2001]
    taken = m.snapshot("holds it")
    leaf = m.disks()[2001]
    m.remove(2001, destroy=destroy)
    assert sorted(m.disks()) == [2000]
    # What the snapshot stands for stays in any case.
    assert m.file(base).exists()
    assert m.file(leaf).exists() is not destroy
    WaitForTask(taken.RevertToSnapshot_Task())
    assert sorted(m.disks()) == [2000, 2001]
    assert m.disks()[2001] != base
    WaitForTask(m.vm.RemoveAllSnapshots_Task())
    assert m.disks()[2001] == base


def test_a_detached_disk_survives_and_can_be_attached_elsewhere(
    tmp_path: Path, connect: Any
) -> None:
    with Lab.create(tmp_path / "own") as lab:
        m = Vm(lab, LabControl(lab.directory), connect(lab.specs[0]), "first")
        m.add()
        m.snapshot("s")
        detached = m.disks()[2001]
        m.remove(2001, destroy=False)
    with Lab(tmp_path / "own") as lab:
        si = connect(lab.specs[0])
        other = Vm(lab, LabControl(lab.directory), si, "second", power_on=True)
        assert other.file(detached).exists()
        other.add(detached)
        assert other.disks()[2001] == detached
        other.control.guest_write("site-a", "second", 2001, 0, b"x" * 512)
        with pytest.raises(vim.fault.InvalidDeviceSpec):  # twice
            other.add(detached, unit=2)
        third = Vm(lab, other.control, si, "third", power_on=True)
        with pytest.raises(vim.fault.FileLocked):
            third.add(detached)
        with pytest.raises(vim.fault.FileNotFound):
            third.add("[site-a-ds1] no/such.vmdk")


def test_a_disk_added_to_a_running_vm_is_tracked_from_the_next_snapshot_on(make: Any) -> None:
    m = make(power_on=True, cbt=True)
    m.add()
    m.control.guest_write("site-a", m.name, 2001, 0, b"x" * 512)
    taken = m.snapshot("first")
    disk = next(d for d in taken.config.hardware.device if d.key == 2001)
    assert disk.backing.changeId
    m.control.guest_write("site-a", m.name, 2001, 64 * KIB, b"y" * 512)
    later = m.snapshot("later")
    areas = m.vm.QueryChangedDiskAreas(later, 2001, 0, disk.backing.changeId).changedArea
    assert [(a.start, a.length) for a in areas] == [(64 * KIB, 64 * KIB)]
    m.remove(2001, destroy=True)
    m.control.guest_write("site-a", m.name, 2000, 0, b"z" * 512)


def test_a_host_that_is_full_starts_no_more(si: Any, control: LabControl) -> None:
    def made(name: str, cpus: int, reserved: int) -> Any:
        vm = control.create_vm("site-a", name, cpus=cpus, memory_mib=1024)
        found = vim.VirtualMachine(vm["moref"], si._stub)
        allocation = vim.ResourceAllocationInfo(reservation=reserved)
        WaitForTask(found.ReconfigVM_Task(vim.vm.ConfigSpec(memoryAllocation=allocation)))
        return found

    wide, loose = made("wide", 8, 0), made("loose", 1, 0)
    first, second = made("first", 1, 900), made("second", 1, 900)
    control.set_host("site-a", memory_mib=1024, threads=4)
    try:
        with pytest.raises(vim.fault.NotEnoughLogicalCpus) as lacking:
            WaitForTask(wide.PowerOnVM_Task())
        assert (lacking.value.numCpuDest, lacking.value.numCpuVm) == (4, 8)
        WaitForTask(first.PowerOnVM_Task())
        with pytest.raises(vim.fault.InsufficientMemoryResourcesFault) as full:
            WaitForTask(second.PowerOnVM_Task())
        assert (full.value.unreserved, full.value.requested) == (124 << 20, 900 << 20)
        WaitForTask(loose.PowerOnVM_Task())
        assert first.runtime.host.summary.quickStats.overallMemoryUsage >= 2048
        assert first.runtime.host.summary.hardware.memorySize == 1024 << 20
        WaitForTask(first.PowerOffVM_Task())
        WaitForTask(second.PowerOnVM_Task())
    finally:
        control.set_host("site-a", memory_mib=256 * 1024, threads=32)


def test_processors_memory_and_firmware_change_while_the_vm_is_off(make: Any) -> None:
    m = make(power_on=True)
    for spec in ({"numCPUs": 4}, {"memoryMB": 2048}, {"firmware": "efi"}):
        with pytest.raises(vim.fault.InvalidPowerState):
            m.reconfigure(**spec)
    WaitForTask(m.vm.PowerOffVM_Task())
    m.reconfigure(numCPUs=4, memoryMB=2048, firmware="efi")
    config = m.vm.config
    assert (config.hardware.numCPU, config.hardware.memoryMB, config.firmware) == (4, 2048, "efi")
    m.reconfigure(cpuHotAddEnabled=True)
    WaitForTask(m.vm.PowerOnVM_Task())
    m.reconfigure(numCPUs=8)
    assert m.vm.config.hardware.numCPU == 8
