"""Times of points that cannot be right are told, and order nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vreplica.clocks import age_of, apart_in_words, clock_problem
from vreplica.points import Level, RecoveryPoint, Retention
from vreplica.points.clock_problems import clock_problems, clocks_set_back
from vreplica.points.preference import Preference

BEGAN = datetime(2026, 11, 30, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def point(
    n: int, source: timedelta = timedelta(0), mover: timedelta = timedelta(0), took: float = 3.0
) -> RecoveryPoint:
    """The point of minute `n`: the source's clock and the mover's were so much ahead."""
    began = BEGAN + n * MINUTE
    return RecoveryPoint(
        id=f"{began + mover:%Y%m%dT%H%M%SZ}-{n:06}",
        job="web",
        source_vm="v",
        source_name="web",
        time=began + source + timedelta(seconds=2),
        level=Level.CRASH,
        requested=Level.CRASH,
        disks=(),
        overhead_s=took,
    )


def said(*points: RecoveryPoint) -> list[str]:
    return clock_problems(points, BEGAN + HOUR)


def test_clocks_that_are_in_step_give_no_word() -> None:
    seconds = timedelta(seconds=20)
    assert said() == []
    assert said(point(0), point(1), point(2)) == []
    assert said(point(0, seconds), point(1, -seconds), point(2, seconds)) == []


def test_a_snapshot_late_in_a_run_is_no_clock_that_is_ahead() -> None:
    assert said(point(0, HOUR, took=3700.0)) == []
    assert len(said(point(0, HOUR, took=100.0))) == 1


@pytest.mark.parametrize(
    ("ahead", "words"), [(26 * HOUR, "26 h ahead of"), (-365 * DAY, "365 days behind")]
)
def test_points_of_a_wrong_source_clock_are_named_once(ahead: timedelta, words: str) -> None:
    points = [point(0), point(1, ahead), point(2, ahead), point(3)]
    wrong, back = said(*points)
    assert words in wrong
    assert points[1].id in wrong
    assert points[2].id in wrong
    assert "earlier" in back
    later = points[3] if ahead > timedelta(0) else points[1]
    assert later.id in back


def test_a_clock_that_was_set_back_by_seconds_is_told_where_times_go_back() -> None:
    (text,) = said(point(0, 50 * MINUTE / 60), point(1, -50 * MINUTE / 60))
    assert "set back" in text
    assert clocks_set_back([point(0)], point(1)) == []
    assert len(clocks_set_back([point(5), point(0, MINUTE * 3)], point(1))) == 1


def test_a_point_from_ahead_of_now_has_no_age() -> None:
    (text,) = said(point(0, DAY, DAY))
    assert "its age is not known" in text
    now = BEGAN
    assert age_of(BEGAN + 2 * MINUTE, now) is None
    assert age_of(BEGAN + MINUTE / 2, now) == timedelta(0)
    assert age_of(BEGAN - DAY, now) == DAY


def test_a_point_of_unknown_age_keeps_no_limit() -> None:
    assert Preference(max_age_s=60.0).meets(point(0), BEGAN)
    assert not Preference(max_age_s=60.0).meets(point(0, DAY, DAY), BEGAN)
    assert Preference().meets(point(0, DAY, DAY), BEGAN)


def test_the_clock_of_a_site_is_compared_with_the_movers() -> None:
    assert clock_problem("vc", BEGAN + MINUTE, BEGAN) is None
    assert "vc is 26 h ahead of" in (clock_problem("vc", BEGAN + 26 * HOUR, BEGAN) or "")
    assert "vc is 3 min behind" in (clock_problem("vc", BEGAN, BEGAN + 3 * MINUTE) or "")
    assert apart_in_words(timedelta(seconds=75)) == "1 min"
    assert apart_in_words(timedelta(seconds=9)) == "9 s"


def test_hours_and_days_of_retention_are_those_of_the_mover() -> None:
    """A source whose clock stands still, or jumps, does not thin out the history."""
    still = [point(60 * n, timedelta(0) - n * HOUR) for n in range(6)]
    kept = [v.point.id for v in Retention(1, hourly=6).review(still) if v.stays]
    assert kept == [p.id for p in still]


def test_the_last_of_the_chain_stays_whatever_its_time_says() -> None:
    points = [point(n, 26 * HOUR) for n in range(3)] + [point(3), point(4)]
    for last in range(1, 4):
        verdicts = Retention(last, hourly=1).review(points)
        assert verdicts[-1].stays
        assert points[-1] not in Retention(last).expired(points)
