"""Reports recovery points whose times cannot be right, or come from a clock that jumped. Pure.

    begin of the run (mover's clock) ... snapshot (source's clock) ... commit
    `taken`                              `time`                        `taken` + overhead, at least

The chain orders points, so nothing depends on these times but what people read. The snapshot of
the source stands between the run's begin and its commit: a `time` outside of that is of a clock
that is ahead or behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby, pairwise

from vreplica.clocks import CLOCKS_APART, age_of, apart_in_words
from vreplica.points.model import RecoveryPoint

_SAME = timedelta(0)


def clock_problems(points: Sequence[RecoveryPoint], now: datetime) -> list[str]:
    """Sentences, the oldest point's first. `points`: in the order of the chain.

    `now`: by this mover's clock.
    """
    return [*_apart(points), *_set_back(points), *_ahead_of_now(points, now)]


def clocks_set_back(points: Sequence[RecoveryPoint], following: RecoveryPoint) -> list[str]:
    """Sentences about clocks that were set back between the last of these and the next point."""
    return [*_set_back((*points[-1:], following))]


def _offset(point: RecoveryPoint) -> timedelta:
    """By how much the source's clock was certainly ahead of the mover's; negative: behind."""
    offset = point.time - point.taken
    if offset < -CLOCKS_APART:
        return offset
    if point.overhead_s is None:
        return _SAME
    offset -= timedelta(seconds=point.overhead_s)
    return offset if offset > CLOCKS_APART else _SAME


def _apart(points: Sequence[RecoveryPoint]) -> Iterator[str]:
    def side(point: RecoveryPoint) -> str:
        offset = _offset(point)
        return "" if offset == _SAME else "ahead of" if offset > _SAME else "behind"

    for which, group in groupby(points, side):
        if not which:
            continue
        found = list(group)
        furthest = max((_offset(p) for p in found), key=abs)
        where = f"point {found[0].id}"
        if len(found) > 1:
            where = f"points {found[0].id} to {found[-1].id}"
        yield (
            f"{where}: the source's clock was {apart_in_words(furthest)} {which} the mover's; "
            "their times mislead, their order does not"
        )


def _set_back(points: Sequence[RecoveryPoint]) -> Iterator[str]:
    for before, after in pairwise(points):
        if after.time < before.time:
            yield (
                f"point {after.id} was made after {before.id} and its time is "
                f"{apart_in_words(before.time - after.time)} earlier: the source's clock was set "
                "back in between"
            )
        if after.taken < before.taken - CLOCKS_APART:
            yield (
                f"point {after.id} was made after {before.id} and its run began "
                f"{apart_in_words(before.taken - after.taken)} earlier: the clocks of their movers "
                "differ, or one was set back"
            )


def _ahead_of_now(points: Sequence[RecoveryPoint], now: datetime) -> Iterator[str]:
    for point in points:
        if age_of(point.taken, now) is None:
            yield (
                f"point {point.id} was made {apart_in_words(point.taken - now)} ahead of this "
                "mover's clock: its age is not known; check NTP"
            )
