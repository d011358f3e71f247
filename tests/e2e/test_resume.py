"""A run that broke off in the middle of its disks is gone on with, or undone; never in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vreplica.delta import Control
from vreplica.delta.errors import CopyCancelled
from vreplica.delta.transfer import RetryPolicy
from vreplica.disk import Disk
from vreplica.points import Level
from vreplica.sync import Mode, Progress, copying, plan, points, run
from vreplica.units import BLOCK, MIB
from vreplica.vsphere import HostUnreachable

Content = Callable[..., Path]


def allocated(raw: Path) -> int:
    """Bytes of blocks that are not zeros."""
    data = raw.read_bytes()
    blocks = (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))
    return sum(BLOCK for block in blocks if block.strip(b"\0"))


def test_a_full_copy_that_was_killed_goes_on_where_it_was(
    world: Any, content: Content, tmp_path: Path
) -> None:
    raws = content(24 * MIB, 1), content(8 * MIB, 2)
    vm = world.make_vm(*raws)
    job = world.job(vm, parallel_disks=1)
    assert world.run_and_kill(job, "writes+8", tmp_path, checkpoint_s=0.0) == -9
    assert points(job) == ()
    said = plan(job)
    assert said.resumes is not None
    assert said.steps[0].startswith(f"go on with run {said.resumes.record.run} at ")
    (snapshot,) = world.source_snapshots(vm)

    world.power_on(vm)
    world.write(vm, 2000, 0, b"later" + bytes(507))
    report, equal = world.run_and_compare(job)
    assert equal == [True, True], "the point is what the first run's snapshot froze"
    assert report.point.id == said.resumes.record.run
    assert report.point.time == snapshot.created
    assert any("went on with run" in text for text in report.recovered)
    whole = sum(allocated(raw) for raw in raws)
    assert 0 < report.shipped_bytes < whole * 0.7
    assert not world.source_snapshots(vm)

    after, equal = world.run_and_compare(job)
    assert equal == [True, True]
    assert [d.mode for d in after.disks] == [Mode.DELTA, Mode.DELTA]
    assert after.shipped_bytes == BLOCK


def test_a_delta_that_was_killed_goes_on_twice(
    world: Any, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(24 * MIB))
    job = world.job(vm)
    world.power_on(vm)
    first = run(job).point
    for number in range(100):
        world.write(vm, 2000, number * 3 * BLOCK, bytes([number + 1]) * BLOCK)
    assert world.run_and_kill(job, "writes+2", tmp_path, checkpoint_s=0.0) == -9
    once = plan(job).resumes
    assert world.run_and_kill(job, "writes+2", tmp_path, checkpoint_s=0.0) == -9
    twice = plan(job).resumes
    assert once is not None
    assert twice is not None
    assert once.record.run == twice.record.run
    assert 0 < once.done_bytes < twice.done_bytes < 24 * MIB
    assert points(job) == (first,)
    assert plan(job).disks[0].mode is Mode.DELTA
    report, equal = world.run_and_compare(job)
    assert equal == [True]
    assert 0 < report.shipped_bytes < 60 * BLOCK
    assert run(job, verify=True).verified.equal


def test_a_run_is_undone_where_anything_does_not_fit_any_more(
    world: Any, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(24 * MIB))
    job = world.job(vm)
    world.power_on(vm)
    first = run(job).point
    for number in range(100):
        world.write(vm, 2000, number * 3 * BLOCK, bytes([number + 1]) * BLOCK)
    assert world.run_and_kill(job, "writes+3", tmp_path, checkpoint_s=0.0) == -9

    def why_not(job: Any) -> str:
        said = plan(job)
        assert said.resumes is None
        assert f"take the replica back to point {first.id}" in said.steps
        (reason,) = [w for w in said.warnings if "not gone on with" in w]
        return reason

    assert plan(job).resumes is not None
    assert "consistency" in why_not(dataclasses.replace(job, require=Level.FILESYSTEM))
    digests = job.job_dir / "disk-2000.digests"
    for path, reason in (
        (digests, "missing"),
        (digests.with_name("disk-2000.digests.pending"), "far"),
    ):
        path.rename(path.with_suffix(".away"))
        assert reason in why_not(job)
        path.with_suffix(".away").rename(path)
    assert plan(job).resumes is not None
    # Whoever starts it changes disks of which nobody has a digest.
    other = world.sites[1]["name"]
    world.control.power(other, job.placement.name, on=True)
    world.control.guest_write(other, job.placement.name, 2000, 0, b"t" * 512)
    world.control.power(other, job.placement.name, on=False)
    assert "powered on" in why_not(job)

    report, equal = world.run_and_compare(job)
    assert equal == [True]
    assert report.shipped_bytes == 100 * BLOCK
    assert any("back to point" in text for text in report.recovered)
    assert plan(job).resumes is None


class Failing:
    """The replica's disk until the connection is lost."""

    def __init__(self, disk: Disk, writes: int) -> None:
        self.disk, self.left = disk, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.disk, name)

    def write_many(self, requests: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise HostUnreachable("esx", 902, "connection reset")
        self.disk.write_many(requests)


def test_a_connection_that_is_lost_for_good_leaves_the_work_for_the_next_run(
    world: Any, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = content(24 * MIB)
    vm = world.make_vm(raw)
    job = world.job(vm)
    real = copying.open_leaf
    with monkeypatch.context() as patch:
        patch.setattr(copying, "open_leaf", lambda *a: Failing(real(*a), 8))
        patch.setattr(copying, "RETRY", RetryPolicy(attempts=1))
        patch.setattr(copying, "CHECKPOINT_S", 0.0)
        with pytest.raises(HostUnreachable) as caught:
            run(job)
    assert "goes on" in "\n".join(caught.value.explain())
    assert points(job) == ()
    report, equal = world.run_and_compare(job)
    assert equal == [True]
    assert 0 < report.shipped_bytes < allocated(raw)


def test_a_run_that_is_cancelled_leaves_nothing_to_go_on_with(
    world: Any, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = world.make_vm(content(24 * MIB))
    job = world.job(vm)
    control = Control()
    monkeypatch.setattr(copying, "CHECKPOINT_S", 0.0)

    def listener(event: object) -> None:
        if isinstance(event, Progress) and event.done_bytes * 2 > event.total_bytes:
            control.cancel()

    with pytest.raises(CopyCancelled):
        run(job, listener=listener, control=control)
    assert not world.source_snapshots(vm)
    assert f"{vm}-replica" not in world.vm_names(1)
    assert plan(job).resumes is None
