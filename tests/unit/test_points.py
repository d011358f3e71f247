"""Recovery points: levels in order, description and back, what retention lets go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreplica.points import MAX_POINTS, DiskPoint, Level, RecoveryPoint, Retention
from vreplica.points.model import DISK_KEY, POINT_KEY, new_id

START = datetime(2026, 1, 1, tzinfo=UTC)


def make_point(number: int, level: Level = Level.CRASH) -> RecoveryPoint:
    return RecoveryPoint(
        id=f"p{number:03}",
        job="web01",
        source_vm="5030-aa",
        source_name="web 01",
        time=START + timedelta(hours=number),
        level=level,
        requested=Level.APPLICATION,
        disks=(
            DiskPoint(2000, "Hard disk 1", "60 00", 1 << 31, "52 de/7", "delta", 65536, "ab" * 16),
            DiskPoint(2001, "Hard disk 2", "60 01", 1 << 30, None, "full", 0, ""),
        ),
        excluded=("Hard disk 3",),
        notes=('says "äöü"',),
        snapshot=f"snapshot-{number}",
    )


def test_levels_are_ordered_by_what_they_promise() -> None:
    assert Level.CRASH < Level.FILESYSTEM < Level.APPLICATION < Level.CLEAN_SHUTDOWN
    assert max(Level.APPLICATION, Level.CRASH) is Level.APPLICATION
    assert f"{Level.CLEAN_SHUTDOWN}" == "clean-shutdown"


def test_a_point_comes_back_from_its_description() -> None:
    point = make_point(1, Level.FILESYSTEM)
    values = point.to_extra_config()
    assert set(values) == {POINT_KEY, f"{DISK_KEY}2000", f"{DISK_KEY}2001"}
    assert RecoveryPoint.from_extra_config(values, "snapshot-1") == point


@pytest.mark.parametrize("missing", [POINT_KEY, f"{DISK_KEY}2001"])
def test_an_incomplete_description_is_no_point(missing: str) -> None:
    values = make_point(1).to_extra_config()
    del values[missing]
    assert RecoveryPoint.from_extra_config(values) is None


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"v":2}', '{"v":1}', "null"])
def test_a_damaged_description_is_no_point(text: str) -> None:
    values = {**make_point(1).to_extra_config(), POINT_KEY: text}
    assert RecoveryPoint.from_extra_config(values) is None


def test_values_of_another_vm_are_no_point() -> None:
    assert RecoveryPoint.from_extra_config({"guestinfo.x": "1"}) is None


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    ids = [new_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert [i[:16] for i in ids] == sorted(i[:16] for i in ids)


def test_the_newest_points_stay() -> None:
    points = [make_point(n) for n in range(10)]
    assert [p.id for p in Retention(last=3).expired(points)] == [f"p{n:03}" for n in range(7)]


def test_the_last_application_consistent_point_stays_however_old() -> None:
    points = [make_point(n, Level.APPLICATION if n == 2 else Level.CRASH) for n in range(10)]
    assert "p002" not in [p.id for p in Retention(last=1).expired(points)]


def test_a_newer_point_of_the_same_level_frees_the_older_one() -> None:
    levels = {2: Level.APPLICATION, 5: Level.APPLICATION}
    points = [make_point(n, levels.get(n, Level.CRASH)) for n in range(8)]
    expired = [p.id for p in Retention(last=1).expired(points)]
    assert "p002" in expired
    assert "p005" not in expired


@given(
    st.lists(st.sampled_from(list(Level)), max_size=40),
    st.integers(1, MAX_POINTS),
    st.randoms(use_true_random=False),
)
def test_retention_never_lets_the_newest_and_the_best_go(levels, last, random) -> None:
    points = [make_point(n, level) for n, level in enumerate(levels)]
    shuffled = random.sample(points, len(points))
    expired = Retention(last=last).expired(shuffled)
    kept = [p for p in points if p not in expired]
    assert len(kept) <= max(last, 2)
    assert len(kept) >= min(last, len(points))
    if points:
        assert kept[-1] == points[-1]
        assert max(p.level for p in kept) == max(levels)


@pytest.mark.parametrize("last", [0, -1, MAX_POINTS + 1])
def test_retention_refuses_what_a_chain_cannot_hold(last: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 28"):
        Retention(last=last)
