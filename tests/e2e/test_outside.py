"""A replica that somebody else starts or writes to between two runs: noticed, never overwritten
unasked, repaired when told to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vreplica.delta.copy.modes import CopyMode
from vreplica.sync.cycle import run
from vreplica.sync.errors import PreflightFailed
from vreplica.sync.job import OnReplicaChange
from vreplica.sync.plan.plan import plan
from vreplica.sync.recovery_points import points
from vreplica.sync.replica import foreign_changes
from vreplica.units import BLOCK, MIB

Content = Callable[..., Path]


def leaf(world: Any, job: Any, folder: Path) -> bytes:
    with world.connect(1) as session:
        (disk,) = session.read_vm(session.find_vm(job.placement.name)).disks
    return bytes(world.image(1, disk.path, folder / "leaf.raw").read_bytes())


def test_a_replica_that_was_started_by_hand_stops_the_run_until_it_is_told_to_discard(
    world: Any, content: Content, tmp_path: Path
) -> None:
    vm = world.make_vm(content(8 * MIB))
    job = world.job(vm)
    first = run(job).point
    clean = leaf(world, job, tmp_path)
    other = world.sites[1]["name"]
    world.control.power(other, job.placement.name, on=True)
    world.control.guest_write(other, job.placement.name, 2000, 3 * MIB, b"theirs!!" * 64)
    world.control.power(other, job.placement.name, on=False)
    theirs = leaf(world, job, tmp_path)
    assert theirs != clean

    (problem,) = plan(job).problems
    for text in (
        "powered on at",
        "of its Hard disk 1 were written to",
        first.id,
        "clone",
        "--disc",
    ):
        assert text in problem
    with pytest.raises(PreflightFailed):
        run(job)
    assert leaf(world, job, tmp_path) == theirs, "nothing was thrown away"
    assert points(job) == (first,)

    told = dataclasses.replace(job, on_replica_change=OnReplicaChange.DISCARD)
    assert f"take the replica back to point {first.id}" in plan(told).steps
    report, equal = world.run_and_compare(told)
    assert equal == [True]
    assert report.disks[0].mode is CopyMode.DELTA
    assert any("discarded" in text for text in report.warnings)
    assert leaf(world, job, tmp_path) == clean
    assert not plan(job).problems, "and that was all"
    assert world.run_and_compare(job)[1] == [True]


def test_writes_are_noticed_without_events_and_only_where_they_differ(
    world: Any, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = content(8 * MIB)
    vm = world.make_vm(raw)
    job = world.job(vm)
    run(job)
    monkeypatch.setattr(foreign_changes, "power_on_since_point", lambda *_: None)
    other = world.sites[1]["name"]
    world.control.power(other, job.placement.name, on=True)
    same = raw.read_bytes()[:BLOCK]
    world.control.guest_write(other, job.placement.name, 2000, 0, same)
    world.control.power(other, job.placement.name, on=False)
    assert plan(job).foreign_changes == (), "tracking reports the block, and it is as it was"

    world.control.power(other, job.placement.name, on=True)
    world.control.guest_write(other, job.placement.name, 2000, MIB, b"x" * 512)
    world.control.power(other, job.placement.name, on=False)
    (said,) = plan(job).foreign_changes
    assert "Hard disk 1" in said


def test_a_replica_that_stays_as_it_was_made_is_never_suspected(
    world: Any, content: Content
) -> None:
    vm = world.make_vm(content(8 * MIB, 1), content(4 * MIB, 2))
    job = world.job(vm)
    world.power_on(vm)
    for number in range(4):
        world.write(vm, 2000, number * MIB, bytes([number + 1]) * BLOCK)
        assert plan(job).foreign_changes == ()
        run(job)
