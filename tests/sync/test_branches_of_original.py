"""Side branches on an original, of failbacks that were undone: runs remove them in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.sync_model import World, on_the_model
from vreplica.points import Level
from vreplica.points.side_branch import SideBranch
from vreplica.sync.cycle import run
from vreplica.sync.replica.side_branches import branches_of_original

DAY = timedelta(days=1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A source that went through a failback: `un-1` is what it wrote before that was undone.

    `un-other` is of another job.
    """
    made = World(tmp_path)
    with on_the_model(made):
        assert made.run(None, kill=False) is not None
        for id_, job in (("un-1", made.job.reverse_name), ("un-other", "db~back")):
            branch = SideBranch(id_, job, "fb-1", "p", Level.CRASH, datetime.now(UTC), None)
            made.source.extra.update(branch.to_extra_config())
            made.here.create_snapshot(made.source.ref, id_, "", None)
        for key in branch.to_extra_config():
            made.source.extra.pop(key)
        yield made


def names(world: World) -> list[str]:
    return [s.info.name for s in world.source.snapshots]


def test_a_branch_on_the_original_goes_by_a_run_once_its_days_are_over(world: World) -> None:
    run(world.job)
    assert names(world) == ["un-1", "un-other"], "14 days are not over"
    world.here.step_clock(15 * DAY.total_seconds())
    run(replace(world.job, keep_undone_days=None))
    assert "un-1" in names(world), "kept until it is removed by hand"
    run(world.job)
    assert names(world) == ["un-other"]


def test_only_branches_of_its_own_failbacks_are_the_jobs(world: World) -> None:
    snapshots = world.here.read_snapshots(world.source.ref)
    assert [b.id for b in branches_of_original(world.job, snapshots)] == ["un-1"]
