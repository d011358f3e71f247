"""Estimates how long a failover will take, from earlier runs and failovers of the job.

    a pass over t seconds of the guest's writes     overhead + rate * t / speed

    from points      rate       what the guest changes in a second
                     speed      how fast such changes were copied
                     overhead   what the runs took beside the copying of their disks
    from failovers   shutdown   from the request until the source was seen off
                     start      from the choice of the point to the replica's heartbeat

The first pass copies what changed since the newest point. Each further pass, and the final sync
with the source off, copies what changed during the pass before. Where nothing was measured there
is no estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, Final

from vreplica.clocks import age_of
from vreplica.failover.machine.record import Record
from vreplica.failover.machine.steps.prepare import MAX_PASSES, SHRINKS
from vreplica.points import RecoveryPoint
from vreplica.units import human_size

RECENT: Final = 8
"""How many of the newest points the change rate is from: recent work, not last month's."""

STARTING: Final = ("fence", "power-on", "boot")
"""The parts of a failover's downtime after its final sync."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The times of the newest failovers that got so far, in seconds. `of`: their ids."""

    shutdown_s: float | None = None
    start_s: float | None = None
    of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """The measured rates and times of a job. None: not known."""

    change_bytes_per_s: float | None
    copy_bytes_per_s: float | None
    overhead_s: float | None
    age_s: float | None
    """The age of the newest point; None also where its time lies ahead."""
    running: bool
    """The source is on: a pass is made before the final sync."""
    measured: Measured

    def passes(self, limit_s: float | None = None) -> tuple[float, ...]:
        """The seconds of each pass while the source runs, as the failover makes them."""
        made: list[float] = []
        seconds = self._pass(self.age_s) if self.running else None
        while seconds is not None and len(made) < MAX_PASSES:
            made.append(seconds)
            grows = len(made) > 1 and seconds > made[-2] * SHRINKS
            if limit_s is None or seconds <= limit_s or grows:
                break
            seconds = self._pass(seconds)
        return tuple(made)

    def final_s(self, limit_s: float | None = None) -> float | None:
        """The seconds of the final sync.

        For a source that runs, what it writes during its shutdown is added, where a shutdown was
        measured.
        """
        if not self.running:
            return self._pass(self.age_s)
        passes = self.passes(limit_s)
        return self._pass(passes[-1] + (self.measured.shutdown_s or 0.0)) if passes else None

    def downtime_s(self, limit_s: float | None = None) -> float | None:
        """The seconds from the source off to the replica's heartbeat, with a final sync."""
        final, start = self.final_s(limit_s), self.measured.start_s
        return final + start if final is not None and start is not None else None

    def _pass(self, seconds: float | None) -> float | None:
        if seconds is None or self.change_bytes_per_s is None or self.overhead_s is None:
            return None
        changed = self.change_bytes_per_s * seconds
        if not changed:
            return self.overhead_s
        return self.overhead_s + changed / self.copy_bytes_per_s if self.copy_bytes_per_s else None

    def to_dict(self, limit_s: float | None = None) -> dict[str, Any]:
        return {
            "change_bytes_per_second": self.change_bytes_per_s,
            "copy_bytes_per_second": self.copy_bytes_per_s,
            "overhead_s": self.overhead_s,
            "newest_point_age_s": self.age_s,
            "passes_s": list(self.passes(limit_s)),
            "final_sync_s": self.final_s(limit_s),
            "shutdown_s": self.measured.shutdown_s,
            "start_s": self.measured.start_s,
            "downtime_s": self.downtime_s(limit_s),
            "measured_in": list(self.measured.of),
        }


def estimate(
    points: Sequence[RecoveryPoint],
    measured: Measured,
    *,
    running: bool,
    parallel: int,
    now: datetime,
) -> Estimate:
    """Estimates from the points, oldest first. `parallel`: how many disks are copied at once."""
    deltas = [p for p in points[-RECENT:] if all(d.mode == "delta" for d in p.disks)]
    bytes_, seconds = 0, 0.0
    for point in deltas:
        took = [d.stats.seconds for d in point.disks if d.stats and d.stats.seconds is not None]
        if took and len(took) == len(point.disks):
            bytes_ += sum(d.written_bytes for d in point.disks)
            seconds += max(*took, sum(took) / parallel) if len(took) > 1 else took[0]
    overheads = [p.overhead_s for p in deltas if p.overhead_s is not None]
    return Estimate(
        change_bytes_per_s=change_rate(points),
        copy_bytes_per_s=bytes_ / seconds if bytes_ and seconds else None,
        overhead_s=median(overheads) if overheads else None,
        age_s=_age_s(points[-1], now) if points else None,
        running=running,
        measured=measured,
    )


def _age_s(point: RecoveryPoint, now: datetime) -> float | None:
    """None where the point's time lies ahead of now."""
    age = age_of(point.taken, now)
    return age.total_seconds() if age is not None else None


def measure(records: Sequence[Record]) -> Measured:
    """Measures a job's failovers and failbacks, given oldest first."""
    shutdown: float | None = None
    start: float | None = None
    of: list[str] = []
    for record in reversed(records):
        parts = dict(record.parts_s)
        if shutdown is None and record.shutdown_s is not None:
            shutdown = record.shutdown_s
            of.append(record.id)
        if start is None and record.answered is not None and all(p in parts for p in STARTING):
            start = sum(parts[p] for p in STARTING)
            of.append(record.id)
    return Measured(shutdown, start, tuple(dict.fromkeys(of)))


def change_rate(points: Sequence[RecoveryPoint]) -> float | None:
    """Bytes written per second of the guest's time, between recent points; None: not known.

    The first point of a pair does not count: what it wrote had changed before it.
    """
    recent = points[-RECENT:]
    if len(recent) < 2:
        return None
    deltas = [p for p in recent[1:] if all(d.mode == "delta" for d in p.disks)]
    seconds = (recent[-1].taken - recent[0].taken).total_seconds()
    if len(deltas) < len(recent) - 1 or seconds <= 0:
        return None
    return sum(d.written_bytes for p in deltas for d in p.disks) / seconds


def rate_in_words(points: Sequence[RecoveryPoint]) -> str:
    """The change rate in words, for the preview."""
    rate = change_rate(points)
    if rate is None:
        return "change rate not known (no two recent points that are deltas)"
    return f"about {human_size(int(rate * 3600))} change in an hour, as the recent points show"
