"""The source's shape changes between two points: the replica follows, earlier points stay."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim

from vreplica.delta.copy.modes import CopyMode
from vreplica.failover import operations
from vreplica.failover.machine.choices import FailoverChoices, FinalSync
from vreplica.failover.machine.point_choice import PointChoice
from vreplica.points import Retention
from vreplica.sync.cycle import run
from vreplica.sync.events import Progress, ReplicationEvent
from vreplica.sync.plan.plan import plan
from vreplica.sync.plan.space import MARGIN
from vreplica.sync.recovery_points import points
from vreplica.units import BLOCK, KIB, MIB
from vreplica.vsphere.model import KeepIdentity

Content = Callable[..., Path]
device: Any = vim.vm.device


def disk_of(config: Any, key: int) -> Any:
    return next(d for d in config.hardware.device if d.key == key)


def grow(world: Any, vm: str, key: int, capacity: int) -> None:
    def spec(config: Any) -> Any:
        disk = disk_of(config, key)
        disk.capacityInBytes, disk.capacityInKB = capacity, capacity // KIB
        change = device.VirtualDeviceSpec(operation="edit", device=disk)
        return vim.vm.ConfigSpec(deviceChange=[change])

    world.reconfigure(vm, spec)


def add_disk(
    world: Any, vm: str, unit: int, capacity: int, path: str = "", controller: int = 1000
) -> None:
    disk = device.VirtualDisk(
        key=-1,
        controllerKey=controller,
        unitNumber=unit,
        capacityInBytes=capacity,
        capacityInKB=capacity // KIB,
        backing=device.VirtualDisk.FlatVer2BackingInfo(
            fileName=path, diskMode="persistent", thinProvisioned=True
        ),
    )
    change = device.VirtualDeviceSpec(operation="add", device=disk)
    if not path:
        change.fileOperation = "create"
    world.reconfigure(vm, lambda _: vim.vm.ConfigSpec(deviceChange=[change]))


def remove_disk(world: Any, vm: str, key: int) -> str:
    """Detach; returns where its file is."""
    paths = []

    def spec(config: Any) -> Any:
        disk = disk_of(config, key)
        paths.append(disk.backing.fileName)
        change = device.VirtualDeviceSpec(operation="remove", device=disk)
        return vim.vm.ConfigSpec(deviceChange=[change])

    world.reconfigure(vm, spec)
    return str(paths[0])


def replica_files(world: Any, job: Any) -> set[str]:
    """Base disks in the replica's folder."""
    with world.connect(1) as session:
        vmx = session.read_vm(session.find_vm(job.placement.name)).vmx_path
    folder = world.file(1, vmx).parent
    return {p.name for p in folder.glob("*-flat.vmdk")}


def images(world: Any, job: Any, point: Any, folder: Path) -> dict[int, bytes]:
    return {
        key: world.image(1, path, folder / f"{point.id}-{key}.raw").read_bytes()
        for key, path in world.point_disks(job, point.snapshot).items()
    }


def test_a_grown_and_an_added_disk_are_carried_over_and_earlier_points_stay(
    world: Any, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(24 * MIB + 512 * 8, 1), content(8 * MIB, 2))
    job = world.job(vm, retention=Retention(last=3))
    first = run(job).point
    before = images(world, job, first, tmp_path)
    grow(world, vm, 2000, 40 * MIB)
    add_disk(world, vm, 4, 8 * MIB)
    world.power_on(vm)
    random.seed(4)
    fresh = random.randbytes(3 * BLOCK)
    world.write(vm, 2000, 38 * MIB, fresh)
    world.write(vm, 2000, MIB, fresh[:BLOCK])
    world.write(vm, 2004, 0, fresh)

    said = plan(job)
    assert not said.problems
    assert {d.key: d.mode for d in said.disks} == {
        2000: CopyMode.RESCAN,
        2001: CopyMode.RESCAN,
        2004: CopyMode.FULL,
    }
    reasons = {d.key: d.reason for d in said.disks}
    assert "grown from" in reasons[2000]
    assert "has grown" in reasons[2001]
    assert "new on the source" in reasons[2004]

    report, equal = world.run_and_compare(job)
    assert equal == [True, True, True]
    shipped = {d.key: d.written_bytes for d in report.disks}
    # The block at the old end, 4 KiB of which were there, is shipped where it held anything.
    assert 4 * BLOCK <= shipped[2000] <= 5 * BLOCK
    assert shipped[2001] == 0
    assert shipped[2004] == 3 * BLOCK
    assert images(world, job, first, tmp_path) == before
    assert set(world.point_disks(job, report.point.snapshot)) == {2000, 2001, 2004}

    again, equal = world.run_and_compare(job)
    assert equal == [True, True, True]
    assert {d.mode for d in again.disks} == {CopyMode.DELTA}
    assert images(world, job, first, tmp_path) == before

    old = len(replica_files(world, job))
    run(job)
    assert points(job)[0].id == report.point.id
    assert len(replica_files(world, job)) == old - 1, "the ungrown disk went with its last point"
    with world.connect(1) as session:
        ref = session.find_vm(job.placement.name)
        session.revert_to_snapshot(ref, points(job)[0].snapshot)
        session.power_on(ref)
        session.power_off(ref)


