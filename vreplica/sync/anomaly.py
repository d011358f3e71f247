"""Flags a change that looks like mass encryption (ransomware). Pure.

Encrypting a disk's files changes far more blocks than usual, and turns content that a compressor
shrinks into content that it does not. Either alone is everyday life (a backup archive is written,
a database is rebuilt). Both at once, far outside the history of the disk, is flagged.

    point n-1: past = [c1 ... c11], own = c12 ---> history of point n: [c2 ... c12]

A full copy is never judged and starts the history anew, as does a disk in the place of another.
A rescan is judged like a delta, by what differed and not by what was read. A flagged change joins
the history only when an operator has accepted it, so an attack that continues stays flagged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from vreplica.delta.copy.modes import CopyMode
from vreplica.delta.copy.stats import CopyStats
from vreplica.points import DiskPoint, RecoveryPoint
from vreplica.points.changes import MAX_PAST, ChangeStats, PastChange
from vreplica.units import human_size

MIN_HISTORY: Final = 5
"""Runs before anything is judged by history; without any nothing is flagged."""

MIN_SHARE: Final = 0.02
"""Below this share of what is allocated a change is too small: an archive is written, a few
packages are installed."""

RATE_FACTOR: Final = 4.0
"""Changed bytes above this multiple of the history's high mark are far outside it."""

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
    """One run of one disk, as the point keeps it."""

    changed_bytes: int
    allocated_bytes: int
    pieces: int
    """Sampled pieces; too few say nothing about the content."""
    high_entropy_share: float
    first: bool = False
    """A full copy: everything is new, nothing can be said about the rate."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """The reason of a flag; numbers for the message and the report."""

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
    """Compares a run with those before it (newest last); None where nothing is suspicious.

    The high mark of the history is its median plus four times the median distance from it,
    which one odd run among many does not move.
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


# -- the points of a job ----------------------------------------------------------------------


def change_stats(
    stats: CopyStats,
    latest: RecoveryPoint | None,
    *,
    key: int,
    uuid: str,
    mode: CopyMode,
    capacity_bytes: int,
    allocated_bytes: int | None,
    seconds: float,
) -> ChangeStats:
    """The numbers that a point keeps of one disk's copy. `latest`: the point before it.

    `allocated_bytes` None: that point's number is taken, and without one the capacity.
    """
    content = stats.content
    before = latest.disk(key) if latest is not None and mode is not CopyMode.FULL else None
    if before is not None and before.uuid != uuid:
        before = None
    known = before.stats if before is not None else None
    if allocated_bytes is None:
        allocated_bytes = known.allocated_bytes if known is not None else capacity_bytes
    return ChangeStats(
        looked_at_bytes=stats.looked_at_bytes,
        redundant_bytes=stats.redundant_bytes,
        zero_already_bytes=stats.zero_already_bytes,
        zeroed_bytes=stats.zeroed_bytes,
        data_bytes=stats.data_bytes,
        sampled_pieces=content.pieces,
        # Rounded as they are stored, so that a point is equal to what is read back.
        compressibility=round(content.compressibility, 3),
        high_entropy_share=round(content.high_entropy_share, 3),
        allocated_bytes=allocated_bytes,
        past=_history(before, flagged=latest is not None and latest.flagged),
        seconds=round(seconds, 3),
    )


def suspicion(stats: ChangeStats, mode: str) -> Suspicion | None:
    """Judges one disk of one run."""
    now = ChangeSummary(
        stats.data_bytes,
        stats.allocated_bytes,
        stats.sampled_pieces,
        stats.high_entropy_share,
        first=mode == CopyMode.FULL.value,
    )
    past = [
        ChangeSummary(p.data_bytes, stats.allocated_bytes, p.sampled_pieces, p.high_entropy_share)
        for p in stats.past
    ]
    return suspect(now, past)


def suspicions(disks: tuple[DiskPoint, ...]) -> tuple[str, ...]:
    """The suspicions to keep with the point; empty where there are none."""
    found = ((d.label, suspicion(d.stats, d.mode)) for d in disks if d.stats is not None)
    return tuple(f"{label}: {what}" for label, what in found if what is not None)


def flag_warnings(job: str, points: Sequence[RecoveryPoint], made: str) -> Iterator[str]:
    """The warnings about flagged points that are not accepted. `made`: the run's own point."""
    for point in points:
        if point.flagged and point.id != made:
            yield (
                f"recovery point {point.id} is flagged; clean points before it are kept until "
                f"`vreplica-sync points {job} --accept {point.id}`"
            )


def _history(before: DiskPoint | None, *, flagged: bool) -> tuple[PastChange, ...]:
    if before is None or before.stats is None:
        return ()
    past, own = before.stats.past, before.stats
    if before.mode != CopyMode.FULL.value and not flagged:
        made = PastChange(own.data_bytes, own.sampled_pieces, own.high_entropy_share)
        past = (*past, made)
    return past[-MAX_PAST:]
