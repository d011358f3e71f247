"""Keeps a failover's journal in short on the replica, and makes a journal of it again. Pure.

    journal ──► mark      the choices, every event with its facts, the first intent of each effect
    mark ──► journal      on another machine: `failover adopt`

The mark is written before each effect, with the claim of the replica and in the same call where
the effect changes the replica anyway. So the mark is never behind an effect: it is like a journal
whose process died before that effect, or in it. A journal may be behind nothing but its own last
line, so either can be continued from.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from vreplica.failover.machine.journal import Entry, choices_of, facts_of, state_of
from vreplica.failover.machine.states import FailoverEvent, FailoverState, next_state
from vreplica.points.failover_mark import FailoverMark, Line
from vreplica.stored import Damaged

JOURNAL: Final = "journal"
"""The choice that holds the id of the journal. Journals of older versions have none."""

ENABLE: Final = "enable job"
SETTLE: Final = "settle direction"
REVERT: Final = "RevertToSnapshot replica to "
"""Names of effects in the journal. Journals on disk have them: they never change."""

LEFT_OUT: Final = frozenset({"others", "number"})
"""Facts and choices that no other mover needs: `number` orders the journals of one machine."""

LONGEST: Final = 400
"""Characters of a text in a mark. A longer one is cut: it is for people."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A failover as its replica is to know it from the next effect on."""

    mark: FailoverMark
    stands: bool
    """The replica has this journal's claim already. Without it the failover may not go on."""


def holding_of(id_: str, entries: Sequence[Entry]) -> Holding:
    """The holding of a journal with these entries."""
    begun = entries[0].data
    steps = [e.step for e in entries if e.kind == "intent"]
    gives_back = ENABLE in steps or ("back" in begun and SETTLE in steps)
    last = next((e for e in reversed(entries) if e.kind in ("intent", "call")), None)
    # In a revert an older claim comes back, until the failover has set its own again.
    reverting = last is not None and last.kind == "intent" and last.step.startswith(REVERT)
    begins = state_of(entries) is FailoverState.READY
    stands = bool(begun.get(JOURNAL)) and not (begins or gives_back or reverting)
    return Holding(mark_of(id_, entries), stands)


def mark_of(id_: str, entries: Sequence[Entry]) -> FailoverMark:
    """The mark of a journal, which has at least its first entry."""
    began = entries[0].time
    choices = choices_of(entries)
    point = facts_of(entries).get("point")
    return FailoverMark(
        id=id_,
        state=state_of(entries).value,
        point=point if isinstance(point, str) else None,
        began=began,
        journal=str(choices.get(JOURNAL, "")),
        log=((0.0, "begin", "", _short(choices)), *_log(entries)),
    )


def _log(entries: Sequence[Entry]) -> Iterator[Line]:
    began, seen = entries[0].time, set[str]()
    for entry in entries:
        at = max(0.0, round((entry.time - began).total_seconds(), 3))
        if entry.event is not None:
            yield at, "event", entry.event.value, _short(entry.data)
        elif entry.kind == "intent" and entry.step not in seen:
            seen.add(entry.step)
            yield at, "intent", entry.step, {}


def _short(data: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in data.items() if k not in LEFT_OUT}
    return {k: v[:LONGEST] if isinstance(v, str) else v for k, v in kept.items()}


def entries_of(mark: FailoverMark) -> list[Entry]:
    """The entries of a journal, as the mark tells them. Raises Damaged.

    The first one has no number: the journal that takes them in gives it one.
    """
    entries: list[Entry] = []
    state = FailoverState.READY
    for n, (at, kind, name, data) in enumerate(mark.log):
        time, event = mark.began + timedelta(seconds=at), None
        if (kind == "begin") != (n == 0):
            raise Damaged("the mark of the failover does not begin with its choices")
        if kind == "event":
            try:
                event = FailoverEvent(name)
                state = next_state(state, event)
            except ValueError as error:
                raise Damaged(str(error)) from None
        step = name if kind == "intent" else ""
        entries.append(Entry(n, 1, time, kind, step, event, dict(data)))
    if not entries or state.value != mark.state:
        raise Damaged("the state in the mark of the failover is not the one of its log")
    return entries


def adopted(
    entries: Sequence[Entry], *, number: Mapping[str, int], by: Mapping[str, Any], at: datetime
) -> list[Entry]:
    """The entries of the journal of a mover that adopts: they name a journal of their own.

    `number`: of the new journal, on its machine. `by`: who adopts it, from whom.
    """
    begin = entries[0]
    own = {JOURNAL: uuid.uuid4().hex, **number, "adopted": dict(by)}
    note = Entry(len(entries), begin.epoch, at, "note", "adopted", data=dict(by))
    return [replace(begin, data={**begin.data, **own}), *entries[1:], note]
