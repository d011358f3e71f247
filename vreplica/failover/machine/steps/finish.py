"""Ends a failover: the commit makes it permanent, the undo puts both sides back."""

from __future__ import annotations

from typing import Final

from vreplica.failover.machine.context import DISCONNECT, SHUT_DOWN, StepContext, StepResult
from vreplica.failover.machine.states import FailoverEvent
from vreplica.points import Level

STILL_ON: Final = "on; its guest was asked to shut down, and may do so yet"


def settle_direction(context: StepContext) -> StepResult:
    """COMMITTING: settles in which direction the job replicates from now on."""
    facts = context.journal.facts()
    level = Level(facts.get("off_level", Level.CRASH.value))
    lost = context.choices.source_lost
    call = context.ports.settle_direction
    context.do("settle direction", call, context.id, facts["point"], level, lost)
    return StepResult(FailoverEvent.DIRECTION_SETTLED)


def put_both_back(context: StepContext) -> StepResult:
    """UNDOING: replica off and back on its point, then source on, then job on.

    This order never has both on. A guest that was asked to shut down may still do so: it is
    started again once it is off. A source that was off from the beginning stays off.
    """
    point = context.journal.facts().get("point")
    asked, still_on = starts_source(context) and context.attempted(SHUT_DOWN), False
    if asked and "off_level" not in context.journal.facts():
        limit_s = context.choices.shutdown_timeout_s
        still_on = not context.wait_until(
            context.ports.source_is_off, limit_s, "waiting for the guest's shutdown"
        )
    if context.ports.replica_is_on():
        context.do("PowerOff replica", context.ports.power_off_replica)
    if point is not None and context.ports.replica_stands_on() != point:
        context.do(f"RevertToSnapshot replica to {point}", context.ports.put_replica_on, point)
    if starts_source(context) and context.ports.source_is_off():
        if context.attempted(DISCONNECT):
            context.do("connect source's network cards", context.ports.connect_source, True)
        context.do("PowerOn source", context.ports.power_on_source)
    context.do("enable job", context.ports.enable_job, context.id)
    return StepResult(FailoverEvent.BOTH_PUT_BACK, {"source": STILL_ON} if still_on else {})


def starts_source(context: StepContext) -> bool:
    """False for a source that is lost, or that was off from the beginning: an undo leaves it."""
    return not (context.choices.source_lost or context.journal.facts().get("was_off"))
