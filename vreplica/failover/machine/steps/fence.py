"""Fences the source: confirms that it is off and stays off, right before the replica starts.

Each check reads the sides again at the moment of the check.
"""

from __future__ import annotations

from datetime import datetime

from vreplica.failover.machine.context import DISCONNECT, StepContext, StepResult
from vreplica.failover.machine.errors import ReplicaIsOn, SourceIsOn, SourceRan
from vreplica.failover.machine.mark import REVERT
from vreplica.failover.machine.states import FailoverEvent


def fence_source(context: StepContext) -> StepResult:
    """SYNCED: confirms that the source is off, and puts the replica on its point."""
    check_source_stayed_off(context)
    put_replica_on_point(context)
    if context.choices.disconnect_source_nics and not context.choices.source_lost:
        context.do(DISCONNECT, context.ports.connect_source, False)
    return StepResult(FailoverEvent.FENCE_CHECKED)


def check_source_is_off(context: StepContext) -> None:
    """Raises SourceIsOn, unless the source was declared lost."""
    if not context.choices.source_lost and not context.ports.source_is_off():
        raise SourceIsOn


def check_source_stayed_off(context: StepContext) -> None:
    """Confirms that the source is off, and was not started since the final sync.

    Raises SourceIsOn and SourceRan.
    """
    check_source_is_off(context)
    facts = context.journal.facts()
    # With any other point, the operator has accepted that later writes are lost.
    final = facts["point"] == context.point_b and not context.choices.source_lost
    # Journals of older versions do not have the time.
    if final and (since := facts.get("off_since")):
        started = context.ports.source_started_since(datetime.fromisoformat(since))
        if started is not None:
            raise SourceRan(point=context.point_b, time=f"{started:%Y-%m-%d %H:%M:%S} UTC")


def put_replica_on_point(context: StepContext) -> None:
    """Makes the replica's disks hold exactly the chosen point.

    Raises ReplicaIsOn and ReplicaTouched.
    """
    point = context.journal.facts()["point"]
    if context.ports.replica_is_on():
        raise ReplicaIsOn
    if context.ports.replica_is_changed() or context.ports.replica_stands_on() != point:
        context.do(f"{REVERT}{point}", context.ports.put_replica_on, point, marks_replica=True)
