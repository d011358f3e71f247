"""Recovery points: levels in order, description and back, what retention lets go."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreplica.points import (
    MAX_POINTS,
    DamagedPoint,
    DiskPoint,
    Level,
    NewerPoint,
    RecoveryPoint,
    Retention,
)
from vreplica.points.changes import ChangeStats, PastChange, StatsLayout
from vreplica.points.model import FORMAT, new_id
from vreplica.points.retention import best
from vreplica.points.vm_keys import DISK_KEY, POINT_KEY

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


def unsealed(values: dict[str, str]) -> dict[str, str]:
    """The description as the first version wrote it: without a checksum."""
    point = json.loads(values[POINT_KEY])
    del point["sum"]
    return {**values, POINT_KEY: json.dumps(point, separators=(",", ":"))}


def test_levels_are_ordered_by_what_they_promise() -> None:
    assert Level.CRASH < Level.FILESYSTEM < Level.APPLICATION < Level.CLEAN_SHUTDOWN
    assert max(Level.APPLICATION, Level.CRASH) is Level.APPLICATION
    assert f"{Level.CLEAN_SHUTDOWN}" == "clean-shutdown"


def test_a_point_comes_back_from_its_description() -> None:
    point = make_point(1, Level.FILESYSTEM)
    values = point.to_extra_config()
    assert set(values) == {POINT_KEY, f"{DISK_KEY}2000", f"{DISK_KEY}2001"}
    assert RecoveryPoint.from_extra_config(values, "snapshot-1") == point


def test_a_description_without_statistics_and_flags_is_that_of_an_older_point() -> None:
    point = make_point(1)
    values = point.to_extra_config()
    assert '"stats"' not in "".join(values.values())
    assert "suspicions" not in "".join(values.values())
    read = RecoveryPoint.from_extra_config(values)
    assert read is not None
    assert not read.flagged
    assert [d.stats for d in read.disks] == [None, None]
    assert read.overhead_s is None
    assert read.to_dict()["disks"][0]["stats"] is None


def test_how_long_a_run_took_comes_back_and_may_be_missing() -> None:
    stats = ChangeStats(10, 2, 1, 3, 4, 40, 0.42, 0.1, 99, (PastChange(1, 2, 0.5),), seconds=1.25)
    point = replace(
        make_point(1),
        disks=(replace(make_point(1).disks[0], stats=stats),),
        overhead_s=7.5,
    )
    values = point.to_extra_config()
    read = RecoveryPoint.from_extra_config(values)
    assert read == replace(point, snapshot=None)
    assert (read.overhead_s, read.disks[0].stats) == (7.5, stats)
    older = json.loads(values[f"{DISK_KEY}2000"])
    del older["stats"]["s"]
    old = unsealed(values) | {f"{DISK_KEY}2000": json.dumps(older)}
    read = RecoveryPoint.from_extra_config(old)
    assert read is not None
    assert read.disks[0].stats == replace(stats, seconds=None)


def test_counts_keep_the_names_and_meanings_that_older_movers_read() -> None:
    stats = ChangeStats(10, 2, 1, 3, 4, 40, 0.42, 0.1, 99)
    values = stats.to_values()
    old = {k: values[k] for k in ("changed", "redundant", "zero", "shipped")}
    assert old == {"changed": 10, "redundant": 3, "zero": 3, "shipped": 4}
    del values["zeroAlready"]
    read = ChangeStats.from_layout(StatsLayout.parse(json.dumps(values)))
    assert (read.redundant_bytes, read.zero_already_bytes) == (None, None)
    assert (read.looked_at_bytes, read.zeroed_bytes, read.data_bytes) == (10, 3, 4)
    again = StatsLayout.parse(json.dumps(read.to_values()))
    assert ChangeStats.from_layout(again) == read, "carried on as it was"


@pytest.mark.parametrize("missing", [POINT_KEY, f"{DISK_KEY}2001"])
def test_an_incomplete_description_is_no_point(missing: str) -> None:
    values = make_point(1).to_extra_config()
    del values[missing]
    assert RecoveryPoint.from_extra_config(values) is None


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"v":2}', '{"v":1}', "null"])
def test_a_damaged_description_is_no_point(text: str) -> None:
    values = {**make_point(1).to_extra_config(), POINT_KEY: text}
    assert RecoveryPoint.from_extra_config(values) is None


DAMAGE = [
    (POINT_KEY, '"v":1', '"v":1e400'),
    (POINT_KEY, '"v":1', '"v":true'),
    (POINT_KEY, '"overhead":1.5', '"overhead":Infinity'),
    (POINT_KEY, '"overhead":1.5', '"overhead":NaN'),
    (POINT_KEY, '"overhead":1.5', '"overhead":-1'),
    (POINT_KEY, "2026-01-01T01:00:00+00:00", "2026-01-01T01:00:00"),
    (POINT_KEY, "2026-01-01T01:00:00+00:00", "9999-12-31T23:59:59-12:00"),
    (POINT_KEY, "2026-01-01T01:00:00+00:00", "0001-01-01T00:00:00+14:00"),
    (POINT_KEY, '"p001"', '"a name of two words"'),
    (POINT_KEY, '"p001"', '"' + 65 * "p" + '"'),
    (POINT_KEY, '"p001"', "7"),
    (POINT_KEY, '"crash"', '"superb"'),
    (POINT_KEY, "[2000,2001]", "[2000,2000]"),
    (POINT_KEY, "[2000,2001]", "[2000,-1]"),
    (POINT_KEY, "[2000,2001]", '"2000"'),
    (POINT_KEY, '["Hard disk 3"]', '"Hard disk 3"'),
    (POINT_KEY, '["Hard disk 3"]', '["\\ud800"]'),
    (POINT_KEY, '["Hard disk 3"]', "[" * 5000 + "]" * 5000),
    (f"{DISK_KEY}2000", str(1 << 31), str(1 << 63)),
    (f"{DISK_KEY}2000", str(1 << 31), "-1"),
    (f"{DISK_KEY}2000", str(1 << 31), "1.5"),
    (f"{DISK_KEY}2000", str(1 << 31), "9" * 5000),
    (f"{DISK_KEY}2000", '"52 de/7"', "7"),
    (f"{DISK_KEY}2000", "ab" * 16, "no digest"),
    (f"{DISK_KEY}2000", '"compress":0.42', '"compress":NaN'),
    (f"{DISK_KEY}2000", '"sampled":40', '"sampled":4e1'),
    (f"{DISK_KEY}2000", "[[1,2,0.5]]", "[[1,2]]"),
]


@pytest.mark.parametrize(("key", "what", "by"), DAMAGE)
def test_an_old_description_with_an_impossible_value_is_a_damaged_point(
    key: str, what: str, by: str
) -> None:
    stats = ChangeStats(10, 2, 1, 3, 4, 40, 0.42, 0.1, 99, (PastChange(1, 2, 0.5),))
    first, second = make_point(1).disks
    point = replace(make_point(1), disks=(replace(first, stats=stats), second), overhead_s=1.5)
    values = unsealed(point.to_extra_config())
    assert DamagedPoint.from_extra_config(values, name="p001") is None, "it is good"
    assert what in values[key]
    values[key] = values[key].replace(what, by)
    assert RecoveryPoint.from_extra_config(values) is None
    assert NewerPoint.from_extra_config(values) is None
    found = DamagedPoint.from_extra_config(values, "snapshot-1", name="p001")
    assert found is not None
    assert (found.id, found.snapshot) == ("p001", "snapshot-1")
    assert len(found.reason) < 200


def test_a_single_flipped_bit_anywhere_in_a_description_is_seen_or_changes_nothing() -> None:
    point = make_point(1)
    values = point.to_extra_config()
    for key, text in values.items():
        for at in range(len(text)):
            for bit in (0, 1, 3, 6):
                flipped = chr(ord(text[at]) ^ 1 << bit)
                broken = {**values, key: text[:at] + flipped + text[at + 1 :]}
                assert RecoveryPoint.from_extra_config(broken) in (None, point), (key, at, bit)
                assert NewerPoint.from_extra_config(broken) is None


def test_what_an_earlier_point_said_of_a_disk_does_not_count() -> None:
    point = replace(make_point(1), disks=make_point(1).disks[:1])
    values = {**make_point(0).to_extra_config(), **point.to_extra_config()}
    assert RecoveryPoint.from_extra_config(values) == point


@pytest.mark.parametrize("id_", ["00010101T000000Z-aaaaaa", "99991231T235959Z-aaaaaa"])
def test_an_id_of_an_impossible_time_tells_none(id_: str) -> None:
    point = replace(make_point(1), id=id_)
    assert point.taken == point.time


def test_values_of_another_vm_are_no_point() -> None:
    assert RecoveryPoint.from_extra_config({"guestinfo.x": "1"}) is None


def test_a_point_of_a_newer_version_is_told_apart() -> None:
    values = make_point(1).to_extra_config()
    assert NewerPoint.from_extra_config(values) is None, "ours"
    newer = json.loads(unsealed(values)[POINT_KEY]) | {"v": FORMAT + 1, "time": ["anything"]}
    found = NewerPoint.from_extra_config({POINT_KEY: json.dumps(newer)}, "snapshot-1")
    assert found == NewerPoint(make_point(1).id, FORMAT + 1, newer["job"], "snapshot-1")
    assert "newer version of vreplica (format 2); this version reads up to 1" in str(found)
    assert RecoveryPoint.from_extra_config({**values, POINT_KEY: json.dumps(newer)}) is None


def test_a_newer_point_without_an_id_is_called_like_its_snapshot() -> None:
    values = {POINT_KEY: json.dumps({"v": FORMAT + 3})}
    found = NewerPoint.from_extra_config(values, name="20300101T000000Z-abc")
    assert found == NewerPoint("20300101T000000Z-abc", FORMAT + 3)


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"v":"2"}', '{"v":0}', '{"v":1}', "null"])
def test_what_is_no_newer_point(text: str) -> None:
    assert NewerPoint.from_extra_config({POINT_KEY: text}) is None


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    ids = [new_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert [i[:16] for i in ids] == sorted(i[:16] for i in ids)


def test_the_newest_points_stay() -> None:
    points = [make_point(n) for n in range(10)]
    assert [p.id for p in Retention(last=3).expired(points)] == [f"p{n:03}" for n in range(7)]


def test_the_last_of_the_chain_stays_and_is_the_best_whatever_the_sources_clock_said() -> None:
    ahead = [replace(p, time=p.time + timedelta(days=365)) for p in map(make_point, range(3))]
    points = [*ahead, *map(make_point, range(3, 6))]
    assert ids(Retention(last=1).expired(points)) == ids(points[:-1])
    assert best(points) is points[-1]


def test_a_points_age_counts_by_its_movers_clock() -> None:
    point = replace(make_point(0), id="20260102T030405Z-abcdef", time=START + timedelta(days=365))
    assert point.taken == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert replace(point, id="of another kind").taken == point.time


def test_the_last_application_consistent_point_stays_however_old() -> None:
    points = [make_point(n, Level.APPLICATION if n == 2 else Level.CRASH) for n in range(10)]
    assert "p002" not in [p.id for p in Retention(last=1).expired(points)]


def test_a_newer_point_of_the_same_level_frees_the_older_one() -> None:
    levels = {2: Level.APPLICATION, 5: Level.APPLICATION}
    points = [make_point(n, levels.get(n, Level.CRASH)) for n in range(8)]
    expired = [p.id for p in Retention(last=1).expired(points)]
    assert "p002" in expired
    assert "p005" not in expired


def with_any_times(points: list[RecoveryPoint], random: Random) -> list[RecoveryPoint]:
    """The same chain, of a source whose clock was set to and fro."""
    times = random.sample([p.time for p in points], len(points))
    return [replace(p, time=time) for p, time in zip(points, times, strict=True)]


@given(
    st.lists(st.sampled_from(list(Level)), max_size=40),
    st.integers(1, MAX_POINTS),
    st.randoms(use_true_random=False),
)
def test_retention_never_lets_the_newest_and_the_best_go(levels, last, random) -> None:
    points = with_any_times([make_point(n, level) for n, level in enumerate(levels)], random)
    expired = Retention(last=last).expired(points)
    kept = [p for p in points if p not in expired]
    assert len(kept) <= max(last, 3)
    assert len(kept) >= min(last, len(points))
    if points:
        assert kept[-1] == points[-1]
        assert max(p.level for p in kept) == max(levels)


@pytest.mark.parametrize("last", [0, -1, MAX_POINTS + 1])
def test_retention_refuses_what_a_chain_cannot_hold(last: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 28"):
        Retention(last=last)


def at(day: int, hour: int = 0, level: Level = Level.CRASH) -> RecoveryPoint:
    return make_point((day - 1) * 24 + hour, level)


def ids(points: list[RecoveryPoint]) -> list[str]:
    return [p.id for p in points]


def test_hours_days_and_weeks_keep_the_newest_point_of_each() -> None:
    points = [at(day, hour) for day in range(1, 22) for hour in (2, 14)]
    stay = [v for v in Retention(last=1, daily=3, weekly=3).review(points) if v.stays]
    # 2026-01-01 is a Thursday: weeks end with the days 4, 11, 18.
    assert [(v.point.time.day, v.point.time.hour) for v in stay] == [
        (11, 14), (18, 14), (19, 14), (20, 14), (21, 14),
    ]  # fmt: skip
    assert stay[-1].reasons == ("newest", "last 1", "daily 2026-01-21", "weekly 2026-W04")
    assert stay[1].reasons == ("weekly 2026-W03",)


def test_periods_without_a_point_are_not_counted() -> None:
    points = [at(1), at(5), at(9), at(30)]
    assert Retention(last=1, daily=3).expired(points) == [points[0]]


def test_hourly_counts_hours_that_have_points() -> None:
    points = [at(1, hour) for hour in range(24)]
    assert len(Retention(last=1, hourly=5).expired(points)) == 24 - 5


def test_the_last_application_consistent_point_stays_beside_an_older_clean_shutdown() -> None:
    points = [make_point(n) for n in range(10)]
    points[1] = make_point(1, Level.CLEAN_SHUTDOWN)
    points[4] = make_point(4, Level.APPLICATION)
    stay = [v for v in Retention(last=2).review(points) if v.stays]
    assert [v.point.id for v in stay] == ["p001", "p004", "p009"]
    assert stay[1].reasons[0] == "newest at level application"


counts = st.integers(0, 9)


@given(
    st.lists(st.tuples(st.integers(0, 24 * 60), st.sampled_from(list(Level))), max_size=60),
    st.tuples(st.integers(1, 9), counts, counts, counts).filter(
        lambda n: max(n[0], 3) + sum(n[1:]) <= MAX_POINTS
    ),
    st.randoms(use_true_random=False),
)
def test_retention_holds_with_every_mixture_of_rules(made, numbers, random) -> None:
    points = with_any_times([make_point(*each) for each in dict(made).items()], random)
    rule = Retention(*numbers)
    expired = rule.expired(points)
    assert expired == [p for p in points if p in expired]
    kept = [p for p in points if p not in expired]
    assert len(kept) <= rule.most <= MAX_POINTS
    # What stays, stays: applying it twice changes nothing, and a rule less keeps no more.
    assert rule.expired(kept) == []
    assert set(ids(kept)) >= set(
        ids([p for p in points if p not in Retention(rule.last).expired(points)])
    )
    if points:
        assert kept[-1] == points[-1]
        assert max(p.level for p in kept) == max(p.level for p in points)
        sound = [p for p in points if p.level >= Level.APPLICATION]
        assert not sound or sound[-1] in kept


@pytest.mark.parametrize("numbers", [(7, 24), (28, 1), (1, 0, 26), (7, -1)])
def test_rules_that_a_chain_cannot_hold_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"chain takes|below 0"):
        Retention(*numbers)


def test_what_a_test_vm_stands_on_and_all_before_it_stays() -> None:
    points = [make_point(n) for n in range(10)]
    names = [p.id for p in points]
    gone = Retention(last=2).expired(points, in_use={names[4]})
    assert [p.id for p in gone] == names[5:8]
    assert Retention(last=2).expired(points, in_use={names[9]}) == []
    assert Retention(last=2).expired(points, in_use={"of another time"}) == points[:8]


def test_a_held_point_does_not_let_a_chain_grow_past_its_end() -> None:
    points = [make_point(n) for n in range(MAX_POINTS + 3)]
    gone = Retention(last=MAX_POINTS).expired(points, in_use={points[5].id})
    assert gone == points[6:9]
    assert len(points) - len(gone) == MAX_POINTS
