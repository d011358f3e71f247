"""Hours of the week, periods, and when something opens next."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreplica.hours import Hours, Opening, Period, parse

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 11, 30, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("text", "days", "start", "end"),
    [
        ("mon-fri 22:00-06:00", {0, 1, 2, 3, 4}, time(22), time(6)),
        ("Sat,Sun", {5, 6}, time(0), time(0)),
        ("08:00-18:30", set(range(7)), time(8), time(18, 30)),
        ("fri-mon", {4, 5, 6, 0}, time(0), time(0)),
        ("sun 20:00-24:00", {6}, time(20), time(0)),
    ],
)
def test_hours_are_read(text: str, days: set[int], start: time, end: time) -> None:
    assert parse(text) == Hours(frozenset(days), start, end)


@pytest.mark.parametrize(
    "text",
    ["", "always", "mon-", "funday 08:00-09:00", "25:00-26:00", "08:00", "8-9",
     "2026-12-24/oops", "2026-12-27 00:00/2026-12-24 00:00", "2026-12-24T00:00Z/2026-12-25T00:00Z"],
)  # fmt: skip
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|ends before"):
        parse(text)


def test_hours_over_midnight_belong_to_the_day_they_start_on() -> None:
    night = Hours.parse("mon 22:00-06:00")
    assert night.holds(MONDAY.replace(hour=23))
    assert night.holds(MONDAY + timedelta(days=1, hours=5))
    assert not night.holds(MONDAY.replace(hour=5))
    assert not night.holds(MONDAY + timedelta(days=1, hours=6))


def test_a_window_opens_by_the_clock_on_the_wall_also_when_summer_time_begins() -> None:
    opening = Opening((Hours.parse("sun 06:00-07:00"),))
    saturday = datetime(2026, 3, 28, 20, tzinfo=BERLIN)
    opens = opening.next(saturday)
    assert opens == datetime(2026, 3, 29, 6, tzinfo=BERLIN)
    assert opens.utcoffset() == timedelta(hours=2)


def test_a_blackout_closes_and_its_end_opens() -> None:
    closed = Period.parse("2026-12-24 18:00/2026-12-27 06:00")
    opening = Opening(blackout=(closed,))
    inside = datetime(2026, 12, 25, tzinfo=BERLIN)
    assert not opening.holds(inside)
    assert opening.next(inside) == datetime(2026, 12, 27, 6, tzinfo=BERLIN)


def test_what_never_opens_says_so() -> None:
    assert Opening(blackout=(Hours(),)).next(MONDAY) is None


def spans() -> st.SearchStrategy[Hours]:
    days = st.frozensets(st.integers(0, 6), min_size=1)
    quarter = st.integers(0, 95).map(lambda q: time(q // 4, q % 4 * 15))
    return st.builds(Hours, days, quarter, quarter)


@given(
    st.lists(spans(), max_size=3).map(tuple),
    st.lists(spans(), max_size=2).map(tuple),
    st.integers(0, 7 * 96 - 1),
)
def test_next_is_the_first_open_quarter_of_an_hour(
    windows: tuple[Hours, ...], blackout: tuple[Hours, ...], quarter: int
) -> None:
    opening = Opening(windows, blackout)
    wall = datetime(2026, 6, 1, tzinfo=BERLIN) + timedelta(minutes=15 * quarter)
    steps = (wall + timedelta(minutes=15 * n) for n in range(7 * 96))
    assert opening.next(wall) == next((s for s in steps if opening.holds(s)), None)
