"""A digest map that is lost or not believed comes back with the next run, and that is said."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vreplica.delta.block_hash import ALGORITHM
from vreplica.delta.control import Control
from vreplica.delta.copy.modes import CopyMode
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.file import HEADER, MAGIC, RECORD, RECORDS_AT, VERSION
from vreplica.sync.copy.digest_maps import map_problem
from vreplica.sync.cycle import run
from vreplica.sync.events import ReplicationEvent, Step
from vreplica.sync.job import Job
from vreplica.sync.job_dir import map_path
from vreplica.sync.plan.plan import plan
from vreplica.sync.recovery_points import points
from vreplica.sync.report import RunReport
from vreplica.units import BLOCK, MIB

Content = Callable[..., Path]
SIZE = 16 * MIB


def missing(path: Path, point: str) -> None:
    path.unlink()


def state_directory(path: Path, point: str) -> None:
    shutil.rmtree(path.parent)


def truncated(path: Path, point: str) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def empty(path: Path, point: str) -> None:
    path.write_bytes(b"")


def both_headers_damaged(path: Path, point: str) -> None:
    with path.open("r+b") as file:
        for at in (0, HEADER):
            file.seek(at + 20)
            file.write(b"\xa5" * 8)


def of_a_newer_version(path: Path, point: str) -> None:
    with path.open("r+b") as file:
        for at in (0, HEADER):
            file.seek(at)
            file.write(struct.pack("<8sH", MAGIC, VERSION + 1))


def _another(path: Path, point: str, *, capacity: int = SIZE, algorithm: str = ALGORITHM) -> None:
    with_point = DigestMap.create(path, capacity_bytes=capacity, algorithm=algorithm)
    pending = with_point.begin_run(point)
    with_point.seal(pending)
    with_point.apply(point)
    with_point.close()


def of_another_size(path: Path, point: str) -> None:
    _another(path, point, capacity=SIZE // 2)


def of_another_hash(path: Path, point: str) -> None:
    _another(path, point, algorithm="md5")


def of_another_point(path: Path, point: str) -> None:
    _another(path, "20200101T000000Z-abcdef")


def with_damaged_digests(path: Path, point: str) -> None:
    with path.open("r+b") as file:
        file.seek(RECORDS_AT + 200 * RECORD)
        file.write(b"\xa5" * RECORD)


def a_folder(path: Path, point: str) -> None:
    path.unlink()
    path.mkdir()


LOSSES = [
    missing,
    truncated,
    empty,
    both_headers_damaged,
    of_a_newer_version,
    of_another_size,
    of_another_hash,
    of_another_point,
    a_folder,
]


@pytest.fixture(scope="module")
def vm_and_job(world, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Job]:
    raw = tmp_path_factory.mktemp("maps") / "content.raw"
    raw.write_bytes(bytes(range(1, 256)) * (SIZE // 255) + bytes(SIZE % 255))
    vm = world.make_vm(raw)
    world.power_on(vm)
    job = world.job(vm, audit_share=1.0)
    run(job)
    return vm, job


def rewrite(world, vm: str) -> None:
    """The guest writes what is there already: with a digest map nothing of it is sent."""
    world.write(vm, 2000, 0, world.control.guest_read(world.here, vm, 2000, 0, 2 * MIB))


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_a_plan_says_that_a_map_is_lost(
    vm_and_job: tuple[str, Job], tmp_path: Path, lose: Callable[[Path, str], None]
) -> None:
    _, job = vm_and_job
    point = points(job)[-1].id
    _another(tmp_path / "map", point)
    state = tmp_path / "state" / job.name
    state.mkdir(parents=True)
    there = replace(job, state_dir=state.parent)
    shutil.copyfile(tmp_path / "map", map_path(state, 2000))
    assert map_problem(there, 2000, point, SIZE) is None
    lose(map_path(state, 2000), point)
    assert map_problem(there, 2000, point, SIZE)


@pytest.mark.parametrize("lose", [missing, state_directory, of_another_hash])
def test_a_lost_map_is_said_and_is_back_after_one_delta(
    world, vm_and_job: tuple[str, Job], lose: Callable[[Path, str], None]
) -> None:
    vm, job = vm_and_job
    lose(map_path(job.job_dir, 2000), points(job)[-1].id)
    rewrite(world, vm)
    planned = plan(job)
    assert planned.disks[0].mode is CopyMode.DELTA
    assert planned.disks[0].digest_map_problem
    assert any("audit of change tracking is off" in text for text in planned.warnings)
    without = run(job, verify=True)
    disk = without.disks[0]
    assert (disk.mode, disk.audited_bytes, disk.redundant_bytes) == (CopyMode.DELTA, 0, 0)
    assert disk.digest_map_problem == planned.disks[0].digest_map_problem
    said = [text for text in without.warnings if "audit of change tracking is off" in text]
    assert len(said) == 1
    assert any("rebuilt the digest map" in text for text in without.recovered)
    rewrite(world, vm)
    assert_audited(run(job))


def assert_audited(report: RunReport) -> None:
    """A delta that dropped what the guest rewrote, and audited all of the rest."""
    (disk,) = report.disks
    assert (disk.mode, disk.written_bytes) == (CopyMode.DELTA, 0)
    assert disk.redundant_bytes == 2 * MIB
    assert disk.audited_bytes == SIZE - 2 * MIB
    assert disk.digest_map_problem is None


def test_damaged_digests_are_not_taken_for_changes_that_tracking_missed(
    world, vm_and_job: tuple[str, Job]
) -> None:
    vm, job = vm_and_job
    with_damaged_digests(map_path(job.job_dir, 2000), "")
    report = run(job, verify=True)
    assert report.disks[0].digest_map_problem == "it is damaged"
    assert any("rebuilt the digest map" in text for text in report.recovered)
    rewrite(world, vm)
    assert_audited(run(job))


def test_a_map_that_cannot_be_made_is_a_warning_of_each_run(
    world, vm_and_job: tuple[str, Job]
) -> None:
    _, job = vm_and_job
    path = map_path(job.job_dir, 2000)
    a_folder(path, "")
    try:
        for _ in range(2):
            report = run(job)
            assert report.disks[0].digest_map_problem
            assert any("digest maps are not rebuilt" in text for text in report.warnings)
    finally:
        path.rmdir()
    assert any("rebuilt the digest map" in text for text in run(job).recovered)


def test_a_rebuild_that_is_cancelled_leaves_the_point_and_comes_again(
    world, vm_and_job: tuple[str, Job]
) -> None:
    _, job = vm_and_job
    missing(map_path(job.job_dir, 2000), "")
    control = Control()

    def listener(event: ReplicationEvent) -> None:
        if isinstance(event, Step) and event.name == "digest":
            control.cancel()

    report = run(job, listener=listener, control=control)
    assert points(job)[-1].id == report.point.id
    assert any("digest maps are not rebuilt: cancelled" in text for text in report.warnings)
    assert plan(job).disks[0].digest_map_problem
    assert any("rebuilt the digest map" in text for text in run(job).recovered)


def test_a_rescan_reads_both_sides_and_mends_what_no_tracking_and_no_map_knows(
    world, content: Content
) -> None:
    vm = world.make_vm(content(SIZE))
    world.power_on(vm)
    job = world.job(vm)
    run(job)
    # Tracking loses the tenth change: the next point lacks it, and the digest map knows no better.
    world.control.settings(world.here, cbt_bug="drop")
    for number in range(10):
        world.write(vm, 2000, number * 8 * BLOCK, b"lost" * (BLOCK // 4))
    assert run(replace(job, audit_share=0.0)).written_bytes == 9 * BLOCK
    world.control.settings(world.here, cbt_bug="")
    assert plan(replace(job, rescan=True)).disks[0].mode is CopyMode.RESCAN
    report = run(replace(job, rescan=True), verify=True)
    assert (report.disks[0].mode, report.written_bytes) == (CopyMode.RESCAN, BLOCK)
    assert report.verified is not None
    assert report.verified.equal
    assert run(job).disks[0].mode is CopyMode.DELTA
