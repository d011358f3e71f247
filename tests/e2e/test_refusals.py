"""What cannot work is refused with what to do, and nothing is changed on either side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from vreplica.delta.cbt_audit import CbtMissedChanges
from vreplica.delta.copy.modes import CopyMode
from vreplica.errors import DiskError, PreflightError, VReplicaError
from vreplica.failover import operations
from vreplica.failover.machine.choices import FailoverChoices, FinalSync
from vreplica.points import Level
from vreplica.sync.cycle import run
from vreplica.sync.errors import (
    DestinationTooSmall,
    JobBusy,
    NotOurReplica,
    PreflightFailed,
    StateDirUnusable,
)
from vreplica.sync.job import Job, OnCbtLoss, Placement, QuiescePolicy
from vreplica.sync.job_dir import job_lock
from vreplica.sync.plan.plan import plan
from vreplica.sync.plan.readiness import check_readiness
from vreplica.sync.plan.space import MARGIN
from vreplica.sync.recovery_points import points
from vreplica.units import BLOCK, MIB
from vreplica.vsphere.errors import CertificateChanged, HostUnreachable, LoginFailed, VmNotFound

Content = Callable[..., Path]


@contextmanager
def nothing_changes(world, vm: str, job: Job) -> Iterator[None]:
    """Both sides are the same before and after: snapshots, CBT, points, files."""

    def state():
        with world.connect(0) as session:
            info = session.read_vm(session.find_vm(vm))
        vms = world.vm_names(1)
        files = sorted(
            (str(p.relative_to(world.folder)), p.stat().st_size)
            for store in world.sites[1]["datastores"]
            for p in (world.folder / world.sites[1]["name"] / store).rglob("*")
            if p.is_file()
        )
        return info.snapshots, info.cbt_enabled, [d.path for d in info.disks], vms, files

    before = state()
    yield
    assert state() == before


def told(error: VReplicaError) -> str:
    text = "\n".join([str(error), *error.explain()])
    assert "Traceback" not in text
    return text


def test_wrong_password(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm)
    bad = dataclasses.replace(job.source, password="not-this-one")
    wrong = dataclasses.replace(job, source=bad)
    with nothing_changes(world, vm, job), pytest.raises(LoginFailed) as caught:
        run(wrong)
    assert job.source.user in told(caught.value)
    assert "not-this-one" not in told(caught.value)


def test_changed_certificate(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm)
    other = dataclasses.replace(job.source, sha256="AB:" * 31 + "AB")
    with nothing_changes(world, vm, job), pytest.raises(CertificateChanged) as caught:
        run(dataclasses.replace(job, source=other))
    assert "AB:AB" in told(caught.value)
    assert world.sites[0]["sha256"] in told(caught.value)


def test_unknown_vm(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm, source_vm=vm[:-1])
    with pytest.raises(VmNotFound) as caught:
        run(job)
    assert vm in told(caught.value), "similar names help"
    assert caught.value.exit_code == PreflightError.exit_code, "vCenter answered"


def test_a_state_directory_that_cannot_be_made_is_refused_with_what_to_do(
    world, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(4 * MIB))
    good = world.job(vm)
    (tmp_path / "file").touch()
    job = dataclasses.replace(good, state_dir=tmp_path / "file" / "state")
    (problem,) = plan(job).problems
    assert f"{tmp_path}/file is not a folder" in problem
    assert "`state_dir` in the job file" in problem
    with nothing_changes(world, vm, job), pytest.raises(StateDirUnusable) as caught:
        run(job)
    assert caught.value.exit_code == PreflightError.exit_code
    run(good)
    assert points(job) == points(good), "they are read from the destination"
    with pytest.raises(StateDirUnusable):
        operations.fail_over(job, FailoverChoices(FinalSync.NO), lambda text: None)


@pytest.mark.parametrize("wrong", [{"host": "esx9"}, {"networks": {"VM Network": "Nix"}}])
def test_a_place_that_is_not_there_is_in_the_plan_of_the_first_run(
    world, content: Content, wrong: dict[str, Any]
) -> None:
    vm = world.make_vm(content(4 * MIB))
    store = world.sites[1]["datastores"][0]
    job = world.job(vm, placement=Placement(store, "r", **wrong))
    (problem,) = plan(job).problems
    assert "esx9" in problem or "Nix" in problem
    with nothing_changes(world, vm, job), pytest.raises(PreflightFailed):
        run(job)
    assert [f.text for f in check_readiness(job).problems] == [problem.partition(". ")[0]], (
        "told once"
    )


def test_a_host_that_does_not_answer(world) -> None:
    job = world.job("any")
    away = dataclasses.replace(job.source, port=1)
    with pytest.raises(HostUnreachable) as caught:
        run(dataclasses.replace(job, source=away))
    assert caught.value.retryable


@pytest.mark.parametrize("mode", ["independent_persistent", "nonpersistent"])
def test_a_disk_that_cannot_be_tracked_is_refused_or_left_out_by_name(
    world, content: Content, mode: str
) -> None:
    vm = world.make_vm(content(4 * MIB, 1), content(4 * MIB, 2))

    def untracked(config):
        (disk,) = [d for d in config.hardware.device if d.key == 2001]
        disk.backing.diskMode = mode
        edit = vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)
        return vim.vm.ConfigSpec(deviceChange=[edit])

    world.reconfigure(vm, untracked)
    job = world.job(vm)
    with nothing_changes(world, vm, job), pytest.raises(PreflightFailed) as caught:
        run(job)
    assert f"Hard disk 2 cannot be replicated: it is {mode.replace('_', ' ')}" in told(caught.value)
    assert "exclude_disks" in told(caught.value)
    (problem,) = plan(job).problems
    assert problem in told(caught.value)
    assert [f.text for f in check_readiness(job).problems] == [problem]
    assert run(dataclasses.replace(job, exclude_disks=frozenset({"Hard disk 2"}))).point


def test_a_foreign_snapshot_is_refused(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    with world.connect(0) as session:
        session.create_snapshot(session.find_vm(vm), "before the update", "by hand", None)
    job = world.job(vm)
    with nothing_changes(world, vm, job), pytest.raises(PreflightFailed) as caught:
        run(job)
    assert "before the update" in told(caught.value)


def test_cbt_switched_off_stops_and_says_how_to_go_on(world, content: Content) -> None:
    vm = world.make_vm(content(16 * MIB))
    job = world.job(vm)
    first = run(job).point
    world.reconfigure(vm, lambda _: vim.vm.ConfigSpec(changeTrackingEnabled=False))
    with nothing_changes(world, vm, job), pytest.raises(PreflightFailed) as caught:
        run(job)
    assert "--on-cbt-loss rescan" in told(caught.value)
    assert points(job) == (first,)

    world.power_on(vm)
    world.write(vm, 2000, MIB, b"y" * BLOCK)
    report = run(dataclasses.replace(job, on_cbt_loss=OnCbtLoss.RESCAN), verify=True)
    assert report.disks[0].mode is CopyMode.RESCAN
    assert report.written_bytes == BLOCK
    assert report.verified is not None
    assert report.verified.equal
    assert run(job).disks[0].mode is CopyMode.DELTA


def test_a_full_datastore_is_refused_before_anything_is_made(world, content: Content) -> None:
    vm = world.make_vm(content(48 * MIB))
    store = world.sites[1]["datastores"][0]
    job = world.job(vm)
    with world.datastore_left(1, store, 4 * MIB):
        with nothing_changes(world, vm, job), pytest.raises(PreflightFailed) as caught:
            run(job)
        assert store in told(caught.value)
    run(job)
    world.power_on(vm)
    world.write(vm, 2000, 0, b"z" * (16 * MIB))
    with world.datastore_left(1, store, 4 * MIB):
        with pytest.raises(PreflightFailed) as caught:
            run(job)
        assert "needs 64 MiB" in told(caught.value)
    with world.datastore_left(1, store, MARGIN + 8 * MIB):
        with pytest.raises(DestinationTooSmall) as late:
            run(job)
        assert "at recovery point" in told(late.value)
        assert not world.source_snapshots(vm)
        assert len(points(job)) == 1
    assert run(job, verify=True).verified.equal


def test_a_truncated_vmdk_is_an_error_that_names_the_disk(world, content: Content) -> None:
    vm = world.make_vm(content(16 * MIB))
    job = world.job(vm)
    with world.connect(0) as session:
        (disk,) = session.read_vm(session.find_vm(vm)).disks
    flat = world.file(0, disk.path)
    flat = flat.with_name(flat.stem + "-flat.vmdk")
    with flat.open("r+b") as file:
        file.truncate(5 * MIB)
    with pytest.raises(VReplicaError) as caught:
        run(job)
    assert f"{vm}.vmdk" in told(caught.value)
    assert "end of the file" in told(caught.value)
    assert not world.source_snapshots(vm)
    assert points(job) == ()
    with world.connect(0) as session:
        assert not session.read_vm(session.find_vm(vm)).cbt_enabled, "tracking was put back too"


def test_a_disk_that_breaks_under_the_copy_is_named_and_the_point_stays(
    world, content: Content
) -> None:
    vm = world.make_vm(content(16 * MIB))
    job = world.job(vm)
    first = run(job).point
    mirror = world.file(1, world.point_disks(job, first.snapshot)[2000])
    broken = mirror.with_name(mirror.stem + "-flat.vmdk")
    kept = broken.with_suffix(".kept")
    world.power_on(vm)
    world.write(vm, 2000, 0, b"w" * BLOCK)
    broken.rename(kept)
    with pytest.raises(DiskError) as caught:
        run(job)
    assert "Hard disk 1" in told(caught.value)
    assert not world.source_snapshots(vm)
    kept.rename(broken)
    assert points(job) == (first,)
    assert run(job, verify=True).verified.equal


def test_a_vm_of_that_name_that_is_not_ours_is_left_alone(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    first = world.job(vm)
    run(first)
    second = dataclasses.replace(first, name="another-job")
    with pytest.raises(NotOurReplica) as caught:
        run(second)
    assert first.placement.name in told(caught.value)


def test_an_unknown_datastore_is_refused_with_those_that_exist(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm, placement=Placement(datastore="nowhere", name=f"{vm}-r"))
    with nothing_changes(world, vm, job), pytest.raises(PreflightFailed) as caught:
        run(job)
    assert world.sites[1]["datastores"][0] in told(caught.value)


def test_a_level_that_cannot_be_reached_is_refused_beforehand(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB), guest_id="debian12_64Guest", tools=False)
    world.power_on(vm)
    job = world.job(vm, require=Level.APPLICATION, quiesce=QuiescePolicy.REQUIRE)
    with nothing_changes(world, vm, job), pytest.raises(PreflightFailed) as caught:
        run(job)
    assert "Tools" in told(caught.value)


def test_all_problems_are_told_at_once(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    with world.connect(0) as session:
        session.create_snapshot(session.find_vm(vm), "by hand", "", None)
    job = world.job(
        vm,
        exclude_disks=frozenset({"Hard disk 9"}),
        placement=Placement(datastore="nowhere", name="r"),
    )
    planned = plan(job)
    assert len(planned.problems) == 3
    assert (planned.steps, planned.expiring) == ((), ()), "a run that cannot start does nothing"


def test_two_runs_of_one_job_do_not_meet(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm)
    with job_lock(job), pytest.raises(JobBusy) as caught:
        run(job)
    assert caught.value.retryable
    run(job)


def test_a_lost_digest_map_costs_redundant_writes_and_no_data(world, content: Content) -> None:
    vm = world.make_vm(content(16 * MIB))
    job = world.job(vm)
    run(job)
    for path in job.job_dir.glob("*.digests*"):
        path.unlink()
    world.power_on(vm)
    world.write(vm, 2000, 0, b"q" * BLOCK)
    report = run(job, verify=True)
    assert report.verified.equal
    assert any("digest map" in text for text in report.warnings)
    rescan = dataclasses.replace(job, on_cbt_loss=OnCbtLoss.RESCAN)
    with world.connect(0) as session:
        ref = session.find_vm(vm)
        for enable in (False, True):
            (session.enable_cbt if enable else session.disable_cbt)(ref)
            stun = session.create_snapshot(ref, "stun", "", None)
            session.remove_snapshot(ref, stun.moref)
    world.write(vm, 2000, 2 * MIB, b"r" * BLOCK)
    report = run(rescan, verify=True)
    assert report.disks[0].mode is CopyMode.RESCAN
    assert report.written_bytes == BLOCK
    assert report.verified.equal


def test_change_tracking_that_loses_writes_is_found_out_and_nothing_is_committed(
    world, content: Content
) -> None:
    vm = world.make_vm(content(16 * MIB))
    job = world.job(vm, audit_share=1.0)
    first = run(job).point
    world.power_on(vm)
    for number in range(20):
        world.write(vm, 2000, number * 8 * BLOCK, bytes([number + 1]) * BLOCK)
    world.control.settings(world.here, cbt_bug="drop")
    try:
        with pytest.raises(CbtMissedChanges) as caught:
            run(job)
    finally:
        world.control.settings(world.here, cbt_bug="")
    assert "Hard disk 1" in told(caught.value)
    assert points(job) == (first,)
    assert not world.source_snapshots(vm)
    report = run(job, verify=True)
    assert report.verified.equal
    assert report.disks[0].audited_bytes == 16 * MIB - 20 * BLOCK


def test_more_points_than_a_chain_takes_are_refused_beforehand(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm)
    run(job)
    with world.connect(1) as session:
        ref = session.find_vm(job.placement.name)
        (point,) = points(job)
        for number in range(28):
            more = dataclasses.replace(point, id=f"kept-{number}")
            session.set_extra_config(ref, more.to_extra_config())
            session.create_snapshot(ref, more.id, "", None)
    with nothing_changes(world, vm, job), pytest.raises(PreflightFailed) as caught:
        run(job)
    assert "has 29 recovery points and a snapshot chain takes 28" in told(caught.value)
