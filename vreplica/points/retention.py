"""Decides which recovery points may go, and why the others stay. Pure: removes nothing.

    last     the newest ones
    hourly   the newest of each of the latest N hours that have a point
    daily    the same for days, weekly for weeks (Monday to Sunday); all in UTC

Points come in the order of the replica's snapshot chain, oldest first: the last of the chain is
the newest. Times do not order them, because the source's clock may have been wrong. Hours, days and
weeks are those in which the run began, by its mover's clock.

A point stays where one rule wants it. Three points always stay, and count in `last`: the newest,
the newest of the highest level, and the newest that is application-consistent or better. So a
level that was reached once is not lost to a count. The points before a change that looks like mass
encryption stay as well, until that change is accepted:

    c c c C F . . . n      C: the last clean point, F: the first flagged one, n: the newest
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from vreplica.points.level import Level
from vreplica.points.model import RecoveryPoint

MAX_POINTS = 28
"""A snapshot chain has at most 32 links (vSphere configuration maximums). The rest is for the base,
the leaf, a test failover and a snapshot of somebody else."""

PROTECTED: Final = 3
"""Points that stay whatever the counts say."""


def _week(time: datetime) -> str:
    return "{}-W{:02}".format(*time.isocalendar())


_PERIODS: Final[dict[str, Callable[[datetime], str]]] = {
    "hourly": lambda time: f"{time:%Y-%m-%d %H}h",
    "daily": lambda time: f"{time:%Y-%m-%d}",
    "weekly": _week,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about one point: it goes where it has no reason to stay."""

    point: RecoveryPoint
    reasons: tuple[str, ...]

    @property
    def stays(self) -> bool:
        return bool(self.reasons)


@dataclass(frozen=True, slots=True)
class Retention:
    """The rules of one job. Together at most 28 points, of which three always stay."""

    last: int = 7
    hourly: int = 0
    daily: int = 0
    weekly: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.last <= MAX_POINTS:
            raise ValueError(f"keep must be between 1 and {MAX_POINTS} points, not {self.last}")
        if min(self.hourly, self.daily, self.weekly) < 0:
            raise ValueError("a number of hours, days or weeks is not below 0")
        if self.most > MAX_POINTS:
            raise ValueError(
                f"{self.most} points are more than the {MAX_POINTS} that a chain takes"
            )

    @property
    def most(self) -> int:
        """The most points that can stay."""
        return max(self.last, PROTECTED) + self.hourly + self.daily + self.weekly

    def review(self, points: Sequence[RecoveryPoint]) -> list[Verdict]:
        """Every point with its reasons to stay. Takes and gives the order of the chain."""
        ordered = list(points)
        reasons: dict[str, list[str]] = {p.id: [] for p in ordered}
        for point, reason in (*_protected(ordered), *_guarded(ordered)):
            reasons[point.id].append(reason)
        protected = {name for name, why in reasons.items() if why}
        counted = set(protected)
        for point in reversed(ordered):
            if len(counted) >= self.last and point.id not in counted:
                break
            counted.add(point.id)
            reasons[point.id].append(f"last {self.last}")
        for rule, period in _PERIODS.items():
            seen: set[str] = set()
            for point in reversed(ordered):
                name = period(point.taken.astimezone(UTC))
                if name not in seen and len(seen) < getattr(self, rule):
                    seen.add(name)
                    reasons[point.id].append(f"{rule} {name}")
        # Guarded points come on top of what `most` counts: the oldest others make room.
        spare = [p.id for p in ordered if reasons[p.id] and p.id not in protected]
        excess = len(spare) + len(protected) - MAX_POINTS
        for name in spare[: max(0, excess)]:
            reasons[name].clear()
        return [Verdict(p, tuple(reasons[p.id])) for p in ordered]

    def expired(
        self, points: Sequence[RecoveryPoint], in_use: Collection[str] = (), *, beside: int = 0
    ) -> list[RecoveryPoint]:
        """The points that may be removed. Takes and gives the order of the chain.

        `beside`: how many side branches the replica has; they count towards MAX_POINTS. `in_use`:
        ids of points that a test VM or a side branch stands on. Neither they nor any before them
        may go: removing a snapshot changes the link that it froze and the one above. Meanwhile
        more points stay than asked for; beyond MAX_POINTS later ones go instead.
        """
        review = self.review(points)
        last = max((n for n, v in enumerate(review) if v.point.id in in_use), default=-1)
        free = review[last + 1 :]
        gone = [v.point for v in free if not v.stays]
        if last >= 0:
            protected = [p.id for p, _ in _protected([v.point for v in review])]
            spare = [v.point for v in free if v.stays and v.point.id not in protected]
            surplus = len(review) - len(gone) + beside - MAX_POINTS
            gone += spare[: max(0, surplus)]
            gone = [v.point for v in free if v.point in gone]
        return gone

    def describe(self) -> str:
        """`last 7, daily 4`"""
        rules = ("last", *_PERIODS)
        return ", ".join(f"{rule} {n}" for rule in rules if (n := getattr(self, rule)))


def best(points: Sequence[RecoveryPoint]) -> RecoveryPoint:
    """The newest point of the highest level that at least quiesced; without one, the newest.

    Takes the order of the chain.
    """
    consistent = [p for p in points if p.level > Level.CRASH]
    top = max((p.level for p in consistent), default=None)
    candidates = [p for p in consistent if p.level == top] or list(points)
    return candidates[-1]


def _protected(ordered: Sequence[RecoveryPoint]) -> list[tuple[RecoveryPoint, str]]:
    """The points (at most PROTECTED) that always stay, each with the reason."""
    if not ordered:
        return []
    found = [(ordered[-1], "newest")]
    top = best(ordered)
    if top.level > Level.CRASH:
        found.append((top, f"newest at level {top.level}"))
    sound = [p for p in ordered if p.level >= Level.APPLICATION]
    if sound and sound[-1] is not top:
        found.append((sound[-1], f"newest at level {sound[-1].level}"))
    return found


def _guarded(ordered: Sequence[RecoveryPoint]) -> list[tuple[RecoveryPoint, str]]:
    """The last clean point before the first flagged one, the best clean one, and the flagged one.

    Without a clean point before it there is nothing to guard. The flagged point stays as well:
    without it the reason would be gone.
    """
    first = next((n for n, point in enumerate(ordered) if point.flagged), 0)
    clean = ordered[:first]
    if not clean:
        return []
    reason = f"clean before {ordered[first].id}"
    found = [(clean[-1], f"last {reason}"), (ordered[first], "flagged, not accepted yet")]
    top = best(clean)
    return found if top is clean[-1] else [*found, (top, f"best {reason}")]
