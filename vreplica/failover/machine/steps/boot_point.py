"""Settles the recovery point that the replica boots.

final sync       a new point B, with all that the source had when it went off
use-quiesced     a point that this failover made while the source ran
no final sync    a point that is there already

The rule of `point_choice` decides among points that are there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from vreplica.failover.machine.choices import FailoverChoices, FinalSync, OnShutdownTimeout
from vreplica.failover.machine.context import StepContext, StepResult
from vreplica.failover.machine.errors import (
    ChosenLevelTooLow,
    LevelTooLow,
    NoPointToBoot,
    ReplicaIsOn,
)
from vreplica.failover.machine.point_choice import alternatives, choose_point
from vreplica.failover.machine.ports import Ports, side_points
from vreplica.failover.machine.states import FailoverEvent
from vreplica.failover.machine.steps.fence import check_source_is_off
from vreplica.points import Level, RecoveryPoint


def choose_boot_point(context: StepContext) -> StepResult:
    """SOURCE_OFF: settles the point to boot. A final sync makes a point of its own."""
    facts = context.journal.facts()
    if facts.get("use_a"):
        point = choose_own_point(context)
    elif context.choices.final_sync is FinalSync.YES and not context.choices.source_lost:
        check_source_is_off(context)
        context.report("final sync of what changed since the last point")
        point = context.sync(context.point_b, Level(facts["off_level"]))
    else:
        point = choose_known_point(context)
    required = context.choices.require
    if point.level < required:
        raise LevelTooLow(point=point.id, level=point.level, required=required)
    others = alternatives(context.ports.points(), point)
    return StepResult(
        FailoverEvent.POINT_SETTLED, {**in_short(point), "others": [in_short(p) for p in others]}
    )


def in_short(point: RecoveryPoint) -> dict[str, Any]:
    """The facts of a point in a journal. `taken`: its data is from then."""
    return {"point": point.id, "level": point.level.value, "taken": point.taken.isoformat()}


def choose_known_point(context: StepContext) -> RecoveryPoint:
    """The point that boots without a sync. Raises NoPointToBoot and BootRefused."""
    points, choice = context.ports.points(), context.choices.boot
    if not points:
        raise NoPointToBoot(wanted="any")
    if choice.point is not None and context.find_point(choice.point) is None:
        raise NoPointToBoot(wanted=choice.point)
    sides = side_points(points, context.ports.side_branches())
    return choose_point(points, choice, context.began, sides)


def choose_own_point(context: StepContext) -> RecoveryPoint:
    """As `choose_known_point`, among the points that this failover made while the source ran."""
    own = [p for p in context.ports.points() if p.id.startswith(context.point_a)]
    if not own:
        raise NoPointToBoot(wanted=context.point_a)
    return choose_point(own, context.choices.boot, context.began)


def check_before_power_off(context: StepContext) -> None:
    """Refuses what would not boot, right before the source is powered off for it."""
    if context.choices.final_sync is FinalSync.NO:
        point = choose_known_point(context)
    elif context.choices.on_shutdown_timeout is OnShutdownTimeout.USE_QUIESCED:
        point = choose_own_point(context)
    else:
        return
    _check_level(point, context.choices.require)


def check_can_boot(ports: Ports, choices: FailoverChoices) -> None:
    """Refuses, before anything is changed, what is known not to boot. Raises BootRefused.

    Without a sync the point is known beforehand, so the source is not powered off in vain. A
    replica that others started or changed is refused as well: raises ReplicaIsOn and
    ReplicaTouched. With a sync, raises PreflightFailed as the run would. Raises SourceNotReached
    for a source that was not declared lost, and GuestRulesDoNotFit where the guest would not get
    its addresses, and ReplicaInFailover where a failover has the replica.
    """
    ports.check_free()
    if not choices.source_lost:
        ports.check_source_is_reached()
    ports.check_guest_rules()
    if choices.final_sync is FinalSync.YES and not choices.source_lost:
        ports.check_can_sync()
        return
    if choices.boot.point is None and not ports.replica_state_is_kept():
        # A failback: the replica's last state becomes a point once the failback has begun.
        return
    if ports.replica_is_on():
        raise ReplicaIsOn
    ports.replica_is_changed()
    points = ports.points()
    sides = side_points(points, ports.side_branches())
    point = choose_point(points, choices.boot, datetime.now(UTC), sides)
    _check_level(point, choices.require)


def _check_level(point: RecoveryPoint, required: Level) -> None:
    if point.level < required:
        raise ChosenLevelTooLow(point=point.id, level=point.level, required=required)
