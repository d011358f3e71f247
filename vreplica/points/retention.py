"""Which recovery points may go. Pure: decides, removes nothing.

The newest point and the newest one of the highest level are never among them: consistency,
once reached, is not thrown away for the sake of a count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vreplica.points.level import Level
from vreplica.points.model import RecoveryPoint

MAX_POINTS = 28
"""A snapshot chain ends at 32 links (vSphere configuration maximums); the rest is headroom for
the base, the leaf, a test failover and a snapshot made by somebody else."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Keep `last` points (1 to 28): the newest, and the newest of the highest level among them."""

    last: int = 7

    def __post_init__(self) -> None:
        if not 1 <= self.last <= MAX_POINTS:
            raise ValueError(f"keep must be between 1 and {MAX_POINTS} points, not {self.last}")

    def expired(self, points: Sequence[RecoveryPoint]) -> list[RecoveryPoint]:
        """The points (any order) that may be removed, oldest first."""
        ordered = sorted(points, key=lambda p: (p.time, p.id))
        if not ordered:
            return []
        keep = ordered[-self.last :]
        if best(ordered) not in keep:
            # The newest always stays, so with `last` 1 there are two.
            keep = [best(ordered), *keep[-max(1, self.last - 1) :]]
        return [p for p in ordered if p not in keep]


def best(points: Sequence[RecoveryPoint]) -> RecoveryPoint:
    """The newest point of the highest level that at least quiesced; without one, the newest."""
    consistent = [p for p in points if p.level > Level.CRASH]
    top = max((p.level for p in consistent), default=None)
    candidates = [p for p in consistent if p.level == top] or list(points)
    return max(candidates, key=lambda p: (p.time, p.id))
