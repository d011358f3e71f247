"""Lists the states of a failover, and the events that lead from one to the next, as data.

A state says what is true of both sides. So a process that finds a journal knows where the
failover stands, without the process that wrote it:

    READY          nothing was done
    DISABLED       the job is switched off; no run is in flight
    INSURED        recovery point A was made while the source ran, quiesced
    SHUTTING_DOWN  the guest was asked to shut down
    SOURCE_OFF     the source was read as off, or declared lost by the operator
    SYNCED         the point to boot is chosen: B of a final sync, A, or the operator's choice
    FENCED         the source was read as off once more, and the replica's disks hold that point
    BOOTING        the replica was powered on
    RUNNING        the replica is in service: its guest answered, or its time to answer is over
    COMMITTING     no undo any more: the job's direction is being settled
    COMMITTED      the failover is permanent
    KEEPING        an undo was asked for: what was written in service is being kept first
    UNDOING        being undone: replica off and on its point, source on, job on
    UNDONE         the replica is back on its point, the job is on; the source was put back as well,
                   unless the operator chose to leave it
    ABORTED        given up before the source was off: the job is on again

A failover leaves a state only by an event of `TRANSITIONS`. Any other event is a defect, and is
refused before anything is done.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class FailoverState(Enum):
    """The state of a failover. Its value is in journals and in JSON."""

    READY = "ready"
    DISABLED = "disabled"
    INSURED = "insured"
    SHUTTING_DOWN = "shutting-down"
    SOURCE_OFF = "source-off"
    SYNCED = "synced"
    FENCED = "fenced"
    BOOTING = "booting"
    RUNNING = "running"
    COMMITTING = "committing"
    COMMITTED = "committed"
    KEEPING = "keeping"
    UNDOING = "undoing"
    UNDONE = "undone"
    ABORTED = "aborted"

    def __str__(self) -> str:
        return self.value


class FailoverEvent(Enum):
    """An event that a step has verified. Its value is in journals."""

    JOB_DISABLED = "job disabled"
    POINT_A_MADE = "point A made"
    INSURANCE_SKIPPED = "insurance skipped"
    SHUTDOWN_REQUESTED = "shutdown requested"
    SOURCE_SEEN_OFF = "source seen off"
    SOURCE_DECLARED_LOST = "source declared lost"
    POINT_SETTLED = "point settled"
    FENCE_CHECKED = "fence checked"
    REPLICA_STARTED = "replica started"
    REPLICA_ANSWERED = "replica answered"
    COMMIT_ASKED = "commit asked"
    DIRECTION_SETTLED = "direction settled"
    UNDO_ASKED = "undo asked"
    KEEP_ASKED = "undo asked, to keep what was written"
    KEPT = "kept"
    BOTH_PUT_BACK = "both put back"
    REPLICA_PUT_BACK = "replica put back, source not asked"
    GIVEN_UP = "given up"

    def __str__(self) -> str:
        return self.value


S, E = FailoverState, FailoverEvent

TRANSITIONS: Final[dict[tuple[FailoverState, FailoverEvent], FailoverState]] = {
    (S.READY, E.JOB_DISABLED): S.DISABLED,
    (S.READY, E.GIVEN_UP): S.ABORTED,
    # A final sync: a quiesced point first, whatever happens to the guest afterwards.
    (S.DISABLED, E.POINT_A_MADE): S.INSURED,
    (S.DISABLED, E.INSURANCE_SKIPPED): S.INSURED,
    # No point A without a final sync, nor of a source that is off or lost from the start.
    (S.DISABLED, E.SOURCE_SEEN_OFF): S.SOURCE_OFF,
    (S.DISABLED, E.SOURCE_DECLARED_LOST): S.SOURCE_OFF,
    (S.DISABLED, E.GIVEN_UP): S.ABORTED,
    (S.INSURED, E.SHUTDOWN_REQUESTED): S.SHUTTING_DOWN,
    (S.INSURED, E.SOURCE_SEEN_OFF): S.SOURCE_OFF,
    # The source is declared lost on the way.
    (S.INSURED, E.SOURCE_DECLARED_LOST): S.SOURCE_OFF,
    (S.SHUTTING_DOWN, E.SOURCE_DECLARED_LOST): S.SOURCE_OFF,
    (S.INSURED, E.GIVEN_UP): S.ABORTED,
    (S.SHUTTING_DOWN, E.SOURCE_SEEN_OFF): S.SOURCE_OFF,
    (S.SHUTTING_DOWN, E.GIVEN_UP): S.ABORTED,
    (S.SOURCE_OFF, E.POINT_SETTLED): S.SYNCED,
    (S.SYNCED, E.FENCE_CHECKED): S.FENCED,
    (S.FENCED, E.REPLICA_STARTED): S.BOOTING,
    (S.BOOTING, E.REPLICA_ANSWERED): S.RUNNING,
    (S.RUNNING, E.COMMIT_ASKED): S.COMMITTING,
    (S.COMMITTING, E.DIRECTION_SETTLED): S.COMMITTED,
    # Until the commit an undo is possible in every state, also after an error.
    # Once the replica may have run, what it wrote is kept first.
    (S.FENCED, E.KEEP_ASKED): S.KEEPING,
    (S.BOOTING, E.KEEP_ASKED): S.KEEPING,
    (S.RUNNING, E.KEEP_ASKED): S.KEEPING,
    (S.KEEPING, E.KEPT): S.UNDOING,
    # The undo waits for the guest, or nothing could be kept: the replica is in service still.
    (S.KEEPING, E.COMMIT_ASKED): S.COMMITTING,
    (S.READY, E.UNDO_ASKED): S.UNDOING,
    (S.DISABLED, E.UNDO_ASKED): S.UNDOING,
    (S.INSURED, E.UNDO_ASKED): S.UNDOING,
    (S.SHUTTING_DOWN, E.UNDO_ASKED): S.UNDOING,
    (S.SOURCE_OFF, E.UNDO_ASKED): S.UNDOING,
    (S.SYNCED, E.UNDO_ASKED): S.UNDOING,
    # As older versions undid; their journals stay readable.
    (S.FENCED, E.UNDO_ASKED): S.UNDOING,
    (S.BOOTING, E.UNDO_ASKED): S.UNDOING,
    (S.RUNNING, E.UNDO_ASKED): S.UNDOING,
    (S.UNDOING, E.BOTH_PUT_BACK): S.UNDONE,
    # By the operator's word, with a source that cannot be read.
    (S.UNDOING, E.REPLICA_PUT_BACK): S.UNDONE,
}

ENDED: Final = frozenset({S.COMMITTED, S.UNDONE, S.ABORTED})
"""The end states."""

REPLICA_MAY_BE_ON: Final = frozenset(
    {S.FENCED, S.BOOTING, S.RUNNING, S.COMMITTING, S.COMMITTED, S.KEEPING, S.UNDOING}
)
"""In FENCED it may be on where the process died between the power-on and its journal entry."""


MAY_HAVE_RUN: Final = frozenset({S.FENCED, S.BOOTING, S.RUNNING, S.KEEPING})
"""States in which an undo keeps what the replica may have written."""

GIVEN_UP_BY_UNDO: Final = frozenset({S.READY, S.DISABLED, S.INSURED})
"""An undo in these states only switches the job on again. Where the source was asked for something
already, and the process died before its event, it is a full undo."""


def at_or_past(state: FailoverState, goal: FailoverState) -> bool:
    """True where a failover in `state` has reached `goal`. The states are in their order."""
    order = list(FailoverState)
    return order.index(state) >= order.index(goal)


def next_state(state: FailoverState, event: FailoverEvent) -> FailoverState:
    """The state to which `event` leads from `state`. Raises ValueError where it cannot happen."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"{event} may not happen in state {state}") from None


def diagram() -> str:
    """Draws the table as a Mermaid state diagram, for docs/failover.md."""
    lines = ["stateDiagram-v2", "    [*] --> ready"]
    lines += [f"    {a} --> {b}: {event}" for (a, event), b in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in FailoverState if state in ENDED]
    return "\n".join(lines)
