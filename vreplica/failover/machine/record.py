"""What one failover was, in figures: times, calls, level, and the downtime with its parts.

    source off ──► final sync ──► fence ──► replica on ──► its guest answers
    |<------------------------------ downtime ----------------------------->|

Pure: made from a journal's entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from vreplica.failover.machine.journal import Entry, state_of
from vreplica.failover.machine.states import ENDED, Event, State
from vreplica.points import Level

PARTS: Final = (
    ("final sync", Event.POINT_SETTLED),
    ("fence", Event.FENCE_CHECKED),
    ("power-on", Event.REPLICA_STARTED),
    ("boot", Event.REPLICA_ANSWERED),
)
"""The part of the downtime that ends with an event. `boot` includes waiting for the heartbeat."""


@dataclass(frozen=True, slots=True)
class Record:
    """The figures of one failover. Times are UTC; None: it did not come to that."""

    job: str
    id: str
    state: State
    began: datetime
    ended: datetime | None
    source_off: datetime | None
    answered: datetime | None
    """When the replica's guest answered; None where it never did."""
    point: str | None
    level: str | None
    shutdown_s: float | None
    """What the guest's shutdown took, from the request until it was seen off; None: it was not
    asked, or went off otherwise."""
    parts_s: tuple[tuple[str, float], ...]
    facts: dict[str, Any]
    entries: tuple[Entry, ...]

    @property
    def downtime_s(self) -> float | None:
        """From the source's being off to the replica's answer, as far as it was measured.

        A source that shut down by itself is seen off a moment later: at most one poll.
        """
        if self.source_off is None or self.answered is None:
            return None
        return (self.answered - self.source_off).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "failover": self.id,
            "state": self.state.value,
            "began": self.began.isoformat(),
            "ended": _iso(self.ended),
            "source_off": _iso(self.source_off),
            "answered": _iso(self.answered),
            "shutdown_s": self.shutdown_s,
            "downtime_s": self.downtime_s,
            "downtime_parts_s": dict(self.parts_s),
            "point": self.point,
            "level": self.level,
            "facts": self.facts,
        }


def record_of(job: str, id_: str, entries: Sequence[Entry]) -> Record:
    """`entries`: at least the first, which says what was chosen."""
    state = state_of(list(entries))
    times: dict[Event, datetime] = {}
    facts: dict[str, Any] = {}
    for entry in entries:
        if entry.event is not None:
            times[entry.event] = entry.time
            facts.update(entry.data)
    off = times.get(Event.SOURCE_SEEN_OFF)
    parts, last = list[tuple[str, float]](), off
    for name, event in PARTS:
        if last is None or event not in times:
            break
        parts.append((name, (times[event] - last).total_seconds()))
        last = times[event]
    asked = times.get(Event.SHUTDOWN_REQUESTED)
    by_itself = off is not None and facts.get("off_level") == Level.CLEAN_SHUTDOWN.value
    return Record(
        job=job,
        id=id_,
        state=state,
        began=entries[0].time,
        ended=entries[-1].time if state in ENDED else None,
        source_off=off,
        answered=times.get(Event.REPLICA_ANSWERED) if facts.get("answered") else None,
        point=facts.get("point"),
        level=facts.get("level"),
        shutdown_s=(off - asked).total_seconds() if off and asked and by_itself else None,
        parts_s=tuple(parts),
        facts=facts,
        entries=tuple(entries),
    )


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time is not None else None
