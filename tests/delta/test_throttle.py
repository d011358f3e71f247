"""Rates and time windows, on a clock that the test turns."""

from __future__ import annotations

import threading
from datetime import datetime

import pytest

from vreplica.delta.control import Control
from vreplica.delta.throttle import Throttle, Window
from vreplica.hours import parse

MONDAY_NOON = datetime(2026, 3, 2, 12, 0)


class Clock:
    """`now` is wall time, calling it is the monotonic clock."""

    def __init__(self, wall: datetime = MONDAY_NOON) -> None:
        self.wall, self.seconds = wall, 0.0

    def __call__(self) -> float:
        return self.seconds


def throttle(clock: Clock, default: float | None, *windows: Window) -> Throttle:
    return Throttle(default, windows, now=lambda: clock.wall, clock=clock)


def seconds_for(one: Throttle, clock: Clock, sizes: list[int]) -> float:
    begin = clock.seconds
    for size in sizes:
        while wait := one.take(size):
            clock.seconds += wait
    return clock.seconds - begin


@pytest.mark.parametrize("size", [10, 100, 1000, 5000])
def test_the_rate_holds_for_any_request_size(size: int) -> None:
    clock = Clock()
    one = throttle(clock, 1000.0)
    took = seconds_for(one, clock, [size] * (50_000 // size))
    assert took == pytest.approx(50, rel=0.12)


def test_idle_time_buys_at_most_a_second() -> None:
    clock = Clock()
    one = throttle(clock, 1000.0)
    clock.seconds = 3600
    assert seconds_for(one, clock, [100] * 110) == pytest.approx(10)


def test_no_limit_never_waits_and_a_rate_of_zero_always_does() -> None:
    clock = Clock()
    assert seconds_for(throttle(clock, None), clock, [1 << 40] * 3) == 0
    assert throttle(clock, 0).take(1) > 0


@pytest.mark.parametrize(
    ("moment", "rate"),
    [
        (datetime(2026, 3, 2, 8, 0), 10.0),
        (datetime(2026, 3, 2, 17, 59), 10.0),
        (datetime(2026, 3, 2, 18, 0), 99.0),
        (datetime(2026, 3, 7, 12, 0), None),  # Saturday, all day
        (datetime(2026, 3, 7, 0, 0), None),
        (datetime(2026, 3, 8, 23, 0), 0),  # Sunday night, into Monday
        (datetime(2026, 3, 9, 5, 59), 0),
        (datetime(2026, 3, 10, 5, 59), 99.0),
    ],
)
def test_the_first_window_that_holds_counts(moment: datetime, rate: float | None) -> None:
    clock = Clock(moment)
    one = throttle(
        clock,
        99.0,
        Window(10.0, parse("mon-fri 08:00-18:00")),
        Window(None, parse("sat")),
        Window(0, parse("sun 22:00-06:00")),
    )
    assert one.rate() == rate


def test_a_window_that_ends_lets_the_copy_go_on() -> None:
    clock = Clock()
    one = throttle(clock, None, Window(0, parse("08:00-18:00")))
    assert one.take(1) > 0
    clock.wall = MONDAY_NOON.replace(hour=18)
    assert one.take(1) == 0


def test_cancel_ends_a_wait_for_the_throttle() -> None:
    control = Control(Throttle(0.0))
    threading.Timer(0.05, control.cancel).start()
    assert control.admit(1) is False


def test_writes_are_not_throttled() -> None:
    assert Control(Throttle(0.0)).admit()
