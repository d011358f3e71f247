"""What a failover will do, in order, and what is known of how long: for the operator's preview.

Pure. Says nothing where nothing is known: a pass is timed when it is made, not before.
"""

from __future__ import annotations

from collections.abc import Sequence

from vreplica.points import RecoveryPoint
from vreplica.points.retention import best
from vreplica.units import human_size

RECENT = 8
"""Points that the change rate is taken from: what the guest did lately, not last month."""


def change_rate(points: Sequence[RecoveryPoint]) -> float | None:
    """Bytes shipped per second of the guest's time, between recent points; None: not known.

    The first point of a pair does not count: what it shipped had changed before it.
    """
    recent = points[-RECENT:]
    if len(recent) < 2:
        return None
    deltas = [p for p in recent[1:] if all(d.mode == "delta" for d in p.disks)]
    seconds = (recent[-1].time - recent[0].time).total_seconds()
    if len(deltas) < len(recent) - 1 or seconds <= 0:
        return None
    return sum(d.shipped_bytes for p in deltas for d in p.disks) / seconds


def rate_in_words(points: Sequence[RecoveryPoint]) -> str:
    rate = change_rate(points)
    if rate is None:
        return "change rate not known (no two recent points that are deltas)"
    return f"about {human_size(int(rate * 3600))} change in an hour, as the recent points show"


def flag_remarks(points: Sequence[RecoveryPoint]) -> list[str]:
    """What an operator has to know before any of these points is booted."""
    first = next((n for n, point in enumerate(points) if point.flagged), None)
    if first is None:
        return []
    remarks = [
        f"point {points[first].id} is flagged ({what}); later ones may hold the same"
        for what in points[first].suspicions
    ]
    if first:
        clean = best(points[:first])
        remarks.append(f"the best point from before it: --final-sync no --point {clean.id}")
    return remarks


def steps_yes(
    source: str, replica: str, *, running: bool, tools: bool, disconnect: bool
) -> list[str]:
    """What Yes does, in order. `tools`: VMware Tools run in the guest, so that it can be asked."""
    steps = ["switch the job off, once no run is in flight"]
    if running and tools:
        steps += [
            f"{source}: quiesced snapshot; {replica}: recovery point A",
            f"{source}: ask the guest to shut down, wait until it is off",
        ]
    elif running:
        steps += [
            f"{source}: snapshot, which cannot be quiesced; {replica}: recovery point A",
            f"{source}: its guest cannot be asked to shut down: as --on-shutdown-timeout says",
        ]
    steps.append(f"{source}: snapshot; {replica}: recovery point B with what changed since")
    return [*steps, *_start(source, replica, disconnect)]


def steps_no(
    source: str, replica: str, point: str, *, running: bool, disconnect: bool
) -> list[str]:
    """What No does, in order."""
    steps = ["switch the job off, once no run is in flight"]
    if running:
        steps.append(f"{source}: power off, without asking the guest")
    return [*steps, f"{replica}: revert to {point}", *_start(source, replica, disconnect)]


def _start(source: str, replica: str, disconnect: bool) -> list[str]:
    cards = [f"{source}: disconnect the network cards"] if disconnect else []
    return [
        *cards,
        f"{source}: see that it is off, right before the next",
        f"{replica}: connect the network cards, power on, wait for the heartbeat",
    ]
