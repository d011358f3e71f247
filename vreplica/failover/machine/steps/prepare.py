"""Prepares both sides before the source is shut down: the job off, recovery point A made.

The final sync copies what changed since the last pass: about as much as changed during that pass.
So it takes about as long as the pass took, or less. With a limit for the downtime, passes are
repeated until one is short enough.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from vreplica.failover.machine.choices import FinalSync
from vreplica.failover.machine.context import POWER_OFF, StepContext, StepResult
from vreplica.failover.machine.states import FailoverEvent
from vreplica.failover.machine.steps.boot_point import check_before_power_off
from vreplica.failover.machine.steps.shutdown import SOURCE_LOST, source_seen_off
from vreplica.points import RecoveryPoint

MAX_PASSES: Final = 5
"""Passes while the source runs. Each makes a recovery point. More passes do not help a guest whose
changes do not shrink."""

SHRINKS: Final = 0.8
"""A pass that takes more than this share of the one before shows that the guest writes about as
fast as it is copied. Another pass would be no shorter."""


def disable_job(context: StepContext) -> StepResult:
    """READY: switches the job off. For a failback it also keeps the original VM's last state."""
    context.do("disable job", context.ports.disable_job, context.id, marks_replica=True)
    if not context.ports.replica_state_is_kept():
        context.do(
            "freeze replica", context.ports.keep_replica_state, context.id, marks_replica=True
        )
    source, replica = context.ports.names()
    return StepResult(
        FailoverEvent.JOB_DISABLED,
        {"sides": {"source": asdict(source), "replica": asdict(replica)}},
    )


def make_point_a(context: StepContext) -> StepResult:
    """DISABLED: makes a quiesced recovery point while the source runs.

    Without a final sync, the source is powered off instead. A source that is off or lost needs
    neither.
    """
    if context.choices.source_lost:
        return SOURCE_LOST
    if context.ports.source_is_off():
        return source_seen_off(context)
    if context.choices.final_sync is FinalSync.NO:
        check_before_power_off(context)
        context.do(POWER_OFF, context.ports.power_off_source)
        return source_seen_off(context)
    point = _run_passes(context)
    facts = {"point_a": point.id, "level_a": point.level.value}
    return StepResult(FailoverEvent.POINT_A_MADE, facts)


def _run_passes(context: StepContext) -> RecoveryPoint:
    """Runs passes until one is as short as the downtime may be. Returns point A, the newest."""
    limit_s = context.choices.max_downtime_s
    made: list[RecoveryPoint] = []
    took_s: float | None = None
    source, _ = context.ports.names()
    while len(made) < MAX_PASSES:
        number = len(made) + 1
        context.report(f"pass {number}: a quiesced recovery point while {source.vm} runs")
        before_s, began = took_s, context.clock()
        id_ = context.point_a if number == 1 else f"{context.point_a}{number}"
        made.append(context.sync(id_, None))
        took_s = context.clock() - began
        context.report(f"pass {number} took {took_s:.0f} s: the final sync takes about as long")
        if limit_s is None or took_s <= limit_s:
            break
        if before_s is not None and took_s > before_s * SHRINKS:
            context.report(f"the pass before took {before_s:.0f} s: another would be no shorter")
            break
    return made[-1]
