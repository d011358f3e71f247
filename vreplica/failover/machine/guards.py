"""What must hold right before a replica starts: the source off, nothing missed, nothing mixed in.

Each question is asked afresh of both sides.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from vreplica.failover.machine.errors import ReplicaIsOn, SourceIsOn, SourceRan

if TYPE_CHECKING:
    from vreplica.failover.machine.steps import Work


def source_must_be_off(work: Work) -> None:
    """Raises SourceIsOn, unless the source was declared lost."""
    if not work.choices.source_lost and not work.sides.source_is_off():
        raise SourceIsOn


def source_must_have_stayed_off(work: Work) -> None:
    """Off, and what the final sync brought is still all that it holds. Raises SourceRan too."""
    source_must_be_off(work)
    facts = work.journal.facts()
    # Whoever boots another point has accepted that what came later is lost.
    final = facts["point"] == work.point_b and not work.choices.source_lost
    # Journals of before do not have the time.
    if final and (since := facts.get("off_since")):
        started = work.sides.source_started_since(datetime.fromisoformat(since))
        if started is not None:
            raise SourceRan(point=work.point_b, time=f"{started:%Y-%m-%d %H:%M:%S} UTC")


def put_on_point(work: Work) -> None:
    """The replica holds exactly the settled point. Raises ReplicaIsOn, ReplicaTouched."""
    point = work.journal.facts()["point"]
    if work.sides.replica_is_on():
        raise ReplicaIsOn
    if work.sides.replica_is_touched() or work.sides.replica_stands_on() != point:
        work.do(f"RevertToSnapshot replica to {point}", work.sides.put_replica_on, point)
