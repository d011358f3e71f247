"""A whole cycle on the lab, judged by qemu-img: full, delta, several disks."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from vreplica import hours
from vreplica.delta.control import Control
from vreplica.delta.copy.modes import CopyMode
from vreplica.delta.errors import CopyCancelled
from vreplica.delta.throttle import Window
from vreplica.points import Level, Retention
from vreplica.sync.cycle import run
from vreplica.sync.errors import NoSuchPoint
from vreplica.sync.events import Progress, ReplicationEvent, Step, Warn
from vreplica.sync.job import Job, Limits
from vreplica.sync.pause import pause_run, resume_run
from vreplica.sync.plan.plan import plan
from vreplica.sync.recovery_points import NotFlagged, accept, points
from vreplica.sync.replica.state import find_replica
from vreplica.sync.report import RunReport
from vreplica.sync.verify.verify import verify
from vreplica.units import BLOCK, MIB

Content = Callable[..., Path]


def run_and_compare(world, job: Job) -> tuple[RunReport, list[bool]]:
    return world.run_and_compare(job)


def test_full_then_delta_of_two_disks(world, content: Content) -> None:
    vm = world.make_vm(content(192 * MIB, 1), content(64 * MIB + 512 * 7, 2))
    job = world.job(vm)
    assert not plan(job).problems
    assert [d.mode for d in plan(job).disks] == [CopyMode.FULL, CopyMode.FULL]

    first, equal = run_and_compare(world, job)
    assert equal == [True, True]
    assert [d.mode for d in first.disks] == [CopyMode.FULL, CopyMode.FULL]
    assert first.disks[0].written_bytes < 100 * MIB, "holes were shipped"
    assert not world.source_snapshots(vm)

    world.power_on(vm)
    source = random.Random(3)
    changed = {0: [source.randrange(0, 192 * MIB // BLOCK) for _ in range(20)], 1: [0, 5, 1023]}
    for number, blocks in changed.items():
        for block in blocks:
            world.write(vm, 2000 + number, block * BLOCK + 4096, source.randbytes(1024))
    before = plan(job)
    assert [d.mode for d in before.disks] == [CopyMode.DELTA, CopyMode.DELTA]
    assert all(first.point.id in d.reason for d in before.disks)

    second, equal = run_and_compare(world, job)
    assert equal == [True, True]
    assert [d.written_bytes for d in second.disks] == [
        len(set(blocks)) * BLOCK for blocks in changed.values()
    ]
    assert [p.id for p in points(job)] == [first.point.id, second.point.id]
    assert not world.source_snapshots(vm)


def test_a_run_without_changes_ships_nothing(world, content: Content) -> None:
    vm = world.make_vm(content(16 * MIB))
    job = world.job(vm)
    run(job)
    again, equal = run_and_compare(world, job)
    assert equal == [True]
    assert again.written_bytes == 0
    assert again.disks[0].mode is CopyMode.DELTA


def test_rewriting_the_same_content_ships_nothing(world, content: Content) -> None:
    raw = content(16 * MIB)
    vm = world.make_vm(raw)
    job = world.job(vm)
    run(job)
    world.power_on(vm)
    data = raw.read_bytes()[: 4 * MIB]
    world.write(vm, 2000, 0, data)
    report = run(job)
    assert report.disks[0].looked_at_bytes == 4 * MIB
    zeros = sum(data[at : at + BLOCK] == bytes(BLOCK) for at in range(0, len(data), BLOCK)) * BLOCK
    assert report.disks[0].redundant_bytes == 4 * MIB - zeros > 0
    assert report.disks[0].zero_already_bytes == zeros > 0
    assert report.written_bytes == 0


def test_zeros_over_data_arrive_as_zeros(world, content: Content) -> None:
    raw = content(16 * MIB)
    vm = world.make_vm(raw)
    job = world.job(vm)
    run(job)
    world.power_on(vm)
    world.write(vm, 2000, 0, bytes(16 * MIB))
    _, equal = run_and_compare(world, job)
    assert equal == [True]


def test_earlier_points_stay_what_they_were(world, content: Content, tmp_path: Path) -> None:
    vm = world.make_vm(content(16 * MIB))
    job = world.job(vm)
    world.power_on(vm)
    images = []
    for number in range(4):
        world.write(vm, 2000, number * MIB, bytes([number + 1]) * 70144)
        point = run(job).point
        path = world.point_disks(job, point.snapshot)[2000]
        images.append(world.image(1, path, tmp_path / f"{number}.raw").read_bytes())
    assert len(set(images)) == 4
    for point, image in zip(points(job), images, strict=True):
        path = world.point_disks(job, point.snapshot)[2000]
        assert world.image(1, path, tmp_path / "again.raw").read_bytes() == image


def test_retention_removes_the_oldest_points_and_harms_no_other(
    world, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(8 * MIB))
    job = world.job(vm, retention=Retention(last=2))
    world.power_on(vm)
    image = b""
    removed: list[str] = []
    for number in range(5):
        world.write(vm, 2000, number * BLOCK, bytes([number + 1]) * BLOCK)
        foretold = [p.id for p in plan(job).expiring]
        report, equal = run_and_compare(world, job)
        assert equal == [True]
        assert foretold == list(report.removed_points)
        removed += report.removed_points
        image = tmp_path / "now.raw"
        world.image(1, world.point_disks(job, report.point.snapshot)[2000], image)
    left = points(job)
    assert len(left) == 2
    assert len(removed) == 3
    newest = world.image(1, world.point_disks(job, left[-1].snapshot)[2000], tmp_path / "n.raw")
    assert newest.read_bytes() == image.read_bytes()


def test_a_disk_left_out_by_name_is_not_replicated_and_is_named(world, content: Content) -> None:
    vm = world.make_vm(content(8 * MIB, 1), content(8 * MIB, 2))
    job = world.job(vm, exclude_disks=frozenset({"Hard disk 2"}))
    report = run(job)
    assert [d.label for d in report.disks] == ["Hard disk 1"]
    assert report.point.excluded == ("Hard disk 2",)
    assert points(job)[0].excluded == ("Hard disk 2",)


def test_verify_finds_a_point_equal_also_while_the_guest_writes_on(world, content: Content) -> None:
    vm = world.make_vm(content(32 * MIB))
    job = world.job(vm)
    report = run(job, verify=True)
    assert report.verified is not None
    assert report.verified.equal
    assert report.verified.disks[0].compared_bytes == 32 * MIB
    world.power_on(vm)
    world.write(vm, 2000, 5 * MIB, b"x" * 512)
    later = verify(job)
    assert later.equal
    assert later.disks[0].changed_since_bytes == BLOCK
    assert later.disks[0].compared_bytes == 32 * MIB - BLOCK
    assert not world.source_snapshots(vm)


def test_digests_of_a_verification_are_those_of_the_images_that_qemu_img_makes(
    world, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(48 * MIB, 41), content(8 * MIB + 512 * 7, 42))
    job = world.job(vm)
    point = run(job).point
    world.power_on(vm)
    world.write(vm, 2000, 5 * MIB, random.Random(43).randbytes(3 * BLOCK))
    report = verify(job)
    assert report.equal
    assert report.disks[0].changed_since_bytes >= 3 * BLOCK
    digests = {}
    for key, path in world.point_disks(job, point.snapshot).items():
        image = world.image(1, path, tmp_path / f"{key}.raw").read_bytes()
        digests[key] = blake3(image).hexdigest()
    assert {d.key: d.image_digest for d in report.disks} == digests
    lines = "".join(f"{d.key} {d.capacity_bytes} {digests[d.key]}\n" for d in report.disks)
    assert report.totals.image_digest == blake3(lines.encode()).hexdigest()

    sampled = verify(job, share=0.2, seed=5, algorithm="xxh3-128")
    assert sampled.equal
    assert sampled.sampled
    spots = [d.spot for d in sampled.disks]
    assert all(s is not None and 0 < s.pieces < s.of_pieces for s in spots)
    assert verify(job, share=0.2, seed=5, algorithm="xxh3-128").totals == sampled.totals


def test_verify_finds_a_byte_that_differs(world, content: Content) -> None:
    vm = world.make_vm(content(16 * MIB))
    job = world.job(vm)
    point = run(job).point
    flat = world.file(1, world.point_disks(job, point.snapshot)[2000])
    flat = flat.with_name(flat.stem + "-flat.vmdk")
    with flat.open("r+b") as file:
        file.seek(7 * MIB + 100)
        byte = file.read(1)
        file.seek(7 * MIB + 100)
        file.write(bytes([byte[0] ^ 1]))
    report = verify(job)
    assert not report.equal
    assert report.disks[0].first_differences == ((7 * MIB, 7 * MIB + 512),)


def test_a_limited_run_is_paused_and_resumed_from_outside_and_comes_out_equal(
    world, content: Content
) -> None:
    vm = world.make_vm(content(24 * MIB, 61))
    job = world.job(vm, limits=Limits(3.0 * MIB))
    heard: list[str] = []

    def listener(event: ReplicationEvent) -> None:
        if isinstance(event, Progress) and "asked" not in heard:
            heard.append("asked")
            pause_run(job)
        elif isinstance(event, Warn):
            heard.append(event.text)
            if event.text.startswith("paused"):
                resume_run(job)

    report = run(job, listener=listener, verify=True)
    assert any("the source's snapshot grows until the run is resumed" in text for text in heard)
    assert any(text.startswith("resumed after") for text in heard)
    assert report.verified is not None
    assert report.verified.equal
    # 8 MiB are read twice at 3 MiB a second, by the copy and by the comparison, less what the
    # bucket held: no run within its limits is faster.
    assert report.seconds > 3


def test_a_held_run_that_is_cancelled_leaves_nothing_behind(world, content: Content) -> None:
    vm = world.make_vm(content(8 * MIB, 62))
    job = world.job(vm, limits=Limits(windows=(Window(0, hours.parse("mon-sun")),)))
    control = Control()

    def cancel_when_held(event: ReplicationEvent) -> None:
        if isinstance(event, Step) and event.name == "copy":
            pause_run(job)
            threading.Timer(1.0, control.cancel).start()

    with pytest.raises(CopyCancelled):
        run(job, listener=cancel_when_held, control=control)
    assert not world.source_snapshots(vm)
    assert job.placement.name not in world.vm_names(1)
    assert not (job.job_dir / "paused").exists()
    assert run(replace(job, limits=Limits())).point


def test_a_mass_encryption_is_flagged_and_the_clean_point_before_it_stays_until_accepted(
    world, content: Content
) -> None:
    vm = world.make_vm(content(64 * MIB, 51))
    job = world.job(vm, retention=Retention(last=1))
    world.power_on(vm)
    full = run(job)
    assert not full.point.suspicions
    world.write(vm, 2000, 30 * MIB, b"a line of a log\n" * (9 * MIB // 16))
    clean = run(job)
    assert not clean.point.suspicions
    stats = clean.point.disks[0].stats
    assert stats is not None
    assert stats.data_bytes == 9 * MIB
    assert stats.redundant_bytes is not None
    assert stats.zero_already_bytes is not None
    not_written = stats.redundant_bytes + stats.zero_already_bytes
    assert stats.looked_at_bytes == not_written + stats.zeroed_bytes + stats.data_bytes
    assert stats.compressibility < 0.1
    assert stats.seconds is not None
    assert clean.point.overhead_s is not None
    assert 0 < stats.seconds < stats.seconds + clean.point.overhead_s < clean.seconds
    assert clean.disks[0].compressibility == pytest.approx(stats.compressibility, abs=0.001)
    for n in range(0, 40, 8):
        world.write(vm, 2000, n * MIB, random.Random(n).randbytes(8 * MIB))
    odd = run(job)
    assert odd.point.flagged
    assert any("looks like mass encryption" in text for text in odd.warnings)
    newest = [run(job) for _ in range(2)][-1]
    assert [p.id for p in points(job)] == [clean.point.id, odd.point.id, newest.point.id]
    assert [p.flagged for p in points(job)] == [False, True, False]
    assert any(f"--accept {odd.point.id}" in text for text in newest.warnings)
    with pytest.raises(NotFlagged):
        accept(job, (clean.point.id,))
    with pytest.raises(NoSuchPoint):
        accept(job, ("nonsense",))
    assert [p.accepted for p in accept(job, (odd.point.id,))] == [False, True, False]
    last = run(job)
    assert not any("flagged" in text for text in last.warnings)
    assert [p.id for p in points(job)] == [last.point.id]


@pytest.mark.parametrize(
    ("guest", "tools", "level"),
    [
        ("windows2019srv_64Guest", True, Level.APPLICATION),
        ("debian12_64Guest", True, Level.FILESYSTEM),
        ("debian12_64Guest", False, Level.CRASH),
    ],
)
def test_a_point_says_the_level_that_was_reached(
    world, content: Content, guest: str, tools: bool, level: Level
) -> None:
    vm = world.make_vm(content(4 * MIB), guest_id=guest, tools=tools)
    world.power_on(vm)
    job = world.job(vm)
    assert plan(job).expected_level is level
    assert run(job).point.level is level
    assert points(job)[0].level is level


def test_a_cancelled_verification_keeps_the_point_and_leaves_no_snapshot(
    world, content: Content
) -> None:
    vm = world.make_vm(content(8 * MIB, 31))
    job = world.job(vm)
    control = Control()

    def cancel_at_verify(event: ReplicationEvent) -> None:
        if isinstance(event, Step) and event.name == "verify":
            control.cancel()

    with pytest.raises(CopyCancelled):
        run(job, listener=cancel_at_verify, verify=True, control=control)
    assert len(points(job)) == 1
    assert not world.source_snapshots(vm)
    with pytest.raises(CopyCancelled):
        verify(job, control=control)
    assert not world.source_snapshots(vm)
    assert verify(job).equal


def refuse(path: Path) -> None:
    """Let the file be one that cannot be opened, replaced or deleted."""
    path.unlink(missing_ok=True)
    path.mkdir()


def test_a_run_ends_well_where_its_own_files_cannot_follow_the_point(
    world, content: Content
) -> None:
    vm = world.make_vm(content(8 * MIB, 32))
    job = world.job(vm)

    def at_commit(event: ReplicationEvent) -> None:
        if isinstance(event, Step) and event.name == "commit":
            refuse(job.job_dir / "run.json")
            refuse(job.job_dir / "disk-2000.digests")

    report = run(job, listener=at_commit)
    assert any("disk-2000.digests" in text for text in report.warnings)
    assert points(job)[-1] == report.point
    assert not world.source_snapshots(vm)


def test_a_run_that_fails_is_undone_also_where_its_own_files_refuse(
    world, content: Content
) -> None:
    vm = world.make_vm(content(8 * MIB, 33))
    job = world.job(vm)
    first = run(job).point

    def fail(event: ReplicationEvent) -> None:
        if isinstance(event, Progress):
            refuse(job.job_dir / "run.json")
            refuse(job.job_dir / "paused")
            raise RuntimeError("what went wrong")

    with pytest.raises(RuntimeError, match="what went wrong"):
        run(job, listener=fail)
    assert not world.source_snapshots(vm)
    with world.connect(1) as session:
        found = find_replica(session, job)
    assert found is not None
    assert found.stands_on == first
