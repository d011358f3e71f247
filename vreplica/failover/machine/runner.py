"""Runs a failover: state -> step -> event, each event durable before the next step begins.

begin   -> advance until RUNNING, or an end; or no further than a goal
resume  -> the same, from where the journal stands, with a new epoch
undo    -> back, from anywhere before the commit; before the source was touched: given up
commit  -> RUNNING becomes permanent
drive   -> in somebody else's hands: one event a call, in one epoch
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vreplica.failover.machine.choices import Choices, FinalSync
from vreplica.failover.machine.errors import (
    ChosenLevelTooLow,
    NoSuchPointToBoot,
    NotPossibleNow,
    ReplicaIsOn,
)
from vreplica.failover.machine.journal import Entry, Journal, load, next_number, state_of
from vreplica.failover.machine.ports import Sides
from vreplica.failover.machine.states import GIVEN_UP_BY_UNDO, TRANSITIONS, Event, State, at_or_past
from vreplica.failover.machine.steps import (
    POWER_OFF,
    SHUT_DOWN,
    STEPS,
    Work,
    give_up,
    starts_source,
)
from vreplica.points import RecoveryPoint
from vreplica.points.retention import best

Reporter = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a failover stands, with everything that its events established."""

    id: str
    state: State
    facts: dict[str, Any]

    @property
    def answered(self) -> bool:
        """The replica is in service and its guest answered in time."""
        return self.state is State.RUNNING and bool(self.facts.get("answered"))

    @property
    def committed(self) -> bool:
        return self.state is State.COMMITTED

    @property
    def given_up(self) -> bool:
        return self.state is State.ABORTED

    @property
    def incomplete(self) -> bool:
        """Never: a step that stops raises its error."""
        return False

    def to_dict(self) -> dict[str, Any]:
        return {"failover": self.id, "state": self.state.value, "facts": self.facts}


UNDER_WAY = {(Event.UNDO_ASKED, State.UNDOING), (Event.COMMIT_ASKED, State.COMMITTING)}


def begin(
    folder: Path,
    sides: Sides,
    choices: Choices,
    tell: Reporter,
    goal: State | None = None,
    more: Mapping[str, Any] | None = None,
    alone: AbstractContextManager[None] | None = None,
) -> Outcome:
    """Start a failover in a new folder, whose name is its id, and go as far as it goes.

    With a goal: no further than that state; `resume` goes on from there. `more` is kept beside
    the choices, for whoever has to make the sides again. `alone` is held until the journal is
    there. Raises BootRefused before anything is changed where it is known beforehand that what was
    chosen cannot boot.
    """
    with alone or nullcontext():
        _refuse_what_cannot_boot(sides, choices)
        number = next_number(folder.parent)
        journal = Journal.begin(folder, {**choices.to_dict(), **number, **(more or {})})
    return _advance(journal, sides, tell, goal)


def _refuse_what_cannot_boot(sides: Sides, choices: Choices) -> None:
    """Where no sync comes first the point is known, and a source is not powered off in vain.

    A replica that others started or changed is refused as well; a sync would see that itself.
    """
    if choices.final_sync is FinalSync.YES and not choices.source_lost:
        return
    if choices.point is None and not sides.replica_is_frozen():
        # Its state becomes a point only once the failover has begun.
        return
    if sides.replica_is_on():
        raise ReplicaIsOn
    sides.replica_is_touched()
    points = sides.points()
    point = find_chosen(points, choices.point) if choices.point or not points else best(points)
    if point.level < choices.require:
        raise ChosenLevelTooLow(point=point.id, level=point.level, required=choices.require)


def find_chosen(points: Sequence[RecoveryPoint], wanted: str | None) -> RecoveryPoint:
    """The point of that id. Raises NoSuchPointToBoot."""
    for point in points:
        if point.id == wanted:
            return point
    raise NoSuchPointToBoot(wanted=wanted or "to boot")


def resume(
    folder: Path,
    sides: Sides,
    tell: Reporter,
    goal: State | None = None,
    *,
    source_lost: bool = False,
) -> Outcome:
    """Go on with a failover that stopped; whoever ran it before can do nothing more.

    source_lost: the operator declares it lost now; it is not contacted any more. Raises
    NotPossibleNow where the replica is in service already, or the failover has ended.
    """
    state = show(folder).state
    if source_lost and state is not State.UNDOING and at_or_past(state, State.RUNNING):
        asked = "to declare its source lost"
        raise NotPossibleNow(failover=folder.name, asked=asked, state=state.value)
    journal = Journal.take_over(folder)
    if source_lost:
        journal.write("choice", step="source declared lost", data={"source_lost": True})
    return _advance(journal, sides, tell, goal)


