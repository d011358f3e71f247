"""Which blocks one copy looks at, and what it may take for granted. Pure.

    full     source allocated + target allocated       nothing known of the target's content
    delta    what change tracking reports               digest map known: redundant writes dropped
    rescan   source allocated + map says not zero       digest map known: only differences shipped

What the source does not have but the target holds becomes zeros on the target: that is why
full and rescan look at both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vreplica.extents import Extents


class CopyMode(Enum):
    """How a disk's content is brought over."""

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
    """What `copy` is to do with one disk.

    `extents`: bytes to look at. `source_zero`: bytes that are zeros on the source, not worth a
    read. `target_zero`: bytes that are zeros on the target, for want of a digest map.
    `use_known`: whether the digest map describes the target.
    """

    mode: CopyMode
    extents: Extents
    source_zero: Extents
    target_zero: Extents
    use_known: bool


def full(source_allocated: Extents, target_allocated: Extents, capacity: int) -> CopyPlan:
    """Everything that either side holds. `target_allocated` may not be empty: a used disk."""
    return CopyPlan(
        CopyMode.FULL,
        source_allocated.union(target_allocated).clip(0, capacity),
        source_allocated.complement(capacity),
        target_allocated.complement(capacity),
        use_known=False,
    )


def delta(changed: Extents, capacity: int, source_allocated: Extents | None = None) -> CopyPlan:
    """What changed. A block that changed and was freed since is read as, or known to be, zero."""
    hole = Extents.empty() if source_allocated is None else source_allocated.complement(capacity)
    return CopyPlan(
        CopyMode.DELTA, changed.clip(0, capacity), hole, Extents.empty(), use_known=True
    )


def rescan(source_allocated: Extents, known_not_zero: Extents, capacity: int) -> CopyPlan:
    """Everything that either side holds, as the digest map says for the target."""
    return CopyPlan(
        CopyMode.RESCAN,
        source_allocated.union(known_not_zero).clip(0, capacity),
        source_allocated.complement(capacity),
        Extents.empty(),
        use_known=True,
    )
