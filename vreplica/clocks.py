"""Compares times that different clocks gave. Pure.

Clocks of movers and sites are kept in step by NTP, but not always: a host's battery is empty, a
daemon has died, somebody sets a clock right. An age is only said where one clock gave both times.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

CLOCKS_APART: Final = timedelta(minutes=1)
"""The most that clocks which are kept in step differ."""


def age_of(time: datetime, now: datetime) -> timedelta | None:
    """The age of something that happened at `time`, at least 0.

    None where that lies ahead of now: a clock was set back since, and the age is not known.
    """
    return max(now - time, timedelta(0)) if time <= now + CLOCKS_APART else None


def apart_in_words(difference: timedelta) -> str:
    """A difference of clocks: `45 s`, `3 min`, `26 h`, `365 days`"""
    seconds = abs(difference.total_seconds())
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 3 * size or (unit != "days" and seconds >= size):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def clock_problem(name: str, theirs: datetime, ours: datetime) -> str | None:
    """The warning that a clock is not the mover's; None where they are in step.

    `theirs`: the time that `name` told when the mover's clock said `ours`.
    """
    ahead = theirs - ours
    if abs(ahead) <= CLOCKS_APART:
        return None
    side = "ahead of" if ahead > timedelta(0) else "behind"
    return (
        f"the clock of {name} is {apart_in_words(ahead)} {side} this mover's: the times of points "
        "and events mislead; check NTP on both"
    )
