"""Defines how consistent an image is, as an order. A level is what was proved, never a guess.

clean-shutdown > application > filesystem > crash
"""

from __future__ import annotations

from enum import Enum
from functools import total_ordering


@total_ordering
class Level(Enum):
    """The consistency level of a recovery point."""

    CRASH = "crash"
    """As after a power failure: what was on the virtual disk at that moment."""

    FILESYSTEM = "filesystem"
    """The guest's file systems were frozen; applications may have to recover."""

    APPLICATION = "application"
    """The guest's applications flushed and froze their state (VSS writers)."""

    CLEAN_SHUTDOWN = "clean-shutdown"
    """The guest shut down by itself; nothing was in memory any more."""

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Level):
            return NotImplemented
        order = list(Level)
        return order.index(self) < order.index(other)

    def __str__(self) -> str:
        return self.value
