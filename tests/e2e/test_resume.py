"""A run that broke off in the middle of its disks is gone on with, or undone; never in between."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vreplica.delta.control import Control
from vreplica.delta.copy.content_sample import DENSE
from vreplica.delta.copy.modes import CopyMode
from vreplica.delta.copy.transfer import RetryPolicy
from vreplica.delta.errors import CopyCancelled
from vreplica.disk import Disk
from vreplica.disk_errors import HostConnection
from vreplica.nfc.config import NfcConfig
from vreplica.points import Level
from vreplica.sync.anomaly import MIN_PIECES
from vreplica.sync.copy import one_disk
from vreplica.sync.cycle import run
from vreplica.sync.errors import PreflightFailed
from vreplica.sync.events import Progress
from vreplica.sync.job import OnReplicaChange, Transport
from vreplica.sync.plan.plan import plan
from vreplica.sync.plan.space import MARGIN
from vreplica.sync.recovery_points import points
from vreplica.sync.report import RunReport
from vreplica.units import BLOCK, MIB

Content = Callable[..., Path]


def allocated(raw: Path) -> int:
    """Bytes of blocks that are not zeros."""
    data = raw.read_bytes()
    blocks = (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))
    return sum(BLOCK for block in blocks if block.strip(b"\0"))


class Counting:
    """The replica's disk, and how much this process writes to it."""

    def __init__(self, disk: Disk, sizes: list[int]) -> None:
        self.disk, self.sizes = disk, sizes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.disk, name)

    def write_many(self, requests: Any) -> None:
        self.sizes += [view.nbytes for _, view in requests]
        self.disk.write_many(requests)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Bytes that this process has written to replicas since it was asked last."""
    sizes: list[int] = []
    real = one_disk.open_leaf
    monkeypatch.setattr(one_disk, "open_leaf", lambda *a, **k: Counting(real(*a, **k), sizes))

    def since() -> int:
        total = sum(sizes)
        sizes.clear()
        return total

    return since


def adds_up(report: RunReport) -> bool:
    """Do the statistics of the point cover all that its run brought over?"""
    known = [d.stats for d in report.point.disks if d.stats is not None]
    not_written = sum((s.redundant_bytes or 0) + (s.zero_already_bytes or 0) for s in known)
    whole = not_written + sum(s.zeroed_bytes + s.data_bytes for s in known)
    return whole == sum(s.looked_at_bytes for s in known) and len(known) == len(report.disks)


def test_a_full_copy_that_was_killed_goes_on_where_it_was(
    world: Any, content: Content, tmp_path: Path, written: Callable[[], int]
) -> None:
    raws = content(24 * MIB, 1), content(8 * MIB, 2)
    vm = world.make_vm(*raws)
    job = world.job(vm, parallel_disks=1)
    assert world.run_and_kill(job, "writes+8", tmp_path, checkpoint_s=0.0) == -9
    assert points(job) == ()
    said = plan(job)
    assert said.resumes is not None
    assert said.steps[0].startswith(f"resume run {said.resumes.record.run} at ")
    (snapshot,) = world.source_snapshots(vm)

    world.power_on(vm)
    world.write(vm, 2000, 0, b"later" + bytes(507))
    report, equal = world.run_and_compare(job)
    assert equal == [True, True], "the point is what the first run's snapshot froze"
    assert report.point.id == said.resumes.record.run
    assert report.point.time == snapshot.created
    assert any("resumed run" in text for text in report.recovered)
    whole = sum(allocated(raw) for raw in raws)
    assert report.written_bytes == whole, "what the point is told to have shipped is of both parts"
    assert adds_up(report)
    assert 0 < written() < whole * 0.7
    assert not world.source_snapshots(vm)

    after, equal = world.run_and_compare(job)
    assert equal == [True, True]
    assert [d.mode for d in after.disks] == [CopyMode.DELTA, CopyMode.DELTA]
    assert after.written_bytes == BLOCK


def test_a_delta_that_was_killed_goes_on_twice_and_its_point_covers_all_parts(
    world: Any, content: Content, tmp_path: Path, written: Callable[[], int]
) -> None:
    vm = world.make_vm(content(24 * MIB))
    job = world.job(vm)
    world.power_on(vm)
    first = run(job).point
    for number in range(100):
        # Encrypted at the beginning, a log behind: what the last part sees is harmless.
        data = random.Random(number).randbytes(BLOCK) if number < 60 else b"log\n" * (BLOCK // 4)
        world.write(vm, 2000, number * 3 * BLOCK, data)
    assert world.run_and_kill(job, "writes+2", tmp_path, checkpoint_s=0.0) == -9
    once = plan(job).resumes
    assert world.run_and_kill(job, "writes+2", tmp_path, checkpoint_s=0.0) == -9
    twice = plan(job).resumes
    assert once is not None
    assert twice is not None
    assert once.record.run == twice.record.run
    assert 0 < once.done_bytes < twice.done_bytes < 24 * MIB
    assert points(job) == (first,)
    assert plan(job).disks[0].mode is CopyMode.DELTA
    written()
    report, equal = world.run_and_compare(job)
    assert equal == [True]
    assert 0 < written() < 60 * BLOCK
    (stats,) = [d.stats for d in report.point.disks]
    assert stats is not None
    assert (stats.looked_at_bytes, stats.data_bytes) == (100 * BLOCK, 100 * BLOCK)
    assert stats.high_entropy_share == pytest.approx(0.6, abs=0.1)
    assert run(job, verify=True).verified.equal


def test_a_run_that_is_gone_on_with_needs_room_for_what_is_left_only(
    world: Any, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(24 * MIB))
    job = world.job(vm)
    world.power_on(vm)
    run(job)
    for number in range(200):
        world.write(vm, 2000, number * BLOCK, random.Random(number).randbytes(BLOCK))
    assert world.run_and_kill(job, "writes+8", tmp_path, checkpoint_s=0.0) == -9
    broken = plan(job).resumes
    assert broken is not None
    left = 200 * BLOCK - broken.done_bytes
    assert left < 150 * BLOCK
    with world.datastore_left(1, job.placement.datastore, MARGIN + left):
        report, equal = world.run_and_compare(job)
    assert equal == [True]
    assert report.point.id == broken.record.run


def test_a_mass_encryption_is_flagged_though_its_run_was_killed_in_the_middle(
    world: Any, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(32 * MIB))
    job = world.job(vm)
    world.power_on(vm)
    run(job)
    world.write(vm, 2000, 0, b"log\n" * (BLOCK // 4))
    assert not run(job).point.flagged
    for number in range(240):
        world.write(vm, 2000, number * 2 * BLOCK, random.Random(number).randbytes(BLOCK))
    assert world.run_and_kill(job, "writes+10", tmp_path, checkpoint_s=0.0) == -9
    broken = plan(job).resumes
    assert broken is not None
    # What is left would be too little to be judged.
    assert 240 * BLOCK - broken.done_bytes < MIN_PIECES * DENSE * BLOCK
    report = run(job)
    assert any("resumed run" in text for text in report.recovered)
    assert report.point.flagged
    assert any("looks like mass encryption" in text for text in report.warnings)


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
        if not said.problems:
            assert f"take the replica back to point {first.id}" in said.steps
        (reason,) = [w for w in said.warnings if "is not resumed" in w]
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
    with pytest.raises(PreflightFailed):
        run(job)

    told = dataclasses.replace(job, on_replica_change=OnReplicaChange.DISCARD)
    report, equal = world.run_and_compare(told)
    assert equal == [True]
    assert report.written_bytes == 100 * BLOCK
    assert any("back to point" in text for text in report.recovered)
    assert plan(job).resumes is None


def test_an_nfc_connection_that_is_lost_for_good_leaves_the_work_for_the_next_run(
    world: Any, content: Content, monkeypatch: pytest.MonkeyPatch, written: Callable[[], int]
) -> None:
    raw = content(24 * MIB)
    vm = world.make_vm(raw)
    nfc = NfcConfig(reconnects=1, reconnect_wait_s=0.01)
    job = world.job(vm, transport=Transport.NFC, nfc=nfc)
    other = world.sites[1]["name"]
    # Whatever is written behind the middle of the disk: the host resets the connection.
    world.control.add_nfc_fault(other, kind="drop", operation="write", start=12 * MIB, count=None)
    with monkeypatch.context() as patch:
        patch.setattr(one_disk, "RETRY", RetryPolicy(attempts=1))
        patch.setattr(one_disk, "CHECKPOINT_S", 0.0)
        with pytest.raises(HostConnection) as caught:
            run(job)
    assert caught.value.retryable
    assert "resumes this one" in "\n".join(caught.value.explain())
    assert points(job) == ()
    broken = plan(job).resumes
    assert broken is not None
    assert 0 < broken.done_bytes <= 12 * MIB

    world.control.clear_faults(other)
    written()
    report, equal = world.run_and_compare(job)
    assert equal == [True]
    assert report.point.id == broken.record.run
    assert report.written_bytes == allocated(raw), "both parts"
    assert 0 < written() < allocated(raw)


def test_a_run_that_is_cancelled_leaves_nothing_to_go_on_with(
    world: Any, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = world.make_vm(content(24 * MIB))
    job = world.job(vm)
    control = Control()
    monkeypatch.setattr(one_disk, "CHECKPOINT_S", 0.0)

    def listener(event: object) -> None:
        if isinstance(event, Progress) and event.done_bytes * 2 > event.total_bytes:
            control.cancel()

    with pytest.raises(CopyCancelled):
        run(job, listener=listener, control=control)
    assert not world.source_snapshots(vm)
    assert f"{vm}-replica" not in world.vm_names(1)
    assert plan(job).resumes is None
