"""Does what a run brought over look like ransomware at work? Judged per disk, by its history.

    point n-1: past = [c1 ... c11], own = c12 ---> history of point n: [c2 ... c12]

A full copy is never judged and starts the history anew, as does a disk in the place of another.
A rescan is judged like a delta, by what differed and not by what was read. A cycle that was
flagged joins the history when the operator has accepted it, so that one which goes on is
flagged on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vreplica.delta.anomaly import ChangeSummary, Suspicion, suspect
from vreplica.delta.copy.stats import CopyStats
from vreplica.points import DiskPoint, RecoveryPoint
from vreplica.points.changes import MAX_PAST, ChangeStats, PastChange
from vreplica.sync.report import Mode


def change_stats(
    stats: CopyStats,
    mode: Mode,
    uuid: str,
    allocated: int | None,
    capacity: int,
    latest: RecoveryPoint | None,
    key: int,
    seconds: float,
) -> ChangeStats:
    """What the point keeps of one disk's copy, which took `seconds`. `latest`: the point before."""
    content = stats.content
    before = latest.disk(key) if latest is not None and mode is not Mode.FULL else None
    if before is not None and before.uuid != uuid:
        before = None
    known = before.stats if before is not None else None
    if allocated is None:
        allocated = known.allocated_bytes if known is not None else capacity
    return ChangeStats(
        changed_bytes=stats.selected_bytes,
        redundant_bytes=stats.redundant_bytes,
        zero_bytes=stats.zeroed_bytes,
        data_bytes=stats.shipped_bytes,
        sampled_pieces=content.pieces,
        # As they are written, so that a point is equal to what is read of it.
        compressibility=round(content.compressibility, 3),
        high_entropy_share=round(content.high_entropy_share, 3),
        allocated_bytes=allocated,
        past=_history(before, flagged=latest is not None and latest.flagged),
        seconds=round(seconds, 3),
    )


def suspicion(stats: ChangeStats, mode: str) -> Suspicion | None:
    """Judge one disk's cycle."""
    now = ChangeSummary(
        stats.data_bytes,
        stats.allocated_bytes,
        stats.sampled_pieces,
        stats.high_entropy_share,
        first=mode == Mode.FULL.value,
    )
    past = [
        ChangeSummary(p.data_bytes, stats.allocated_bytes, p.sampled_pieces, p.high_entropy_share)
        for p in stats.past
    ]
    return suspect(now, past)


def suspicions(disks: tuple[DiskPoint, ...]) -> tuple[str, ...]:
    """What is to be written on the point; empty where nothing is odd."""
    found = ((d.label, suspicion(d.stats, d.mode)) for d in disks if d.stats is not None)
    return tuple(f"{label}: {what}" for label, what in found if what is not None)


def flag_warnings(job: str, points: Sequence[RecoveryPoint], made: str) -> Iterator[str]:
    """What every run says of earlier points that nobody has accepted; `made` is its own."""
    for point in points:
        if point.flagged and point.id != made:
            yield (
                f"recovery point {point.id} is flagged; what stood clean before it is kept until "
                f"`vreplica-sync points {job} --accept {point.id}`"
            )


def _history(before: DiskPoint | None, *, flagged: bool) -> tuple[PastChange, ...]:
    if before is None or before.stats is None:
        return ()
    past, own = before.stats.past, before.stats
    if before.mode != Mode.FULL.value and not flagged:
        made = PastChange(own.data_bytes, own.sampled_pieces, own.high_entropy_share)
        past = (*past, made)
    return past[-MAX_PAST:]
