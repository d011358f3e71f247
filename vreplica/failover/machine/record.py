"""Reads what one failover is and was from its journal: its state, times, level, and downtime.

    source off ──► final sync ──► fence ──► replica on ──► its guest answers
    |<------------------------------ downtime ----------------------------->|

`Outcome` is the short form, `Record` has all figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from vreplica.failover.machine.journal import Entry, facts_of, load, state_of
from vreplica.failover.machine.states import ENDED, FailoverEvent, FailoverState
from vreplica.points import Level

PARTS: Final = (
    ("final sync", FailoverEvent.POINT_SETTLED),
    ("fence", FailoverEvent.FENCE_CHECKED),
    ("power-on", FailoverEvent.REPLICA_STARTED),
    ("boot", FailoverEvent.REPLICA_ANSWERED),
)
"""The part of the downtime that ends with an event. `boot` includes waiting for the heartbeat."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state of a failover, and everything that its events established."""

    id: str
    state: FailoverState
    facts: dict[str, Any]
    downtime_s: float | None = None
    """From the source seen off to the answer of the replica's guest; None: it did not get there."""
    age_s: float | None = None
    """The age of the point's data when it was chosen, by the movers' clocks."""

    @property
    def job_on(self) -> bool:
        """Its end has switched the job on again: it replicates forward."""
        back = self.id.startswith("fb-") and self.committed
        return back or self.state in (FailoverState.UNDONE, FailoverState.ABORTED)

    @property
    def answered(self) -> bool:
        """The replica is in service and its guest answered in time."""
        return self.state is FailoverState.RUNNING and bool(self.facts.get("answered"))

    @property
    def committed(self) -> bool:
        return self.state is FailoverState.COMMITTED

    @property
    def given_up(self) -> bool:
        return self.state is FailoverState.ABORTED

    @property
    def incomplete(self) -> bool:
        """Always False: a step that stops raises its error."""
        return False

    def to_dict(self) -> dict[str, Any]:
        return {
            "failover": self.id,
            "state": self.state.value,
            "job_on": self.job_on,
            "downtime_s": self.downtime_s,
            "age_s": self.age_s,
            "facts": self.facts,
        }


def outcome_of(folder: Path) -> Outcome:
    """Reads where a failover stands. Takes nothing over."""
    return outcome_by(folder.name, load(folder))


def outcome_by(id_: str, entries: Sequence[Entry]) -> Outcome:
    """The standing of the failover that has these entries."""
    facts = facts_of(entries)
    times = {entry.event: entry.time for entry in entries if entry.event is not None}
    return Outcome(id_, state_of(entries), facts, _downtime_s(times, facts), _age_s(times, facts))


def _age_s(times: Mapping[FailoverEvent, datetime], facts: Mapping[str, Any]) -> float | None:
    settled, taken = times.get(FailoverEvent.POINT_SETTLED), facts.get("taken")
    if settled is None or taken is None:
        return None
    return max(0.0, (settled - datetime.fromisoformat(taken)).total_seconds())


def _downtime_s(times: Mapping[FailoverEvent, datetime], facts: Mapping[str, Any]) -> float | None:
    off, on = times.get(FailoverEvent.SOURCE_SEEN_OFF), times.get(FailoverEvent.REPLICA_ANSWERED)
    if off is None or on is None or not facts.get("answered"):
        return None
    return (on - off).total_seconds()


@dataclass(frozen=True, slots=True)
class Record:
    """The figures of one failover. Times are UTC. None: the failover did not get there."""

    job: str
    id: str
    state: FailoverState
    began: datetime
    ended: datetime | None
    source_off: datetime | None
    answered: datetime | None
    """When the replica's guest answered."""
    point: str | None
    level: str | None
    shutdown_s: float | None
    """From the request to the guest until the source was seen off. None: the guest was not asked,
    or the source went off in another way."""
    parts_s: tuple[tuple[str, float], ...]
    facts: dict[str, Any]
    entries: tuple[Entry, ...]

    @property
    def downtime_s(self) -> float | None:
        """From the moment the source was seen off to the answer of the replica's guest.

        A source whose guest shut down is seen off late by at most one poll.
        """
        if self.source_off is None or self.answered is None:
            return None
        return (self.answered - self.source_off).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "failover": self.id,
            "state": self.state.value,
            "job_on": Outcome(self.id, self.state, self.facts).job_on,
            "started": self.began.isoformat(),
            "ended": _iso(self.ended),
            "source_off": _iso(self.source_off),
            "answered": _iso(self.answered),
            "shutdown_s": self.shutdown_s,
            "downtime_s": self.downtime_s,
            "age_s": outcome_by(self.id, self.entries).age_s,
            "downtime_parts_s": dict(self.parts_s),
            "point": self.point,
            "level": self.level,
            "facts": self.facts,
        }


def record_of(job: str, id_: str, entries: Sequence[Entry]) -> Record:
    """Makes the figures of a failover from its journal, which has at least its first entry."""
    state, facts = state_of(entries), facts_of(entries)
    times = {entry.event: entry.time for entry in entries if entry.event is not None}
    off = times.get(FailoverEvent.SOURCE_SEEN_OFF)
    parts, last = list[tuple[str, float]](), off
    for name, event in PARTS:
        if last is None or event not in times:
            break
        parts.append((name, (times[event] - last).total_seconds()))
        last = times[event]
    asked = times.get(FailoverEvent.SHUTDOWN_REQUESTED)
    by_itself = off is not None and facts.get("off_level") == Level.CLEAN_SHUTDOWN.value
    return Record(
        job=job,
        id=id_,
        state=state,
        began=entries[0].time,
        ended=entries[-1].time if state in ENDED else None,
        source_off=off,
        answered=times.get(FailoverEvent.REPLICA_ANSWERED) if facts.get("answered") else None,
        point=facts.get("point"),
        level=facts.get("level"),
        shutdown_s=(off - asked).total_seconds() if off and asked and by_itself else None,
        parts_s=tuple(parts),
        facts=facts,
        entries=tuple(entries),
    )


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time is not None else None
