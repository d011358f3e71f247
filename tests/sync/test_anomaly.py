"""A job's cycles as points remember them, and which change among them is flagged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from vreplica.delta.copy.content_sample import ContentSample
from vreplica.delta.copy.modes import CopyMode
from vreplica.delta.copy.stats import CopyStats
from vreplica.points import MAX_POINTS, DiskPoint, Level, RecoveryPoint, Retention
from vreplica.points.changes import MAX_PAST
from vreplica.points.vm_keys import DISK_KEY
from vreplica.sync.anomaly import change_stats, flag_warnings, suspicions
from vreplica.units import GIB, MIB

START = datetime(2026, 1, 1, tzinfo=UTC)
CAPACITY = 40 * GIB


def copied(written_mib: int, random_share: float) -> CopyStats:
    content = ContentSample(pieces=200, high_entropy=round(200 * random_share))
    content.sampled_bytes, content.compressed_bytes = 200 * 4096, 200 * 1000
    written = written_mib * MIB
    return CopyStats(
        looked_at_bytes=written + 3 * MIB,
        redundant_bytes=2 * MIB,
        zeroed_bytes=MIB,
        data_bytes=written,
        content=content,
    )


def following(
    points: list[RecoveryPoint],
    written_mib: int,
    random_share: float = 0.3,
    mode: CopyMode = CopyMode.DELTA,
    uuid: str = "60 00",
    level: Level = Level.CRASH,
) -> RecoveryPoint:
    """The point that a run after `points` makes, by way of its description."""
    latest = points[-1] if points else None
    allocated = None if mode is CopyMode.DELTA else 20 * GIB
    stats = change_stats(
        copied(written_mib, random_share),
        latest,
        key=2000,
        uuid=uuid,
        mode=mode,
        capacity_bytes=CAPACITY,
        allocated_bytes=allocated,
        seconds=1.5,
    )
    disk = DiskPoint(2000, "Hard disk 1", uuid, CAPACITY, "c/1", mode.value, 0, "", stats)
    number = int(points[-1].id[1:]) + 1 if points else 0
    made = RecoveryPoint(
        id=f"p{number:03}",
        job="web01",
        source_vm="u",
        source_name="web01",
        time=START + timedelta(hours=number),
        level=level,
        requested=level,
        disks=(disk,),
        suspicions=suspicions((disk,)),
    )
    read = RecoveryPoint.from_extra_config(made.to_extra_config())
    assert read == made
    return read


def usual(cycles: int) -> list[RecoveryPoint]:
    points = [following([], 20_000, 0.99, CopyMode.FULL)]
    for n in range(cycles):
        points.append(following(points, 40 + n % 3))
    return points


def test_mass_encryption_is_flagged_and_said_with_numbers() -> None:
    point = following(usual(8), 8000, 0.98)
    assert point.flagged
    (said,) = point.suspicions
    assert "Hard disk 1" in said
    assert "7.81 GiB changed where 41 MiB are usual" in said
    assert "98% of a sample looks encrypted where 30% is usual" in said


def test_a_rescan_is_judged_by_what_differed_and_not_by_what_was_read() -> None:
    points = usual(8)
    assert not following(points, 60, 0.3, CopyMode.RESCAN).flagged
    assert following(points, 8000, 0.98, CopyMode.RESCAN).flagged


def test_first_runs_full_copies_and_other_disks_are_never_flagged() -> None:
    assert not following([], 20_000, 1.0, CopyMode.FULL).flagged
    assert not following(usual(0), 20_000, 1.0).flagged
    assert not following(usual(8), 20_000, 1.0, CopyMode.FULL).flagged
    assert not following(usual(8), 20_000, 1.0, CopyMode.RESCAN, uuid="60 99").flagged


def test_everyday_changes_are_not_flagged() -> None:
    points = usual(8)
    assert not following(points, 8000, 0.3).flagged, "a restore of text"
    assert not following(points, 300, 1.0).flagged, "an archive of 300 MiB on 20 GiB"
    archives = [following([], 20_000, 0.99, CopyMode.FULL)]
    for _ in range(6):
        archives.append(following(archives, 2000, 0.95))
    assert not following(archives, 18_000, 0.97).flagged, "more of what the disk always holds"


def test_the_history_outlives_the_points_it_came_from() -> None:
    points = usual(30)
    alone = [points[-1]]
    stats = alone[0].disks[0].stats
    assert stats is not None
    assert len(stats.past) == MAX_PAST
    assert following(alone, 8000, 0.98).flagged
    assert len(points[-1].to_extra_config()[f"{DISK_KEY}2000"]) < 800


def test_encryption_that_goes_on_is_flagged_on_until_accepted() -> None:
    points = usual(8)
    for _ in range(20):
        points.append(following(points, 8000, 0.98))
        assert points[-1].flagged
    assert len(list(flag_warnings("web01", points, points[-1].id))) == 19
    for _ in range(8):
        points[-1] = replace(points[-1], accepted=True)
        points.append(following(points, 8000, 0.98))
    assert not points[-1].suspicions, "accepted changes are what is usual now"


def test_the_size_that_is_allocated_is_carried_on_from_the_last_time_it_was_known() -> None:
    stats = usual(3)[-1].disks[0].stats
    assert stats is not None
    assert stats.allocated_bytes == 20 * GIB


# -- retention ------------------------------------------------------------------------------


def flagged(point: RecoveryPoint) -> RecoveryPoint:
    return replace(point, suspicions=("Hard disk 1: much",))


def test_the_last_clean_point_stays_until_the_flag_is_accepted() -> None:
    points = usual(5)
    points.append(flagged(following(points, 8000)))
    for _ in range(20):
        points.append(following(points, 40))
        kept = [p for p in points if p not in Retention(last=3).expired(points)]
        points = kept
    assert [p.id for p in points][:2] == ["p005", "p006"]
    assert len(points) == 3
    accepted = [replace(p, accepted=True) if p.suspicions else p for p in points]
    assert points[-1].id == "p026"
    accepted.append(following(accepted, 40))
    assert [p.id for p in Retention(last=1).expired(accepted)] == ["p005", "p006", "p026"]


def test_the_best_clean_point_stays_beside_the_last_one_though_a_flagged_one_is_as_good() -> None:
    points = [following([], 1, mode=CopyMode.FULL, level=Level.APPLICATION)]
    points.append(following(points, 1))
    points.append(flagged(following(points, 1, level=Level.APPLICATION)))
    points.append(following(points, 1))
    assert Retention(last=1).expired(points) == []


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from(list(Level))), max_size=40),
    st.integers(1, 28),
)
def test_retention_keeps_no_more_than_a_chain_takes_and_always_a_clean_point(marks, last) -> None:
    base = following([], 1, mode=CopyMode.FULL)
    points = [
        replace(
            base,
            id=f"p{n:03}",
            time=START + timedelta(hours=n),
            level=level,
            suspicions=("x",) if odd else (),
            accepted=odd and seen,
        )
        for n, (odd, seen, level) in enumerate(marks)
    ]
    expired = Retention(last=last).expired(points)
    kept = [p for p in points if p not in expired]
    assert min(last, len(points)) <= len(kept) <= max(last, 6) <= MAX_POINTS
    first = next((n for n, p in enumerate(points) if p.flagged), 0)
    if first:
        assert points[first - 1] in kept
        assert points[first] in kept
