"""Failback on the lab: back to the original VM with only what differs, and forward again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pyVmomi import vim

from tests.support.reporting import quiet
from vreplica.delta.copy.modes import CopyMode
from vreplica.failover import operations
from vreplica.failover.machine.choices import FailoverChoices, FinalSync
from vreplica.failover.machine.errors import OriginalGone
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.preview import preview_back
from vreplica.points import Level
from vreplica.sync.cycle import run
from vreplica.sync.errors import JobFailedOver, PreflightFailed, ReplicaInFailover
from vreplica.sync.events import Progress
from vreplica.sync.job import Customize, Guest, Job
from vreplica.sync.plan.plan import plan
from vreplica.sync.recovery_points import points
from vreplica.units import BLOCK, MIB
from vreplica.vsphere.model import GuestCustomization, NicRule
from vreplica.vsphere.operations import customize

Content = Callable[..., Path]
YES = FailoverChoices(shutdown_timeout_s=20, heartbeat_timeout_s=20)
WINDOWS = "windows2019srv_64Guest"


def failed_over(world, content: Content, choices: FailoverChoices = YES) -> tuple[str, Job]:
    """A job whose replica is in service for good, with writes that the original does not have."""
    vm = world.make_vm(content(16 * MIB), guest_id=WINDOWS)
    job = world.job(vm)
    world.power_on(vm)
    run(job)
    world.write(vm, 2000, 3 * MIB, b"since" * 100 + bytes(12))
    assert operations.fail_over(job, choices, quiet).state is FailoverState.RUNNING
    assert operations.commit(job, quiet).state is FailoverState.COMMITTED
    there(world, job, 5 * MIB, b"there")
    return vm, job


def there(world, job: Job, offset: int, word: bytes) -> None:
    data = (word * 512)[:512]
    world.control.guest_write(world.sites[1]["name"], job.placement.name, 2000, offset, data)


def is_on(world, number: int, vm: str) -> bool:
    with world.connect(number) as session:
        return session.power_state(session.find_vm(vm)) == "poweredOn"


def disk(world, number: int, vm: str) -> tuple[int, str]:
    with world.connect(number) as session:
        return number, session.read_vm(session.find_vm(vm)).disks[0].path


def test_back_with_only_what_differs_and_forward_again(world, content: Content) -> None:
    vm, job = failed_over(world, content)
    with pytest.raises(JobFailedOver, match="was committed"):
        run(job)
    assert "failback" in plan(job).problems[0]

    shipped: list[int] = []
    looked_at: list[int] = []

    def listener(event: object) -> None:
        if isinstance(event, Progress) and event.activity == "copy":
            shipped.append(event.written_bytes)
            looked_at.append(event.total_bytes)

    done = operations.fail_back(job, YES, quiet, listener)
    assert done.state is FailoverState.RUNNING
    assert done.facts["level"] == Level.CLEAN_SHUTDOWN.value
    assert max(shipped) == BLOCK, "the one block that differs, and nothing else"
    assert max(looked_at) <= 2 * BLOCK, "change tracking of the replica said where"
    assert is_on(world, 0, vm)
    assert not is_on(world, 1, job.placement.name)
    frozen, insurance, final = world.source_snapshots(vm)
    assert [s.name for s in (frozen, insurance, final)] == [f"{done.id}-{x}" for x in "0ab"]
    assert world.equal(disk(world, 1, job.placement.name), disk(world, 0, vm))

    assert operations.commit(job, quiet).state is FailoverState.COMMITTED
    assert not world.source_snapshots(vm), "the original carries no snapshots on"
    world.write(vm, 2000, 9 * MIB, b"home" * 128)
    report = run(job, verify=True)
    assert report.disks[0].mode is CopyMode.DELTA
    assert report.written_bytes == BLOCK
    assert report.verified is not None
    assert report.verified.equal
    assert len(points(job)) == 5, "the replica's older points and its last state are kept"


def test_an_undone_failback_leaves_both_as_they_were(world, content: Content) -> None:
    vm, job = failed_over(world, content)
    before = world.image(*disk(world, 0, vm), world.work / f"{vm}-before.raw").read_bytes()
    done = operations.fail_back(job, YES, quiet)
    assert operations.undo(job, quiet).state is FailoverState.UNDONE
    assert is_on(world, 1, job.placement.name)
    assert not is_on(world, 0, vm)
    # The original's last state is still there, bootable, beneath what came back.
    frozen = next(s for s in world.source_snapshots(vm) if s.name == f"{done.id}-0")
    with world.connect(0) as session:
        (kept,) = session.read_snapshot(session.find_vm(vm), frozen.moref).disks
    assert world.image(0, kept.path, world.work / f"{vm}-kept.raw").read_bytes() == before
    with pytest.raises(JobFailedOver):
        run(job)
    # And once more, this time for good.
    there(world, job, 7 * MIB, b"more")
    assert operations.fail_back(job, YES, quiet).state is FailoverState.RUNNING
    assert world.equal(disk(world, 1, job.placement.name), disk(world, 0, vm))
    operations.commit(job, quiet)
    assert run(job, verify=True).verified.equal


def test_an_original_that_was_run_between_two_failbacks_is_frozen_anew(
    world, content: Content
) -> None:
    vm, job = failed_over(world, content)
    operations.fail_back(job, YES, quiet)
    operations.undo(job, quiet)
    world.power_on(vm)
    world.write(vm, 2000, 11 * MIB, b"by hand " * 64)
    world.control.power(world.here, vm, on=False)
    done = operations.fail_back(job, YES, quiet)
    assert world.equal(disk(world, 1, job.placement.name), disk(world, 0, vm))
    (frozen,) = [s for s in world.source_snapshots(vm) if s.name == f"{done.id}-0"]
    with world.connect(0) as session:
        (kept,) = session.read_snapshot(session.find_vm(vm), frozen.moref).disks
    image = world.image(0, kept.path, world.work / f"{vm}-kept.raw").read_bytes()
    assert image[11 * MIB :].startswith(b"by hand")
    operations.undo(job, quiet)


def test_what_the_original_wrote_after_the_booted_point_is_taken_back_too(
    world, content: Content
) -> None:
    vm, job = failed_over(world, content, replace(YES, final_sync=FinalSync.NO))
    done = operations.fail_back(job, YES, quiet)
    assert done.state is FailoverState.RUNNING
    # The block at 3 MiB was written after the point that was booted: the replica has it not.
    assert world.equal(disk(world, 1, job.placement.name), disk(world, 0, vm))
    frozen = world.source_snapshots(vm)[0]
    with world.connect(0) as session:
        (kept,) = session.read_snapshot(session.find_vm(vm), frozen.moref).disks
    image = world.image(0, kept.path, world.work / f"{vm}-kept.raw").read_bytes()
    assert image[3 * MIB :].startswith(b"since"), "and what it wrote is kept in its own point"


def test_without_tracking_and_digest_maps_it_is_a_rescan(world, content: Content) -> None:
    vm, job = failed_over(world, content)
    for file in job.job_dir.glob("*.digests"):
        file.unlink()
    # Tracking of the replica starts anew, as after a crash of its host.
    world.control.power(world.sites[1]["name"], job.placement.name, on=False)
    with world.connect(1) as session:
        session.disable_cbt(session.find_vm(job.placement.name))
    world.control.power(world.sites[1]["name"], job.placement.name, on=True)
    modes: list[str] = []
    operations.fail_back(job, YES, modes.append)
    assert world.equal(disk(world, 1, job.placement.name), disk(world, 0, vm))
    assert operations.commit(job, quiet).state is FailoverState.COMMITTED
    assert run(job, verify=True).verified.equal


def keep_specification(
    world, number: int, vm: str, name: str, identity: GuestCustomization
) -> None:
    """In the vCenter that `vm` is in."""
    info = vim.CustomizationSpecInfo(name=name, description="", type="Linux")
    item = vim.CustomizationSpecItem(info=info, spec=customize.make_specification(identity, 1))
    with world.managed(number, vm) as found:
        service = vim.ServiceInstance("ServiceInstance", found._stub)
        service.content.customizationSpecManager.CreateCustomizationSpec(item)


def guest_of(world, number: int, vm: str) -> tuple[str | None, str | None]:
    with world.connect(number) as session:
        guest = session.read_guest(session.find_vm(vm))
    return guest.host_name, guest.ip_address


def test_each_site_gives_the_guest_its_addresses_by_a_named_specification(
    world, content: Content
) -> None:
    vm = world.make_vm(content(16 * MIB), guest_id="ubuntu64Guest")
    job = world.job(vm)
    world.power_on(vm)
    run(job)
    there, home = (NicRule("10.2.0.5/24", "10.2.0.1"),), (NicRule("10.1.0.5/24", "10.1.0.1"),)
    keep_specification(
        world, 1, job.placement.name, "dr", GuestCustomization("web-dr", None, there)
    )
    keep_specification(world, 0, vm, "home", GuestCustomization("web", None, home))
    only_there = Guest(customize=Customize.SPEC, spec="dr")
    both = replace(only_there, failback=Guest(customize=Customize.SPEC, spec="home"))
    job = replace(job, guest=both)
    assert operations.fail_over(job, YES, quiet).state is FailoverState.RUNNING
    assert guest_of(world, 1, job.placement.name) == ("web-dr", "10.2.0.5")
    operations.commit(job, quiet)
    remarks = preview_back(replace(job, guest=only_there)).remarks
    assert any("the addresses of the other site" in remark for remark in remarks)
    known = preview_back(job)
    assert "customization specification home, before the power-on" in known.customization
    assert not any("addresses" in remark for remark in known.remarks)
    assert operations.fail_back(job, YES, quiet).state is FailoverState.RUNNING
    assert guest_of(world, 0, vm) == ("web", "10.1.0.5")
    operations.commit(job, quiet)
    assert run(job).disks[0].mode is CopyMode.DELTA


def test_a_lost_original_is_replaced_by_a_new_vm_when_told_to(world, content: Content) -> None:
    vm, job = failed_over(world, content)
    with world.connect(0) as session:
        session.destroy_vm(session.find_vm(vm))
    with pytest.raises(OriginalGone, match=vm):
        operations.fail_back(job, YES, quiet)
    done = operations.fail_back(job, YES, quiet, new_vm=world.sites[0]["datastores"][0])
    assert done.state is FailoverState.RUNNING
    assert is_on(world, 0, vm)
    assert world.equal(disk(world, 1, job.placement.name), disk(world, 0, vm))
    assert operations.commit(job, quiet).state is FailoverState.COMMITTED
    report = run(job, verify=True)
    assert report.disks[0].mode is CopyMode.DELTA
    assert report.verified is not None
    assert report.verified.equal


def test_a_booted_replica_is_never_taken_back_by_a_run(world, content: Content) -> None:
    """Not even where this machine's files, which say that the job is off, were lost."""
    _, job = failed_over(world, content)
    world.control.power(world.sites[1]["name"], job.placement.name, on=False)
    before = world.image(*disk(world, 1, job.placement.name), world.work / "b.raw").read_bytes()
    with pytest.raises(ReplicaInFailover, match="is in service by failover fo-"):
        run(replace(job, state_dir=world.work / "lost"))
    after = world.image(*disk(world, 1, job.placement.name), world.work / "a.raw").read_bytes()
    assert after == before


def test_an_original_that_somebody_started_is_not_written_to(world, content: Content) -> None:
    vm, job = failed_over(world, content)
    world.power_on(vm)
    with pytest.raises(PreflightFailed) as refused:
        operations.fail_back(job, YES, quiet)
    assert "is poweredOn" in refused.value.problems[0]
    assert not world.source_snapshots(vm)
    world.control.power(world.here, vm, on=False)


def test_an_original_whose_disk_was_taken_away_gets_a_new_one(world, content: Content) -> None:
    vm, job = failed_over(world, content)

    def without(config: vim.vm.ConfigInfo) -> vim.vm.ConfigSpec:
        disks = [d for d in config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)]
        change = [vim.vm.device.VirtualDeviceSpec(operation="remove", device=d) for d in disks]
        return vim.vm.ConfigSpec(deviceChange=change)

    world.reconfigure(vm, without)
    assert operations.fail_back(job, YES, quiet).state is FailoverState.RUNNING
    assert world.equal(disk(world, 1, job.placement.name), disk(world, 0, vm))
