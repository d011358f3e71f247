"""Shuts the source's guest down, and does what the operator chose where that does not finish.

The guest is asked through VMware Tools. It is powered off only where the operator chose so, and
the recovery point of such a source has the level `crash`.
"""

from __future__ import annotations

from typing import Any, Final

from vreplica.failover.machine.choices import OnShutdownTimeout
from vreplica.failover.machine.context import POWER_OFF, SHUT_DOWN, StepContext, StepResult
from vreplica.failover.machine.errors import GuestStaysOn
from vreplica.failover.machine.mark import ENABLE
from vreplica.failover.machine.states import FailoverEvent, FailoverState
from vreplica.failover.machine.steps.boot_point import check_before_power_off
from vreplica.failover.machine.steps.fence import check_source_is_off
from vreplica.points import Level

SOURCE_LOST: Final = StepResult(
    FailoverEvent.SOURCE_DECLARED_LOST, {"source": "declared lost by the operator"}
)


def shut_down_guest(context: StepContext) -> StepResult:
    """INSURED: asks the source's guest to shut down."""
    if context.choices.source_lost:
        return SOURCE_LOST
    while not context.ports.source_is_off():
        if context.ports.source_can_shut_down():
            context.do(SHUT_DOWN, context.ports.shut_down_source)
            return StepResult(FailoverEvent.SHUTDOWN_REQUESTED)
        reason = f"VMware Tools are not running in {context.names[0]}"
        if context.choices.on_shutdown_timeout is not OnShutdownTimeout.WAIT:
            return _follow_policy(context, reason)
        context.wait_once(f"{reason}: waiting for Tools, or for a shutdown at the console")
    return source_seen_off(context)


def wait_for_shutdown(context: StepContext) -> StepResult:
    """SHUTTING_DOWN: waits until the source is off, for as long as the operator chose."""
    if context.choices.source_lost:
        return SOURCE_LOST
    limit_s = context.choices.shutdown_timeout_s
    while not context.wait_until(
        context.ports.source_is_off, limit_s, "waiting for the guest's shutdown"
    ):
        if context.choices.on_shutdown_timeout is not OnShutdownTimeout.WAIT:
            return _follow_policy(context, f"the guest did not shut down within {limit_s:.0f} s")
        context.report(f"still on after {limit_s:.0f} s; waiting on, as was chosen")
        if context.ports.source_can_shut_down() and not context.ports.source_is_off():
            context.do(SHUT_DOWN, context.ports.shut_down_source)
    return source_seen_off(context)


def _follow_policy(context: StepContext, reason: str) -> StepResult:
    policy = context.choices.on_shutdown_timeout
    assert policy is not OnShutdownTimeout.WAIT, "WAIT never gives up waiting"
    if policy is OnShutdownTimeout.ABORT:
        if context.attempted(SHUT_DOWN):
            # It may still go off. With the job on, and nobody waiting, both VMs would be off then.
            raise GuestStaysOn(failover=context.id, reason=reason)
        return give_up(context, reason)
    check_before_power_off(context)
    context.report(f"{reason}; powering it off, as was chosen ({policy.value})")
    # The guest may have shut down since the last look. Then no power-off is needed.
    if not context.ports.source_is_off():
        context.do(POWER_OFF, context.ports.power_off_source)
    return source_seen_off(context)


def give_up(context: StepContext, reason: str) -> StepResult:
    """Ends the failover before the source is off: only the job is switched on again."""
    context.do(ENABLE, context.ports.enable_job, context.id, marks_replica=True)
    return StepResult(FailoverEvent.GIVEN_UP, {"reason": reason})


def source_seen_off(context: StepContext) -> StepResult:
    """Confirms that the source is off, and records how it went off.

    That decides the level of its disks. The journal knows it, also after a crash: a power-off has
    its intent there. A source that went off without this failover may have been powered off hard,
    so it counts as `crash`.
    """
    since = context.ports.source_time()
    check_source_is_off(context)
    facts: dict[str, Any]
    if context.attempted(POWER_OFF):
        use_a = context.choices.on_shutdown_timeout is OnShutdownTimeout.USE_QUIESCED
        use_a = use_a and context.journal.state is not FailoverState.DISABLED
        facts = {"source": "powered off", "off_level": Level.CRASH.value, "use_a": use_a}
    elif context.attempted(SHUT_DOWN) and context.ports.source_was_powered_off():
        facts = {"source": "powered off by others", "off_level": Level.CRASH.value, "use_a": False}
    elif context.attempted(SHUT_DOWN):
        level = Level.CLEAN_SHUTDOWN.value
        facts = {"source": "shut down by its guest", "off_level": level, "use_a": False}
    else:
        facts = {"source": "was off", "off_level": Level.CRASH.value, "use_a": False}
        if context.journal.state is FailoverState.DISABLED:
            facts["was_off"] = True
    facts["off_since"] = since.isoformat()
    return StepResult(FailoverEvent.SOURCE_SEEN_OFF, facts)
