"""Runs a failover: state -> step -> event. Each event is durable before the next step begins.

begin_failover     from READY until RUNNING or an end, or until a goal
resume_failover    the same, from where the journal stands, with a new epoch
undo_failover      back, from any state before the commit
commit_failover    makes a RUNNING failover permanent
open_failover      for a caller that advances it one event at a time
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, Self

from vreplica.errors import VReplicaError
from vreplica.failover.machine.choices import FailoverChoices, UndoChoices
from vreplica.failover.machine.context import POWER_OFF, SHUT_DOWN, Reporter, StepContext
from vreplica.failover.machine.errors import CommitRefused, NotPossibleNow
from vreplica.failover.machine.journal import (
    Entry,
    Journal,
    facts_of,
    load,
    next_number,
    state_of,
)
from vreplica.failover.machine.mark import JOURNAL
from vreplica.failover.machine.point_choice import NEWEST, PointChoice
from vreplica.failover.machine.ports import Ports, Written, naming_sides
from vreplica.failover.machine.progress import in_words
from vreplica.failover.machine.record import Outcome, outcome_by, outcome_of
from vreplica.failover.machine.states import (
    ENDED,
    GIVEN_UP_BY_UNDO,
    MAY_HAVE_RUN,
    TRANSITIONS,
    FailoverEvent,
    FailoverState,
    at_or_past,
    next_state,
)
from vreplica.failover.machine.steps.boot_point import check_can_boot
from vreplica.failover.machine.steps.finish import check_can_undo
from vreplica.failover.machine.steps.keep import check_can_keep, may_have_written
from vreplica.failover.machine.steps.shutdown import give_up
from vreplica.failover.machine.steps.table import STEPS

DEFAULT_UNDO: Final = UndoChoices()

UNDER_WAY: Final = {
    (FailoverEvent.KEEP_ASKED, FailoverState.KEEPING),
    (FailoverEvent.UNDO_ASKED, FailoverState.UNDOING),
    (FailoverEvent.COMMIT_ASKED, FailoverState.COMMITTING),
}
"""An undo or a commit that was interrupted: asking again continues it."""


def begin_failover(
    folder: Path,
    ports: Ports,
    choices: FailoverChoices,
    report: Reporter,
    goal: FailoverState | None = None,
    *,
    more: Mapping[str, Any] | None = None,
    alone: AbstractContextManager[None] | None = None,
) -> Outcome:
    """Begins a failover in a new folder, whose name is its id, and goes as far as it can.

    `goal`: stop at that state; `resume_failover` continues from there. `more`: kept in the journal
    beside the choices, for a process that has to make the ports again. `alone`: held until the
    journal exists. Raises BootRefused, before anything is changed, where the choice is known not
    to boot.
    """
    with alone or nullcontext():
        with naming_sides(ports):
            check_can_boot(ports, choices)
        number = next_number(folder.parent)
        named = {JOURNAL: uuid.uuid4().hex}
        journal = Journal.begin(folder, {**choices.to_dict(), **number, **named, **(more or {})})
    return _advance(journal, ports, report, goal)


def resume_failover(
    folder: Path,
    ports: Ports,
    report: Reporter,
    goal: FailoverState | None = None,
    *,
    source_lost: bool = False,
    boot: PointChoice = NEWEST,
) -> Outcome:
    """Continues a failover that stopped. A process that ran it before can do nothing more.

    `source_lost`: the operator declares the source lost now; it is not contacted any more. Raises
    NotPossibleNow where the replica is in service already, or the failover has ended. `boot`:
    where it says something, it replaces the choice that the failover was begun with. Raises
    NotPossibleNow where the point is settled already.
    """
    state = outcome_of(folder).state
    if (
        source_lost
        and state is not FailoverState.UNDOING
        and at_or_past(state, FailoverState.RUNNING)
    ):
        asked = "to declare its source lost"
        raise NotPossibleNow(failover=folder.name, asked=asked, state=state.value)
    if boot.given and at_or_past(state, FailoverState.SYNCED):
        raise NotPossibleNow(
            failover=folder.name, asked="to choose another point", state=state.value
        )
    journal = Journal.take_over(folder)
    if boot.given:
        journal.write("choice", step="point to boot", data=boot.to_dict())
    if source_lost:
        journal.write("choice", step="source declared lost", data={"source_lost": True})
    return _advance(journal, ports, report, goal)


def undo_failover(
    folder: Path, ports: Ports, report: Reporter, choices: UndoChoices = DEFAULT_UNDO
) -> Outcome:
    """Puts both sides back, and keeps what was written in service as a side branch.

    Before the source was asked for anything, it only switches the job on. Raises NotPossibleNow
    after a commit and after an end. Raises, before the replica is taken out of service,
    UndoRefused where the source's host does not answer for it now, and NoRoomToKeep and
    ReplicaCannotShutDown where what was written cannot be kept. Raises UndoStopped where that
    fails later: the replica is in service again then.
    """
    if _is_untouched(load(folder)):
        journal = Journal.take_over(folder)
        if _is_untouched(journal.entries):
            return _give_up(journal, ports, report)
        journal.close()
    ran = outcome_of(folder).state in MAY_HAVE_RUN
    event = FailoverEvent.KEEP_ASKED if ran else FailoverEvent.UNDO_ASKED
    return _ask(folder, ports, report, event, "undo", choices)


def look_before_undo(folder: Path, ports: Ports, choices: UndoChoices) -> Written | None:
    """Reads what was written in service, before an undo decides over it. Changes nothing.

    None: nobody can have written, since the replica was never started. Raises as `check_undo`.
    """
    check_undo(folder, ports, choices)
    entries = load(folder)
    ran = state_of(entries) in MAY_HAVE_RUN and may_have_written(ports, entries)
    return ports.written_so_far() if ran else None


def check_undo(folder: Path, ports: Ports, choices: UndoChoices) -> None:
    """Refuses an undo as `undo_failover` would. Changes nothing, takes nothing over."""
    entries = load(folder)
    state = state_of(entries)
    if not entries or state in ENDED or _is_untouched(entries):
        return
    with naming_sides(ports):
        check_can_undo(folder.name, facts_of(entries), ports, choices)
        check_can_keep(ports, entries, choices)


def commit_failover(folder: Path, ports: Ports, report: Reporter) -> Outcome:
    """Makes a running failover permanent. Raises NotPossibleNow in any other state, CommitRefused.

    An undo that waits for the replica's guest can be given up like this, while the replica is on.
    """
    state = outcome_of(folder).state
    if state is FailoverState.KEEPING and not (
        ports.replica_is_on() and _has_started(load(folder))
    ):
        raise NotPossibleNow(failover=folder.name, asked="commit", state=state.value)
    if state in (FailoverState.RUNNING, FailoverState.KEEPING):
        with naming_sides(ports):
            _check_where_it_runs(folder.name, ports, report)
    return _ask(folder, ports, report, FailoverEvent.COMMIT_ASKED, "commit")


def _ask(
    folder: Path,
    ports: Ports,
    report: Reporter,
    event: FailoverEvent,
    asked: str,
    undo: UndoChoices | None = None,
) -> Outcome:
    """Journals what the operator asked for, where the state allows it, and does it."""
    state = outcome_of(folder).state
    reached = TRANSITIONS.get((state, event))
    if reached is None and (event, state) not in UNDER_WAY:
        raise NotPossibleNow(failover=folder.name, asked=asked, state=state.value)
    journal = Journal.take_over(folder)
    try:
        _context(journal, ports, report).check_held()
        if undo is not None:
            journal.write("choice", step="undo", data=undo.to_dict())
            with naming_sides(ports):
                check_can_undo(folder.name, journal.facts(), ports, undo)
                check_can_keep(ports, journal.entries, undo)
        if reached is not None:
            journal.write("event", event=event, data={})
    except BaseException:
        journal.close()
        raise
    return _advance(journal, ports, report)


def was_asked(entries: list[Entry]) -> bool:
    """True where the source was asked to go off. An intent counts: it may have been carried out."""
    return any(e.kind == "intent" and e.step in (POWER_OFF, SHUT_DOWN) for e in entries)


def _check_where_it_runs(failover: str, ports: Ports, report: Reporter) -> None:
    """Tells the operator where the source is on beside the replica. A side that cannot be read
    does not keep a replica that is in service from staying so.

    Raises CommitRefused where only the source is on: a later failback would drop what it writes.
    """
    try:
        replica_on, source_on = ports.replica_is_on(), not ports.source_is_off()
    except VReplicaError:
        return
    if source_on and not replica_on:
        raise CommitRefused(failover=failover)
    if source_on:
        source, replica = ports.names()
        report(
            f"ALARM: both VMs are on, {source} and {replica}: find out who started {source}, save "
            "what it holds, and shut it down"
        )


def _has_started(entries: list[Entry]) -> bool:
    return any(e.event is FailoverEvent.REPLICA_STARTED for e in entries)


def _is_untouched(entries: list[Entry]) -> bool:
    return state_of(entries) in GIVEN_UP_BY_UNDO and not was_asked(entries)


def _give_up(journal: Journal, ports: Ports, report: Reporter) -> Outcome:
    try:
        context = _context(journal, ports, report)
        context.check_held()
        result = give_up(context, "undone before the source was touched")
        journal.write("event", event=result.event, data=result.facts)
        return outcome_by(journal.folder.name, journal.entries)
    finally:
        journal.close()


def _context(journal: Journal, ports: Ports, report: Reporter) -> StepContext:
    choices = FailoverChoices.from_dict(journal.choices)
    return StepContext(journal.folder.name, ports, journal, choices, report)


class OpenFailover:
    """A failover that this process has taken over. Advances one event at a time.

    A context manager: closes the journal.
    """

    def __init__(self, journal: Journal, ports: Ports, report: Reporter) -> None:
        self._journal = journal
        self._context = _context(journal, ports, report)

    def __enter__(self) -> Self:
        try:
            self._context.check_held()
        except BaseException:
            self._journal.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._journal.close()

    @property
    def outcome(self) -> Outcome:
        return outcome_by(self._journal.folder.name, self._journal.entries)

    def has_reached(self, goal: FailoverState | None) -> bool:
        return goal is not None and at_or_past(self._journal.state, goal)

    def advance(self) -> bool:
        """Advances by one event. False: the failover has ended, or waits for the operator."""
        step = STEPS.get(self._journal.state)
        if step is None:
            return False
        with naming_sides(self._context.ports):
            result = step(self._context)
        ahead = next_state(self._journal.state, result.event)
        if ahead is FailoverState.COMMITTED and self._context.ports.stays_claimed():
            # First: what the operator is told must stand where other machines look.
            self._context.mark_ahead(result)
        self._journal.write("event", event=result.event, data=result.facts)
        if ahead is FailoverState.RUNNING:
            # It stands here for days, perhaps, and this machine may be lost meanwhile.
            self._context.mark_replica()
        self._context.report(in_words(result.event, self._journal.facts()))
        return True


def open_failover(folder: Path, ports: Ports, report: Reporter) -> OpenFailover:
    """Takes a failover over, to advance it one event at a time."""
    return OpenFailover(Journal.take_over(folder), ports, report)


def _advance(
    journal: Journal, ports: Ports, report: Reporter, goal: FailoverState | None = None
) -> Outcome:
    with OpenFailover(journal, ports, report) as failover:
        while not failover.has_reached(goal) and failover.advance():
            pass
        return failover.outcome
