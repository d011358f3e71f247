"""What is said before a failover: the change rate where it is known, the steps in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from vreplica.jobs.foresight import change_rate, rate_in_words, steps_no, steps_yes
from vreplica.points import DiskPoint, Level, RecoveryPoint
from vreplica.units import MIB

START = datetime(2026, 1, 1, tzinfo=UTC)


def point(minutes: int, shipped: int, mode: str = "delta") -> RecoveryPoint:
    disk = DiskPoint(2000, "Hard disk 1", "u", 1 << 30, "g/1", mode, shipped, "")
    level = Level.APPLICATION
    time = START + timedelta(minutes=minutes)
    return RecoveryPoint(str(minutes), "j", "v", "vm", time, level, level, (disk,))


def test_the_rate_is_what_the_deltas_shipped_over_the_time_between() -> None:
    points = [point(0, 999 * MIB, "full"), point(30, 6 * MIB), point(60, 12 * MIB)]
    assert change_rate(points) == 18 * MIB / 3600
    assert "18 MiB" in rate_in_words(points)


def test_nothing_is_invented_where_nothing_is_known() -> None:
    assert change_rate([]) is None
    assert change_rate([point(0, 1)]) is None
    assert change_rate([point(0, 1), point(0, 1)]) is None
    assert change_rate([point(0, 1), point(30, MIB, "rescan")]) is None
    assert "not known" in rate_in_words([point(0, 1)])


def test_the_source_is_seen_off_right_before_the_replica_starts() -> None:
    for steps in (
        steps_yes("s", "r", running=True, disconnect=True),
        steps_no("s", "r", "p", running=True, disconnect=False),
    ):
        assert "see that it is off" in steps[-2]
        assert steps[-1].startswith("r: connect")
    assert not any("shut down" in s for s in steps_yes("s", "r", running=False, disconnect=False))
    assert not any("power off" in s for s in steps_yes("s", "r", running=True, disconnect=False))