def undo(folder: Path, sides: Sides, tell: Reporter) -> Outcome:
    """Put both sides back; before anything was asked of the source: the job on again.

    Raises NotPossibleNow after a commit, and where it has ended; and what keeps the source from
    being read now, before the replica is taken out of service for it.
    """
    if _untouched(load(folder)):
        journal = Journal.take_over(folder)
        if _untouched(journal.entries):
            return _give_up(journal, sides, tell)
        journal.close()
    return _ask(folder, sides, tell, Event.UNDO_ASKED, "undo")


def commit(folder: Path, sides: Sides, tell: Reporter) -> Outcome:
    """Make a running failover permanent. Raises NotPossibleNow in any other state."""
    return _ask(folder, sides, tell, Event.COMMIT_ASKED, "commit")


def show(folder: Path) -> Outcome:
    """Where a failover stands; takes nothing over."""
    entries = load(folder)
    facts: dict[str, Any] = {}
    for entry in entries:
        if entry.kind == "event":
            facts.update(entry.data)
    return Outcome(folder.name, state_of(entries), facts)


def _ask(folder: Path, sides: Sides, tell: Reporter, event: Event, asked: str) -> Outcome:
    state = show(folder).state
    reached = TRANSITIONS.get((state, event))
    # An undo or a commit that was killed is gone on with.
    if reached is None and (event, state) not in UNDER_WAY:
        raise NotPossibleNow(failover=folder.name, asked=asked, state=state.value)
    journal = Journal.take_over(folder)
    if reached is not None:
        try:
            if event is Event.UNDO_ASKED and starts_source(_work(journal, sides, tell)):
                sides.source_is_off()
            journal.write("event", event=event, data={})
        except BaseException:
            journal.close()
            raise
    return _advance(journal, sides, tell)


def was_asked(entries: list[Entry]) -> bool:
    """Was the source asked to go off? An intent counts: it may have been carried out."""
    return any(e.kind == "intent" and e.step in (POWER_OFF, SHUT_DOWN) for e in entries)


def _untouched(entries: list[Entry]) -> bool:
    return state_of(entries) in GIVEN_UP_BY_UNDO and not was_asked(entries)


def _give_up(journal: Journal, sides: Sides, tell: Reporter) -> Outcome:
    try:
        seen = give_up(_work(journal, sides, tell), "undone before the source was touched")
        journal.write("event", event=seen.event, data=seen.facts)
        return Outcome(journal.folder.name, journal.state, journal.facts())
    finally:
        journal.close()


def _work(journal: Journal, sides: Sides, tell: Reporter) -> Work:
    choices = Choices.from_dict(journal.choices)
    return Work(journal.folder.name, sides, journal, choices, tell)


class Drive:
    """A failover in this process's hands, one event at a time. A context manager."""

    def __init__(self, journal: Journal, sides: Sides, tell: Reporter) -> None:
        self._journal = journal
        self._work = _work(journal, sides, tell)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._journal.close()

    @property
    def outcome(self) -> Outcome:
        return Outcome(self._journal.folder.name, self._journal.state, self._journal.facts())

    def reached(self, goal: State | None) -> bool:
        return goal is not None and at_or_past(self._journal.state, goal)

    def step(self) -> bool:
        """One event further. False: it has ended, or waits for the operator."""
        step = STEPS.get(self._journal.state)
        if step is None:
            return False
        seen = step(self._work)
        self._journal.write("event", event=seen.event, data=seen.facts)
        self._work.tell(f"{self._journal.state}: {seen.event}")
        return True


def drive(folder: Path, sides: Sides, tell: Reporter) -> Drive:
    """Take a failover over, to go on with it step by step."""
    return Drive(Journal.take_over(folder), sides, tell)


def _advance(journal: Journal, sides: Sides, tell: Reporter, goal: State | None = None) -> Outcome:
    with Drive(journal, sides, tell) as it:
        while not it.reached(goal) and it.step():
            pass
        return it.outcome
