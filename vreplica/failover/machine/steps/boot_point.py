"""Chooses the recovery point that the replica boots.

final sync       a new point B, with all that the source had when it went off
use-quiesced     point A, made while the source ran
no final sync    the point that the operator named, else the newest of the highest level
"""

from __future__ import annotations

from collections.abc import Sequence

from vreplica.failover.machine.choices import FailoverChoices, FinalSync
from vreplica.failover.machine.context import StepContext, StepResult
from vreplica.failover.machine.errors import (
    ChosenLevelTooLow,
    LevelTooLow,
    NoPointToBoot,
    NoSuchPointToBoot,
    ReplicaIsOn,
)
from vreplica.failover.machine.ports import Ports
from vreplica.failover.machine.states import FailoverEvent
from vreplica.failover.machine.steps.fence import check_source_is_off
from vreplica.points import Level, RecoveryPoint
from vreplica.points.retention import best


def choose_boot_point(context: StepContext) -> StepResult:
    """SOURCE_OFF: chooses the point to boot. A final sync makes a point of its own."""
    facts = context.journal.facts()
    if facts.get("use_a"):
        point = _named(context, facts.get("point_a", context.point_a))
    elif context.choices.final_sync is FinalSync.YES and not context.choices.source_lost:
        check_source_is_off(context)
        context.report("final sync of what changed since the last point")
        point = context.sync(context.point_b, Level(facts["off_level"]))
    else:
        points = context.ports.points()
        if not points:
            raise NoPointToBoot(wanted="any")
        chosen = context.choices.point
        point = _named(context, chosen) if chosen else best(points)
    required = context.choices.require
    if point.level < required:
        raise LevelTooLow(point=point.id, level=point.level, required=required)
    facts = {"point": point.id, "level": point.level.value}
    return StepResult(FailoverEvent.POINT_SETTLED, facts)


def _named(context: StepContext, id_: str) -> RecoveryPoint:
    point = context.find_point(id_)
    if point is None:
        raise NoPointToBoot(wanted=id_)
    return point


def find_chosen(points: Sequence[RecoveryPoint], wanted: str | None) -> RecoveryPoint:
    """Returns the point of that id. Raises NoSuchPointToBoot."""
    for point in points:
        if point.id == wanted:
            return point
    raise NoSuchPointToBoot(wanted=wanted or "to boot")


def check_can_boot(ports: Ports, choices: FailoverChoices) -> None:
    """Refuses, before anything is changed, what is known not to boot. Raises BootRefused.

    Without a sync the point is known beforehand, so the source is not powered off in vain. A
    replica that others started or changed is refused as well: raises ReplicaIsOn and
    ReplicaTouched. With a sync, the sync itself sees that.
    """
    if choices.final_sync is FinalSync.YES and not choices.source_lost:
        return
    if choices.point is None and not ports.replica_state_is_kept():
        # A failback: the replica's last state becomes a point once the failback has begun.
        return
    if ports.replica_is_on():
        raise ReplicaIsOn
    ports.replica_is_changed()
    points = ports.points()
    point = find_chosen(points, choices.point) if choices.point or not points else best(points)
    if point.level < choices.require:
        raise ChosenLevelTooLow(point=point.id, level=point.level, required=choices.require)
