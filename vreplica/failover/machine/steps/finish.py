"""Ends a failover: the commit makes it permanent, the undo puts both sides back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vreplica.errors import VReplicaError
from vreplica.failover.machine.choices import UndoChoices
from vreplica.failover.machine.context import (
    DISCONNECT,
    POWER_ON,
    SHUT_DOWN,
    StepContext,
    StepResult,
)
from vreplica.failover.machine.errors import NoPointToBoot, ReplicaIsOn, UndoRefused
from vreplica.failover.machine.mark import ENABLE, REVERT, SETTLE
from vreplica.failover.machine.ports import Ports, bootable
from vreplica.failover.machine.states import FailoverEvent
from vreplica.points import Level

POWER_OFF_REPLICA: Final = "PowerOff replica"
"""Name of the effect in the journal. Journals on disk have it: it never changes."""

STILL_ON: Final = "on; its guest was asked to shut down, and may do so yet"
ON_AGAIN: Final = "on"
LEFT_OFF: Final = "off, as it was before"
NOT_ASKED: Final = "not asked, and left as it is"


def settle_direction(context: StepContext) -> StepResult:
    """COMMITTING: settles in which direction the job replicates from now on."""
    facts = context.journal.facts()
    level = Level(facts.get("off_level", Level.CRASH.value))
    lost = context.choices.source_lost
    call = context.ports.settle_direction
    context.do(SETTLE, call, context.id, facts["point"], level, lost)
    return StepResult(FailoverEvent.DIRECTION_SETTLED)


def put_both_back(context: StepContext) -> StepResult:
    """UNDOING: replica off, source on, replica back on its point, job on.

    All that it needs is looked at before anything is stopped. This order never has both on, and
    the source is on again although the replica may fail to go back. A guest that was asked to
    shut down may still do so: it is started again once it is off. A source that was off from the
    beginning stays off; where the operator said so, the source is not asked at all.
    """
    alone = context.undo_choices.even_without_source
    check_can_undo(context.id, context.journal.facts(), context.ports, context.undo_choices)
    still_on = not alone and _wait_for_guest(context)
    if context.ports.replica_is_on():
        if not context.attempted(POWER_ON):
            # Somebody else has started it: what it writes is theirs to save.
            raise ReplicaIsOn
        context.do(POWER_OFF_REPLICA, context.ports.power_off_replica)
    started = not alone and starts_source(context)
    if started and context.ports.source_is_off():
        if context.attempted(DISCONNECT):
            context.do("connect source's network cards", context.ports.connect_source, True)
        context.do("PowerOn source", context.ports.power_on_source)
    point = context.journal.facts().get("point")
    if (
        point is not None
        and _has_changed_replica(context)
        and context.ports.replica_stands_on() != point
    ):
        context.do(f"{REVERT}{point}", context.ports.put_replica_on, point, marks_replica=True)
    context.do(ENABLE, context.ports.enable_job, context.id, marks_replica=True)
    if alone:
        return StepResult(FailoverEvent.REPLICA_PUT_BACK, {"source_now": NOT_ASKED})
    now = STILL_ON if still_on else ON_AGAIN if started else LEFT_OFF
    return StepResult(FailoverEvent.BOTH_PUT_BACK, {"source_now": now})


def check_can_undo(
    failover: str, facts: Mapping[str, Any], ports: Ports, choices: UndoChoices
) -> None:
    """Refuses an undo that would stop the only running copy for one that cannot run.

    Raises UndoRefused where the source's host does not answer for it now, and NoPointToBoot where
    the point that the replica goes back to is gone. Nothing was stopped then.
    """
    point = facts.get("point")
    if point is not None and all(p.id != point for p in bootable(ports)):
        raise NoPointToBoot(wanted=point)
    if choices.even_without_source:
        return
    try:
        ports.check_source_can_run()
    except VReplicaError as error:
        raise UndoRefused(failover=failover, reason=str(error)) from error


def _has_changed_replica(context: StepContext) -> bool:
    """False where this failover has left the replica alone: what others did to it is not its to
    revert."""
    return any(e.kind == "intent" and "replica" in e.step for e in context.journal.entries)


def _wait_for_guest(context: StepContext) -> bool:
    """Waits for a guest that was asked to shut down. True: it is still on."""
    asked = starts_source(context) and context.attempted(SHUT_DOWN)
    if not asked or "off_level" in context.journal.facts():
        return False
    limit_s = context.choices.shutdown_timeout_s
    return not context.wait_until(
        context.ports.source_is_off, limit_s, "waiting for the guest's shutdown"
    )


def starts_source(context: StepContext) -> bool:
    """False for a source that was off from the beginning: an undo leaves it."""
    return not context.journal.facts().get("was_off")
