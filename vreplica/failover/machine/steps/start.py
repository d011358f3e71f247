"""Starts the replica and waits until its guest answers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from vreplica.errors import VReplicaError
from vreplica.failover.machine.context import POWER_ON, StepContext, StepResult
from vreplica.failover.machine.states import FailoverEvent
from vreplica.failover.machine.steps.fence import (
    check_source_is_off,
    check_source_stayed_off,
    put_replica_on_point,
)


def start_replica(context: StepContext) -> StepResult:
    """FENCED: prepares the customization, checks the source again, powers the replica on."""
    check_source_stayed_off(context)
    if not context.attempted(POWER_ON):
        # The fence may be old: an error or a kill may lie between it and this step.
        put_replica_on_point(context)
    if not context.ports.replica_is_on():
        for effect, call in context.ports.before_power_on():
            context.do(effect, call)
        check_source_is_off(context)
        context.do(POWER_ON, context.ports.power_on_replica, marks_replica=True)
    return StepResult(FailoverEvent.REPLICA_STARTED)


def wait_for_heartbeat(context: StepContext) -> StepResult:
    """BOOTING: waits for the heartbeat of the replica's guest, then finishes its customization."""
    limit_s = context.choices.heartbeat_timeout_s
    answered = context.wait_until(
        context.ports.replica_answers, limit_s, f"waiting for the guest of {context.names[1]}"
    )
    facts: dict[str, Any] = {"answered": answered}
    for effect, call in context.ports.after_heartbeat() if answered else ():
        try:
            context.do(effect, call)
        except VReplicaError as error:
            # The replica is in service, which matters most. The rest can be done by hand.
            facts["guest_trouble"] = f"{effect}: {error}"
            context.report(facts["guest_trouble"])
    with suppress(VReplicaError):
        facts["runs"] = context.ports.where_replica_runs()
    return StepResult(FailoverEvent.REPLICA_ANSWERED, facts)
