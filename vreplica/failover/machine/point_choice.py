"""Chooses the recovery point that boots where no final sync makes one. Pure.

The one rule for failovers without a final sync, `--source-lost`, `use-quiesced`, resume, test
failovers and previews:

    --point ID     that point
    --as-of TIME   the newest that holds nothing from after that time
    --prefer       the newest of at least that level and at most that age; the job file may say it
    --newest       the last of the chain, also where the job file prefers another
    nothing        the last of the chain

The order of the chain says which point is the newer one; clocks only count ages. Where no point
is within the bounds, none is chosen. A change that looks like mass encryption is in all points
from the flagged one on, so none of them boots unless it is named with `--point`, or accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Self

from vreplica.failover.machine.errors import NoPointMeets, NoSuchPointToBoot, PointIsFlagged
from vreplica.points import RecoveryPoint
from vreplica.points.preference import Preference, age_s
from vreplica.stored import Data, Moment, build


@dataclass(frozen=True, slots=True)
class PointChoice:
    """The operator's word on the point that boots. Without any: the newest, or the job's rule."""

    point: str | None = None
    """Its id."""
    as_of: datetime | None = None
    """Nothing from after this time may be in it."""
    newest: bool = False
    """The newest, whatever the job file prefers."""
    prefer: Preference | None = None
    members: Mapping[str, str] = field(default_factory=dict)
    """Of a group: job -> id of its point. The others follow the rest of this choice."""

    @property
    def given(self) -> bool:
        """The operator said something: the job's own preference does not count any more."""
        return bool(self.point or self.as_of or self.newest or self.prefer)

    def or_prefer(self, preference: Preference | None) -> PointChoice:
        """This choice; where it says nothing, the job's own preference."""
        return self if self.given else replace(self, prefer=preference)

    def of_member(self, job: str) -> PointChoice:
        """The choice for one job of a group."""
        named = self.members.get(job)
        return PointChoice(point=named) if named is not None else replace(self, members={})

    def to_dict(self) -> dict[str, Any]:
        return {
            "point": self.point,
            "as_of": self.as_of.astimezone(UTC).isoformat() if self.as_of else None,
            "newest": self.newest,
            "prefer": self.prefer.to_dict() if self.prefer is not None else None,
            "points": dict(self.members),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` made. Older journals have `point` only. Raises Damaged."""
        known = build(_Stored, value)
        return cls(
            point=known.point,
            as_of=known.as_of,
            newest=known.newest,
            prefer=Preference.from_dict(known.prefer) if known.prefer else None,
            members=known.points,
        )


@dataclass(frozen=True, slots=True)
class _Stored:
    point: str | None = None
    as_of: Moment | None = None
    newest: bool = False
    prefer: Data | None = None
    points: dict[str, str] = field(default_factory=dict)


NEWEST: Final = PointChoice()


def choose_point(
    points: Sequence[RecoveryPoint],
    choice: PointChoice,
    now: datetime,
    sides: Sequence[RecoveryPoint] = (),
) -> RecoveryPoint:
    """Chooses among points in the order of the chain. `now`: ages are counted until then.

    `sides`: side branches, which are chosen only by their ids.

    Raises NoSuchPointToBoot, NoPointMeets, PointIsFlagged.
    """
    if choice.point is not None or not points:
        return _find((*points, *sides), choice.point)
    chosen = _last_within(points, choice, now)
    flagged = next((p for p in points[: points.index(chosen) + 1] if p.flagged), None)
    if flagged is not None:
        before = points[: points.index(flagged)]
        raise PointIsFlagged(
            point=chosen.id,
            flagged=flagged.id,
            reason="; ".join(flagged.suspicions),
            clean=before[-1].id if before else None,
        )
    return chosen


def _last_within(
    points: Sequence[RecoveryPoint], choice: PointChoice, now: datetime
) -> RecoveryPoint:
    within, wanted = list(points), ""
    if (limit := choice.as_of) is not None:
        within = [p for p in within if holds_until(p) <= limit]
        wanted = f"from {limit:%Y-%m-%d %H:%M:%S%z} or before; the oldest is {points[0].id}"
        wanted += f" ({points[0].time:%Y-%m-%d %H:%M:%S} UTC)"
    elif (preference := choice.prefer) is not None:
        within = [p for p in within if preference.meets(p, now)]
        newest = points[-1]
        wanted = f"within {preference}; the newest is {newest.id}"
        wanted += f" ({newest.level}, {age_s(newest, now) / 60:.0f} min old)"
    if not within:
        raise NoPointMeets(wanted=wanted)
    return within[-1]


def holds_until(point: RecoveryPoint) -> datetime:
    """The time up to which the point holds what was written, by the later one of both clocks: the
    source's, which people are shown, and the mover's."""
    return max(point.time, point.taken)


def _find(points: Sequence[RecoveryPoint], wanted: str | None) -> RecoveryPoint:
    for point in points:
        if point.id == wanted:
            return point
    raise NoSuchPointToBoot(wanted=wanted or "to boot")


def alternatives(
    points: Sequence[RecoveryPoint], chosen: RecoveryPoint
) -> tuple[RecoveryPoint, ...]:
    """The newest point of each level, in the order of the chain, except the chosen one."""
    newest = {p.level: p for p in points}
    return tuple(p for p in points if p.id != chosen.id and newest[p.level].id == p.id)