def test_a_removed_disk_leaves_the_replica_and_comes_back_with_what_it_had(
    world: Any, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(8 * MIB, 1), content(16 * MIB, 2))
    job = world.job(vm)
    first = run(job).point
    before = images(world, job, first, tmp_path)

    path = remove_disk(world, vm, 2001)
    assert any("detach the replica's Hard disk 2" in step for step in plan(job).steps)
    without, equal = world.run_and_compare(job)
    assert equal == [True]
    assert set(world.point_disks(job, without.point.snapshot)) == {2000}
    assert images(world, job, first, tmp_path) == before

    add_disk(world, vm, 5, 16 * MIB, path)
    world.power_on(vm)
    world.write(vm, 2005, 4 * MIB, b"n" * BLOCK)
    (back,) = [d for d in plan(job).disks if d.key == 2005]
    assert back.mode is CopyMode.RESCAN
    assert first.id in back.reason
    report, equal = world.run_and_compare(job)
    assert equal == [True, True]
    assert {d.key: d.written_bytes for d in report.disks} == {2000: 0, 2005: BLOCK}
    assert images(world, job, first, tmp_path) == before


def change_places(world: Any, vm: str, size: int) -> None:
    """Units 0 and 1 get each other's disk, both of `size` bytes."""
    for unit, path in enumerate(reversed([remove_disk(world, vm, key) for key in (2000, 2001)])):
        add_disk(world, vm, unit, size, path)


def test_two_disks_that_change_places_keep_their_own_digests(world: Any, tmp_path: Path) -> None:
    raw = [tmp_path / "1.raw", tmp_path / "2.raw"]
    for at, path in enumerate(raw, 1):
        path.write_bytes((bytes(at * BLOCK) + b"x" * BLOCK).ljust(8 * MIB, b"\0"))
    vm = world.make_vm(*raw)
    job = world.job(vm, parallel_disks=1)
    run(job)
    change_places(world, vm, 8 * MIB)
    world.power_on(vm)
    # Zeros where the other disk had zeros: by its digests they would be there already.
    world.write(vm, 2000, 2 * BLOCK, bytes(BLOCK))
    world.write(vm, 2001, BLOCK, bytes(BLOCK))
    report, equal = world.run_and_compare(job)
    assert equal == [True, True]
    assert {d.key: d.written_bytes for d in report.disks} == {2000: BLOCK, 2001: BLOCK}


def test_digests_of_a_disk_that_moved_in_a_run_that_failed_are_not_believed_of_another(
    world: Any, tmp_path: Path
) -> None:
    full, empty = tmp_path / "full.raw", tmp_path / "empty.raw"
    full.write_bytes(b"x" * 8 * MIB)
    empty.write_bytes(bytes(8 * MIB))
    vm = world.make_vm(full, empty)
    job = world.job(vm)
    run(job)
    change_places(world, vm, 8 * MIB)

    def fail(event: ReplicationEvent) -> None:
        if isinstance(event, Progress):
            raise RuntimeError("in the middle of the disks")

    with pytest.raises(RuntimeError):
        run(job, listener=fail)
    change_places(world, vm, 8 * MIB)
    world.power_on(vm)
    world.write(vm, 2000, BLOCK, bytes(BLOCK))
    _, equal = world.run_and_compare(job)
    assert equal == [True, True]


def test_hardware_follows_before_the_next_point_is_made(world: Any, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB), cpus=1, memory_mib=512)
    job = world.job(vm)
    first = run(job).point

    def spec(config: Any) -> Any:
        (nic,) = [d for d in config.hardware.device if isinstance(d, device.VirtualEthernetCard)]
        second = device.VirtualE1000e(key=-2, backing=nic.backing, addressType="generated")
        scsi = device.ParaVirtualSCSIController(key=-3, busNumber=1, sharedBus="noSharing")
        other = device.VirtualEthernetCard.NetworkBackingInfo(deviceName="Isolated")
        nic.backing = other
        change = device.VirtualDeviceSpec
        return vim.vm.ConfigSpec(
            numCPUs=4,
            memoryMB=1024,
            firmware="efi",
            guestId="debian11_64Guest",
            deviceChange=[
                change(operation="edit", device=nic),
                change(operation="add", device=second),
                change(operation="add", device=scsi),
            ],
        )

    world.reconfigure(vm, spec)
    add_disk(world, vm, 0, 4 * MIB, controller=1001)
    steps = "\n".join(plan(job).steps)
    for text in ("processors: 1 becomes 4", "network VM Network becomes Isolated", "e", "pvscsi 1"):
        assert text in steps
    report, equal = world.run_and_compare(job)
    assert equal == [True, True]
    with world.connect(1) as session:
        ref = session.find_vm(job.placement.name)
        now = session.read_vm(ref)
        assert (now.cpus, now.memory_mib, now.firmware) == (4, 1024, "efi")
        assert now.guest_id == "debian11_64Guest"
        assert [(n.type, n.network) for n in now.nics] == [
            ("vmxnet3", "Isolated"),
            ("e1000e", "VM Network"),
        ]
        assert not any(n.start_connected for n in now.nics)
        assert {d.position for d in now.disks} >= {("pvscsi", 1, 0)}
    assert not plan(job).steps[0].startswith("change")
    with world.connect(1) as session:
        session.revert_to_snapshot(ref, first.snapshot)
        old = session.read_vm(ref)
        assert (old.cpus, len(old.disks), len(old.nics)) == (1, 1, 1), "a point is both"
    assert run(job, verify=True).verified.equal
    assert report.point in points(job)


