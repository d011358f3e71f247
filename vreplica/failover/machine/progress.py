"""Says in one line what a step of a failover has reached. Pure.

1/6 schedule paused ... 6/6 web01-replica at dr is in service: its guest answers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vreplica.failover.machine.states import FailoverEvent as E

_TEXTS: Final[dict[E, str]] = {
    E.JOB_DISABLED: "1/6 schedule paused",
    E.POINT_A_MADE: "2/6 safety point {point_a} made ({level_a})",
    E.INSURANCE_SKIPPED: "2/6 no safety point",
    E.SHUTDOWN_REQUESTED: "3/6 {source}: guest asked to shut down",
    E.SOURCE_SEEN_OFF: "3/6 {source} is off ({source_went})",
    E.SOURCE_DECLARED_LOST: "3/6 {source} declared lost, not contacted",
    E.POINT_SETTLED: "4/6 {point} ({level}) is to boot",
    E.FENCE_CHECKED: "5/6 {source} confirmed off, {replica} stands on {point}",
    E.REPLICA_STARTED: "6/6 {replica} started",
    E.REPLICA_ANSWERED: "6/6 {replica} is in service: {guest}",
    E.COMMIT_ASKED: "commit begins",
    E.DIRECTION_SETTLED: "committed",
    E.UNDO_ASKED: "undo begins",
    E.KEEP_ASKED: "undo begins",
    E.KEPT: "what {replica} wrote is settled, undo goes on",
    E.BOTH_PUT_BACK: "{source} and {replica} put back",
    E.REPLICA_PUT_BACK: "{replica} put back, {source} not asked",
    E.GIVEN_UP: "given up: {reason}",
}


def in_words(event: E, facts: Mapping[str, Any]) -> str:
    """`facts`: all that the failover has established, with this event's."""
    source, replica = sides_of(facts) or ("the source", "the replica")
    lost = event is E.FENCE_CHECKED and "declared lost" in str(facts.get("source"))
    text = "5/6 {replica} stands on {point}" if lost else _TEXTS[event]
    values = {
        **dict.fromkeys(("point_a", "level_a", "point", "level", "reason"), "?"),
        **facts,
        "source_went": facts.get("source", ""),
        "source": source,
        "replica": replica,
        "guest": "its guest answers" if facts.get("answered") else "no heartbeat yet",
    }
    return text.format_map(values)


def sides_of(facts: Mapping[str, Any]) -> tuple[str, str] | None:
    """Source and replica by name and site; None: a journal of an older version has no names."""
    names = facts.get("sides")
    if names is None:
        return None
    source, replica = (f"{names[s]['vm']} at {names[s]['site']}" for s in ("source", "replica"))
    return source, replica
