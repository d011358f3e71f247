"""Chooses the blocks that one copy looks at, in each mode, and what it may assume. Pure.

    full     source allocated + target allocated       nothing known of the target's content
    delta    what change tracking reports               digest map known: redundant writes dropped
    rescan   source allocated + map says not zero       digest map known: only differences written

Full and rescan look at both sides, because what only the target holds has to become zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vreplica.extents import Extents


class CopyMode(Enum):
    """The way to bring the content of a disk over."""

    FULL = "full"
    """Everything allocated is read and written."""
    DELTA = "delta"
    """What changed block tracking says has changed since a recovery point."""
    RESCAN = "rescan"
    """Everything allocated is read and hashed; what differs is written."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """The choice for one disk.

    `extents`: bytes to look at. `source_zero`: zeros on the source, which need no read.
    `target_zero`: zeros on the target, when no digest map tells. `use_known`: the digest map
    describes the target.
    """

    mode: CopyMode
    extents: Extents
    source_zero: Extents
    target_zero: Extents
    use_known: bool


def full(source_allocated: Extents, target_allocated: Extents, capacity: int) -> CopyPlan:
    """Looks at everything that either side holds. A used disk has a `target_allocated` too."""
    return CopyPlan(
        CopyMode.FULL,
        source_allocated.union(target_allocated).clip(0, capacity),
        source_allocated.complement(capacity),
        target_allocated.complement(capacity),
        use_known=False,
    )


def delta(changed: Extents, capacity: int, source_allocated: Extents | None = None) -> CopyPlan:
    """Looks at what changed. A block that changed and was freed since reads as zeros."""
    hole = Extents.empty() if source_allocated is None else source_allocated.complement(capacity)
    return CopyPlan(
        CopyMode.DELTA, changed.clip(0, capacity), hole, Extents.empty(), use_known=True
    )


def rescan(source_allocated: Extents, known_not_zero: Extents, capacity: int) -> CopyPlan:
    """Looks at everything that either side holds; for the target the digest map tells."""
    return CopyPlan(
        CopyMode.RESCAN,
        source_allocated.union(known_not_zero).clip(0, capacity),
        source_allocated.complement(capacity),
        Extents.empty(),
        use_known=True,
    )
