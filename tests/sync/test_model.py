"""Whole runs, the real ones, between two sites in memory: whatever happens, points stay true.

What a source's life has (writes, disks that come, go, grow and come back, tracking that is
switched) and what a run's has (killed at any call, connections lost with the work done or not, a
replica that somebody else changed) in any order; the model is what each of the source's
snapshots froze.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.sync_model import UNIT, World, on_the_model

FILLS = st.integers(0, 3)
CALLS = st.one_of(st.none(), st.integers(0, 60), st.integers(0, 400))
EVENTS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2), st.integers(0, 99), st.integers(1, 300), FILLS),
    st.tuples(st.just("write"), st.integers(0, 2), st.integers(0, 99), st.integers(1, 300), FILLS),
    st.tuples(st.just("add"), st.integers(0, 300), FILLS),
    st.tuples(st.just("remove"), st.integers(0, 2)),
    st.tuples(st.just("put_back"), st.integers(0, 2), FILLS, st.booleans()),
    st.tuples(st.just("grow"), st.integers(0, 2), st.integers(1, 200), FILLS),
    st.tuples(st.just("track"), st.booleans()),
    st.tuples(st.just("meddle"), st.integers(0, 99), FILLS, st.booleans()),
    st.tuples(st.just("run"), CALLS, st.booleans()),
    st.tuples(st.just("run"), CALLS, st.booleans()),
    st.tuples(st.just("run"), CALLS, st.booleans()),
    st.tuples(st.just("run"), CALLS, st.booleans()),
)


def live(events: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory(dir=UNIT if UNIT.is_dir() else None) as folder:
        world = World(Path(folder))
        with on_the_model(world):
            for name, *values in events:
                if name == "run":
                    world.run(values[0], kill=values[1])
                else:
                    getattr(world, name)(*values)
            assert world.run(None, kill=False) is not None


@given(st.lists(EVENTS, min_size=8, max_size=40))
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_whatever_happens_every_point_is_what_its_snapshot_froze(
    events: list[tuple[Any, ...]],
) -> None:
    live(events)


def test_runs_that_nothing_went_before_repair_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    with on_the_model(world):
        for _ in range(2):
            report = world.run(None, kill=False)
            assert report is not None
            assert report.recovered == ()


@pytest.mark.slow
def test_so_it_is_over_thousands_of_runs() -> None:
    World.runs, World.ended = 0, Counter()

    @given(st.lists(EVENTS, min_size=20, max_size=60))
    @settings(max_examples=600, suppress_health_check=list(HealthCheck), database=None)
    def many(events: list[tuple[Any, ...]]) -> None:
        live(events)

    many()
    print(f"{World.runs} runs: {dict(World.ended)}")
    assert World.runs >= 5000
    rare = {"killed", "failed", "resumed", "stopped", "full", "delta", "rescan"}
    assert all(World.ended[kind] >= 100 for kind in rare), World.ended