def test_a_killed_run_that_had_reshaped_leaves_nothing_behind(
    world: Any, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(24 * MIB))
    job = world.job(vm)
    first = run(job).point
    before, files = images(world, job, first, tmp_path), replica_files(world, job)
    grow(world, vm, 2000, 32 * MIB)
    world.power_on(vm)
    world.write(vm, 2000, 30 * MIB, b"k" * BLOCK)
    assert world.run_and_kill(job, "bytes+0.5", tmp_path) == -9
    assert points(job) == (first,)
    assert images(world, job, first, tmp_path) == before
    assert replica_files(world, job) != files
    report, equal = world.run_and_compare(job)
    assert equal == [True]
    assert report.written_bytes == BLOCK
    assert len(replica_files(world, job)) == len(files) + 1


def test_a_new_disk_that_a_broken_run_has_made_needs_no_room_again(
    world: Any, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(8 * MIB))
    job = world.job(vm)
    run(job)
    add_disk(world, vm, 1, 96 * MIB)
    world.power_on(vm)
    for at in range(0, 96 * MIB, 8 * MIB):
        world.write(vm, 2001, at, random.Random(at).randbytes(8 * MIB))
    assert world.run_and_kill(job, "writes+10", tmp_path, checkpoint_s=0.0) == -9
    broken = plan(job).resumes
    assert broken is not None
    with world.datastore_left(1, job.placement.datastore, MARGIN + MIB):
        assert not plan(job).problems
        report, equal = world.run_and_compare(job)
    assert equal == [True, True]
    assert report.point.id == broken.record.run


def test_storage_vmotion_is_no_change(world: Any, content: Content) -> None:
    vm = world.make_vm(content(8 * MIB))
    job = world.job(vm)
    run(job)
    with world.managed(0, vm) as found:
        here = {d.name for d in found.datastore}
        (other,) = [d for d in found.runtime.host.datastore if d.name not in here][:1]
        WaitForTask(found.RelocateVM_Task(vim.vm.RelocateSpec(datastore=other)))
    world.power_on(vm)
    world.write(vm, 2000, MIB, b"m" * BLOCK)
    report, equal = world.run_and_compare(job)
    assert equal == [True]
    assert report.disks[0].mode is CopyMode.DELTA
    assert report.written_bytes == BLOCK


def names(world: Any, number: int, vm: str) -> tuple[str | None, list[str | None]]:
    """BIOS UUID and MAC addresses."""
    with world.connect(number) as session:
        found = session.read_vm(session.find_vm(vm))
    return found.bios_uuid, [nic.mac for nic in found.nics]


def test_the_replica_has_the_names_that_the_job_wants(world, content: Content) -> None:
    vm = world.make_vm(content(16 * MIB))
    job = world.job(vm)
    name = job.placement.name
    same = replace(
        job, placement=replace(job.placement, keep=KeepIdentity(bios_uuid=True, mac=True))
    )
    own = replace(
        job, placement=replace(job.placement, keep=KeepIdentity(bios_uuid=False, mac=False))
    )
    run(same)
    uuid, macs = names(world, 0, vm)
    assert names(world, 1, name) == (uuid, macs)
    # From now on it shall have its own: the next run says so, and changes it once.
    said = " ".join(plan(own).steps)
    assert "BIOS UUID" in said
    assert "MAC address" in said
    run(own)
    other, others = names(world, 1, name)
    assert other not in (None, uuid)
    assert not set(others) & set(macs)
    run(own)
    assert names(world, 1, name) == (other, others)
    # A point of before has the source's; what is started has what is wanted now.
    first = points(own)[0].id
    begun = FailoverChoices(
        final_sync=FinalSync.NO, boot=PointChoice(first), heartbeat_timeout_s=0.1
    )
    operations.fail_over(own, begun, print)
    booted, cards = names(world, 1, name)
    assert booted != uuid
    assert not set(cards) & set(macs)
    operations.undo(own, print)
    run(same)
    assert names(world, 1, name) == (uuid, macs)
