"""Keeps what was written in service, before an undo takes the replica back to its point.

    source can run? room for a snapshot? ──► guest shutdown ──► snapshot `un-...` ──► UNDOING
             no: nothing is touched           no: as chosen      fails: the replica starts again

The snapshot is a side branch: it hangs beside the chain of recovery points and is none of them. It
boots only where its id is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from vreplica.errors import VReplicaError
from vreplica.failover.machine.choices import OnShutdownTimeout, UndoChoices
from vreplica.failover.machine.context import POWER_ON, StepContext, StepResult
from vreplica.failover.machine.errors import (
    ReplicaCannotShutDown,
    ReplicaIsOn,
    ReplicaStaysOn,
    SourceIsOn,
    UndoStopped,
)
from vreplica.failover.machine.journal import Entry, state_of
from vreplica.failover.machine.ports import Ports
from vreplica.failover.machine.states import MAY_HAVE_RUN, FailoverEvent, FailoverState
from vreplica.failover.machine.steps.finish import POWER_OFF_REPLICA, check_can_undo
from vreplica.points import Level
from vreplica.points.side_branch import ID_PREFIX

SHUT_DOWN_REPLICA: Final = "ShutdownGuest replica"
"""Name of the effect in the journal. Journals on disk have it: it never changes."""


def keep_written(context: StepContext) -> StepResult:
    """KEEPING: shuts the replica's guest down, and keeps its disks as a side branch."""
    undo, ports, entries = context.undo_choices, context.ports, context.journal.entries
    if undo.discard_written or not may_have_written(ports, entries):
        return StepResult(FailoverEvent.KEPT)
    branch = side_branch_of(context.id)
    kept = next((b for b in ports.side_branches() if b.id == branch), None)
    if kept is None:
        check_can_undo(context.id, context.journal.facts(), ports, undo)
        check_can_keep(ports, entries, undo)
        level = _bring_down(context)
        written = ports.written_in_service()
        if written == 0:
            return StepResult(FailoverEvent.KEPT, {"written_bytes": 0})
        call = ports.keep_side_branch
        try:
            context.do(f"snapshot {branch} of replica", call, branch, level, written)
        except VReplicaError as error:
            _put_in_service_again(context, error)
            raise
        return StepResult(FailoverEvent.KEPT, _facts(branch, level, written))
    return StepResult(FailoverEvent.KEPT, _facts(branch, kept.level, kept.written_bytes))


def side_branch_of(failover: str) -> str:
    """The id of the side branch that an undo of this failover keeps."""
    return f"{ID_PREFIX}{failover.removeprefix('fo-').removeprefix('fb-')}"


def may_have_written(ports: Ports, entries: Sequence[Entry]) -> bool:
    """False where nobody can have written to the replica since its point."""
    begun = any(e.kind == "intent" and e.step == POWER_ON for e in entries)
    return begun or ports.replica_is_on()


def check_can_keep(ports: Ports, entries: Sequence[Entry], undo: UndoChoices) -> None:
    """Refuses an undo that could not keep what was written. Nothing was touched then.

    Raises ReplicaCannotShutDown, and what `check_room_to_keep` raises.
    """
    state = state_of(entries)
    if state is FailoverState.UNDOING or not may_have_written(ports, entries):
        return
    if state not in MAY_HAVE_RUN:
        # Somebody else has started it: what it writes is theirs to save.
        raise ReplicaIsOn
    if undo.discard_written:
        return
    ports.check_room_to_keep()
    asks = undo.on_shutdown_timeout is OnShutdownTimeout.ABORT
    if asks and ports.replica_is_on() and not ports.replica_can_shut_down():
        raise ReplicaCannotShutDown


def _facts(branch: str, level: Level, written: int | None) -> dict[str, Any]:
    return {"kept": branch, "kept_level": level.value, "written_bytes": written}


def _bring_down(context: StepContext) -> Level:
    """Brings the replica off, as the source of a planned failover. Returns its disks' level."""
    ports, undo = context.ports, context.undo_choices
    while ports.replica_is_on():
        if ports.replica_can_shut_down():
            context.do(SHUT_DOWN_REPLICA, ports.shut_down_replica)
        limit_s = undo.shutdown_timeout_s

        def is_off() -> bool:
            return not ports.replica_is_on()

        if context.wait_until(is_off, limit_s, f"waiting for the shutdown of {context.names[1]}"):
            break
        if undo.on_shutdown_timeout is OnShutdownTimeout.POWER_OFF:
            context.do(POWER_OFF_REPLICA, ports.power_off_replica)
        elif undo.on_shutdown_timeout is not OnShutdownTimeout.WAIT:
            raise ReplicaStaysOn(failover=context.id, seconds=limit_s)
    asked = context.attempted(SHUT_DOWN_REPLICA) and not context.attempted(POWER_OFF_REPLICA)
    return Level.CLEAN_SHUTDOWN if asked else Level.CRASH


def _put_in_service_again(context: StepContext, error: VReplicaError) -> None:
    """The snapshot failed: a replica that this undo brought down is started again.

    Raises UndoStopped then.
    """
    ours = context.attempted(SHUT_DOWN_REPLICA) or context.attempted(POWER_OFF_REPLICA)
    if not ours or context.ports.replica_is_on():
        return
    # Also of a source that was declared lost: it answers, since this undo has asked its host.
    if not context.undo_choices.even_without_source and not context.ports.source_is_off():
        raise SourceIsOn from error
    context.do(POWER_ON, context.ports.power_on_replica_again)
    raise UndoStopped(failover=context.id, reason=str(error)) from error
