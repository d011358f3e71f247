"""kill -9 of a run at every kind of place: the replica stays at a point, the next run mends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vreplica.delta.copy.modes import CopyMode
from vreplica.sync.cycle import run
from vreplica.sync.plan.plan import plan
from vreplica.sync.recovery_points import points
from vreplica.units import BLOCK, MIB

PLACES = [
    "read+",
    "snapshot+",
    "after+take_source_snapshot",
    "copy+",
    "bytes+0",
    "bytes+0.5",
    "after+copy_disks",
    "commit+",
    "after+describe",
    "after+commit",
    "after+apply_digests",
    "release+",
    "retain+",
]
BEFORE_THE_COMMIT = PLACES[: PLACES.index("after+commit")]


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_run_leaves_the_replica_at_a_point_and_the_next_one_mends(
    world, content: Callable[..., Path], tmp_path: Path, place: str
) -> None:
    from vreplica.points import Retention

    vm = world.make_vm(content(24 * MIB))
    job = world.job(vm, retention=Retention(last=1))
    world.power_on(vm)
    first = run(job).point
    image = world.image(
        1, world.point_disks(job, first.snapshot)[2000], tmp_path / "first.raw"
    ).read_bytes()
    for number in range(100):
        world.write(vm, 2000, number * 3 * BLOCK, bytes([number + 1]) * BLOCK)

    assert world.run_and_kill(job, place, tmp_path) == -9, f"{place} was not reached"

    now = points(job)
    if place in BEFORE_THE_COMMIT:
        assert now == (first,)
        path = world.point_disks(job, first.snapshot)[2000]
        assert world.image(1, path, tmp_path / "after.raw").read_bytes() == image
    else:
        assert now[-1] != first

    world.write(vm, 2000, 23 * MIB, b"later" + bytes(507))
    report = run(job, verify=True)
    assert report.verified is not None
    assert report.verified.equal
    assert report.disks[0].mode is CopyMode.DELTA
    assert not world.source_snapshots(vm)
    # All of its disks were there: what was left to do is done, and nothing is copied again.
    gone_on = place in ("after+copy_disks", "commit+")
    assert any("resumed run" in text for text in report.recovered) == gone_on
    left = place in ("after+take_source_snapshot", "copy+", "bytes+0", "bytes+0.5")
    left = left or place in ("after+describe", "after+commit", "after+apply_digests", "release+")
    assert any("snapshot left" in text for text in report.recovered) == left
    # The mark of the leaf is set with the claim, before anything is written.
    wrote = place in ("bytes+0", "bytes+0.5", "after+describe")
    wrote = wrote or place in ("snapshot+", "after+take_source_snapshot", "copy+")
    assert any("back to point" in text for text in report.recovered) == wrote
    assert len(points(job)) == 1
    assert not plan(job).problems


@pytest.mark.parametrize("place", ["create+", "bytes+0.5", "commit+"])
def test_a_first_run_that_was_killed_is_begun_anew(
    world, content: Callable[..., Path], tmp_path: Path, place: str
) -> None:
    vm = world.make_vm(content(24 * MIB))
    job = world.job(vm)
    assert world.run_and_kill(job, place, tmp_path) == -9
    assert points(job) == ()
    report = run(job, verify=True)
    assert report.verified is not None
    assert report.verified.equal
    assert report.disks[0].mode is CopyMode.FULL
    assert len(points(job)) == 1
    assert not world.source_snapshots(vm)
