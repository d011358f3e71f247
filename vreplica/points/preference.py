"""Says which recovery points are preferred over the newest one at a boot, within which bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from vreplica.clocks import age_of
from vreplica.points.level import Level
from vreplica.points.model import RecoveryPoint
from vreplica.stored import build


@dataclass(frozen=True, slots=True)
class Preference:
    """The newest point of at least `level` boots, if it is no older than `max_age_s`."""

    level: Level = Level.CRASH
    max_age_s: float | None = None
    """None: of any age."""

    def meets(self, point: RecoveryPoint, now: datetime) -> bool:
        """True where the point is within both bounds. Its age is by the mover's clock.

        A point whose time lies ahead of now has no known age, and so keeps no limit.
        """
        if point.level < self.level:
            return False
        age = age_of(point.taken, now)
        limit_s = self.max_age_s
        return limit_s is None or (age is not None and age.total_seconds() <= limit_s)

    def to_dict(self) -> dict[str, Any]:
        return {"level": self.level.value, "max_age_s": self.max_age_s}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Raises Damaged."""
        return build(cls, value, needs=("level", "max_age_s"))

    def __str__(self) -> str:
        """`level=application,max-age=3600s`, as the option `--prefer` reads it."""
        age = "" if self.max_age_s is None else f",max-age={self.max_age_s:.0f}s"
        return f"level={self.level}{age}"


def age_s(point: RecoveryPoint, now: datetime) -> float:
    """The age of a point in seconds, at least 0: what was written since then is not in it.

    Also 0 where its time lies ahead of now; `clock_problems` reports such a point.
    """
    return max(0.0, (now - point.taken).total_seconds())
