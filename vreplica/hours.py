"""Hours of the week and periods of the calendar, by the clock on the wall. Pure.

    "mon-fri 22:00-06:00"               days and hours; an end before the start is the next day's
    "sat,sun"                           whole days
    "08:00-18:00"                       every day
    "2026-12-24 18:00/2026-12-27 06:00" once

A zone's clock is asked, not a count of seconds: on the day that summer time begins or ends,
06:00 is still when the clock shows 06:00.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final, Self

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MIDNIGHT: Final = time(0)
_HOURS: Final = re.compile(r"(?:([a-z,\- ]+?))?\s*(?:(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d))?")
_SEARCH_DAYS: Final = 8
"""A weekly pattern shows all its edges within these."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Some hours of some days. `end` before `start`: over midnight; equal: the whole day."""

    days: frozenset[int] = frozenset(range(7))
    """0 is Monday; of hours over midnight, the day they start on."""
    start: time = _MIDNIGHT
    end: time = _MIDNIGHT

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with what is wrong."""
        match = _HOURS.fullmatch(text.strip().lower())
        if match is None or not text.strip():
            raise ValueError(f"{text!r} is not hours such as 'mon-fri 22:00-06:00'")
        days = _days(match[1]) if match[1] else frozenset(range(7))
        if match[2] is None:
            return cls(days)
        return cls(days, _time(match[2], match[3]), _time(match[4], match[5]))

    def holds(self, wall: datetime) -> bool:
        at, day = wall.time(), wall.weekday()
        if self.start == self.end:
            return day in self.days
        if self.start < self.end:
            return day in self.days and self.start <= at < self.end
        return (day in self.days and at >= self.start) or (
            (day - 1) % 7 in self.days and at < self.end
        )

    def edges(self, wall: datetime) -> Iterator[datetime]:
        """When it may begin or end, from the day before `wall` on."""
        for n in range(-1, _SEARCH_DAYS):
            day = (wall + timedelta(days=n)).date()
            for edge in (self.start, self.end) if self.start != self.end else (_MIDNIGHT,):
                yield datetime.combine(day, edge, wall.tzinfo)


@dataclass(frozen=True, slots=True)
class Period:
    """Once, from `start` to `end`, without a zone: that of whoever asks."""

    start: datetime
    end: datetime

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with what is wrong."""
        first, slash, last = text.partition("/")
        try:
            start, end = datetime.fromisoformat(first.strip()), datetime.fromisoformat(last.strip())
        except ValueError:
            slash = ""
        if not slash or start.tzinfo or end.tzinfo:
            raise ValueError(
                f"{text!r} is not a period such as '2026-12-24 18:00/2026-12-27 06:00'"
            )
        if end <= start:
            raise ValueError(f"{text!r} ends before it begins")
        return cls(start, end)

    def holds(self, wall: datetime) -> bool:
        return self.start <= wall.replace(tzinfo=None) < self.end

    def edges(self, wall: datetime) -> Iterator[datetime]:
        yield self.start.replace(tzinfo=wall.tzinfo)
        yield self.end.replace(tzinfo=wall.tzinfo)


Span = Hours | Period


def parse(text: str) -> Span:
    """Hours, or a period where there is a slash. Raises ValueError."""
    return Period.parse(text) if "/" in text else Hours.parse(text)


@dataclass(frozen=True, slots=True)
class Opening:
    """Open inside any of `windows` (none: always) and outside all of `blackout`."""

    windows: tuple[Span, ...] = ()
    blackout: tuple[Span, ...] = ()

    def holds(self, wall: datetime) -> bool:
        return (not self.windows or _any(self.windows, wall)) and not _any(self.blackout, wall)

    def next(self, wall: datetime) -> datetime | None:
        """The first moment from `wall` on at which it is open; None: not within a week."""
        if self.holds(wall):
            return wall
        edges = {e for span in (*self.windows, *self.blackout) for e in span.edges(wall)}
        return next((e for e in sorted(e for e in edges if e > wall) if self.holds(e)), None)


def _any(spans: Sequence[Span], wall: datetime) -> bool:
    return any(span.holds(wall) for span in spans)


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = (p.strip() for p in part.strip().partition("-"))
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{part.strip()!r} is not a day or days: {', '.join(DAYS)}, mon-fri")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found |= {d % 7 for d in range(begin, end + 1 + 7 * (end < begin))}
    return frozenset(found)


def _time(hour: str, minute: str) -> time:
    if (hour, minute) == ("24", "00"):
        return _MIDNIGHT
    if int(hour) > 23 or int(minute) > 59:
        raise ValueError(f"{hour}:{minute} is not a time of the day")
    return time(int(hour), int(minute))
