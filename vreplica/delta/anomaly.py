"""Does a change look like ransomware at work? Judged against the job's own history. Pure.

Encrypting a disk's files changes far more blocks than usual, and turns content that a
compressor shrinks into content that it does not. Either alone is everyday life (a backup
archive is written, a database is rebuilt); both at once, far outside the history, is flagged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from vreplica.units import human_size

MIN_HISTORY: Final = 5
"""Cycles before anything is judged by history; with none at all nothing is flagged."""

MIN_SHARE: Final = 0.02
"""Below this share of what is allocated a change is no mass of anything: an archive is
written, a few packages are installed."""

RATE_FACTOR: Final = 4.0
"""Changed bytes above this multiple of the history's high mark count as far outside."""

ENTROPY_STEP: Final = 0.35
"""Rise of the share of incompressible pieces over the history's high mark."""

CLEAR_STEP: Final = 0.1
"""Where the usual share is high already, it has to rise by this at least."""

ALWAYS_ENTROPY: Final = 0.9
ALWAYS_SHARE: Final = 0.2
"""With little history: this share of the disk changed, almost all of it incompressible."""

MIN_PIECES: Final = 32


@dataclass(frozen=True, slots=True)
class ChangeSummary:
    """One cycle of one disk, as the point keeps it."""

    changed_bytes: int
    allocated_bytes: int
    pieces: int
    """Sampled pieces; too few say nothing about the content."""
    high_entropy_share: float
    first: bool = False
    """A full copy: everything is new, nothing can be said about the rate."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Why a change was flagged; numbers for the message and the report."""

    changed_bytes: int
    usual_bytes: int
    high_entropy_share: float
    usual_share: float

    def __str__(self) -> str:
        return (
            f"{human_size(self.changed_bytes)} changed where {human_size(self.usual_bytes)} are "
            f"usual, and "
            f"{self.high_entropy_share:.0%} of a sample looks encrypted where "
            f"{self.usual_share:.0%} is usual"
        )


def suspect(now: ChangeSummary, history: Sequence[ChangeSummary]) -> Suspicion | None:
    """Compare a cycle with those before it (newest last); None where nothing is odd.

    The high mark of the history is its median plus four times the median distance from it,
    which one odd cycle among many does not move.
    """
    if now.first or now.pieces < MIN_PIECES:
        return None
    past = [one for one in history if not one.first]
    if not past or now.changed_bytes < MIN_SHARE * now.allocated_bytes:
        return None
    if len(past) < MIN_HISTORY:
        large = now.changed_bytes >= ALWAYS_SHARE * max(1, now.allocated_bytes)
        if large and now.high_entropy_share >= ALWAYS_ENTROPY:
            middle = round(median(one.changed_bytes for one in past))
            share = median(one.high_entropy_share for one in past)
            return Suspicion(now.changed_bytes, middle, now.high_entropy_share, share)
        return None
    usual_bytes = _high_mark([one.changed_bytes for one in past])
    shares = [one.high_entropy_share for one in past if one.pieces >= MIN_PIECES]
    usual_share = _high_mark(shares) if shares else 0.0
    rate = now.changed_bytes > RATE_FACTOR * usual_bytes
    risen = max(usual_share + CLEAR_STEP, min(0.95, usual_share + ENTROPY_STEP))
    content = now.high_entropy_share > risen
    if rate and content:
        middle = round(median(one.changed_bytes for one in past))
        return Suspicion(now.changed_bytes, middle, now.high_entropy_share, median(shares or [0.0]))
    return None


def _high_mark(values: Sequence[float]) -> float:
    middle = median(values)
    return middle + 4 * median(abs(value - middle) for value in values)
