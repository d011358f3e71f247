"""Gives each step of a failover what it works with, and takes what the step has seen.

    StepContext  ──►  step  ──►  StepResult
    ports, journal,              an event of the state table, with the facts that go with it
    choices, clock

Every effect on a vCenter or on the job goes through `StepContext.do`: its intent is in the journal
before it, its result after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from vreplica.errors import VReplicaError
from vreplica.failover.machine.choices import FailoverChoices, UndoChoices
from vreplica.failover.machine.errors import FailoverTakenOver
from vreplica.failover.machine.journal import Entry, Journal
from vreplica.failover.machine.mark import Holding, holding_of, mark_of
from vreplica.failover.machine.ports import Ports, bootable
from vreplica.failover.machine.progress import sides_of
from vreplica.failover.machine.states import FailoverEvent
from vreplica.points import Level, RecoveryPoint

Reporter = Callable[[str], None]
"""Takes one line for a person. It may raise, which stops the failover between two effects."""


def no_report(text: str) -> None:
    """The reporter of a caller that needs no lines."""


POWER_OFF: Final = "PowerOff source"
SHUT_DOWN: Final = "ShutdownGuest source"
POWER_ON: Final = "PowerOn replica"
MARK: Final = "mark replica"
DISCONNECT: Final = "disconnect source's network cards"
"""Names of effects in the journal. Journals on disk have them: they never change."""

FIRST_POLL_S: Final = 0.25
POLL_S: Final = 2.0
"""Between two looks at a power state or a heartbeat. It grows from the first to the second: short
at first, since this is downtime, then easy on vCenter."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The event that a step has seen, to be journalled, and its facts."""

    event: FailoverEvent
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class StepContext:
    """The ports, journal, choices and clock that every step works with."""

    id: str
    ports: Ports
    journal: Journal
    choices: FailoverChoices
    report: Reporter
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @property
    def names(self) -> tuple[str, str]:
        """Source and replica as messages name them: by VM and site, where the journal has that."""
        return sides_of(self.journal.facts()) or ("the source", "the replica")

    @property
    def undo_choices(self) -> UndoChoices:
        """The operator's choices for the undo."""
        return UndoChoices.from_dict(self.journal.choices)

    def do(
        self, effect: str, call: Callable[..., Any], *args: Any, marks_replica: bool = False
    ) -> Any:
        """Does one effect. Journals its intent before and its result after.

        Before the effect the replica's own mark tells of it, too. `marks_replica`: the call itself
        sets the mark, with what it changes. Raises FailoverTakenOver, before anything is done,
        where this process's epoch is old, and FailoverNotHere where another mover has adopted
        the failover.
        """
        with self.journal.effect():
            stands = self.holding.stands
            self.journal.write("intent", step=effect, data={})
            self.ports.hold(replace(self.holding, stands=stands))
            try:
                if not marks_replica:
                    self.ports.mark_replica()
                result = call(*args)
            except Exception as error:
                self._write_result(effect, f"failed: {error}")
                raise
            self._write_result(effect, "done")
        return result

    @property
    def holding(self) -> Holding:
        """The failover as its replica is to know it, by the journal as it is now."""
        return holding_of(self.id, self.journal.entries)

    def check_held(self) -> None:
        """Raises FailoverNotHere where another mover has adopted the failover. Only reads."""
        self.ports.hold(self.holding)
        self.ports.check_held()

    def mark_replica(self) -> None:
        """Has the replica's own mark tell the state that was reached.

        A site that is away now does not stop a failover that has reached it: the next effect
        brings the mark up to date.
        """
        self.ports.hold(self.holding)
        try:
            self._mark()
        except VReplicaError as error:
            if not error.retryable:
                raise
            self.report(f"the replica's mark is behind: {error}")

    def mark_ahead(self, result: StepResult) -> None:
        """Has the replica's own mark tell a state that the journal has not reached yet."""
        entries = self.journal.entries
        at, facts = datetime.now(UTC), result.facts
        event = Entry(len(entries), self.journal.epoch, at, "event", "", result.event, facts)
        told = mark_of(self.id, [*entries, event])
        self.ports.hold(replace(self.holding, mark=told))
        self._mark()

    def _mark(self) -> None:
        """Marks the replica apart from an effect. The call is in the journal: it is a task, too."""
        self.ports.mark_replica()
        if tasks := {side: keys for side, keys in self.ports.tasks().items() if keys}:
            self.journal.write("call", step=MARK, data={"result": "done", "tasks": tasks})

    def _write_result(self, effect: str, result: str) -> None:
        """Adds the keys of vCenter's tasks, to compare the journal with vCenter's own record."""
        tasks = {side: keys for side, keys in self.ports.tasks().items() if keys}
        data = {"result": result, **({"tasks": tasks} if tasks else {})}
        self.journal.write("call", step=effect, data=data)

    def attempted(self, effect: str) -> bool:
        """True where the effect was begun, by this process or by one before it."""
        return any(e.kind == "intent" and e.step == effect for e in self.journal.entries)

    @property
    def began(self) -> datetime:
        """When the failover began. The ages of points count until then: so a failover that is
        resumed hours later chooses as it did at first."""
        return self.journal.entries[0].time

    @property
    def point_a(self) -> str:
        """The id of the point that is made while the source runs."""
        return f"{self.id}-a"

    @property
    def point_b(self) -> str:
        """The id of the point of the final sync."""
        return f"{self.id}-b"

    def find_point(self, id_: str) -> RecoveryPoint | None:
        """The recovery point, or the side branch, of that id."""
        return next((p for p in bootable(self.ports) if p.id == id_), None)

    def sync(self, id_: str, known_level: Level | None) -> RecoveryPoint:
        """Makes the point `id_` by a sync, unless the destination has it already."""
        made = self.find_point(id_)
        if made is None:
            self.ports.hold(self.holding)
            self.journal.write("intent", step=f"sync {id_}", data={})
            try:
                made = self.ports.sync(id_, known_level, self.journal.check_epoch)
            except VReplicaError as error:
                if not isinstance(error, FailoverTakenOver):
                    self._write_result(f"sync {id_}", f"failed: {error}")
                raise
            self._write_result(f"sync {id_}", made.level.value)
        return made

    def wait_until(self, done: Callable[[], bool], seconds: float, text: str) -> bool:
        """Polls until `done`, and reports the time that is left. False: the time is over."""
        end, pause_s = self.clock() + seconds, FIRST_POLL_S
        while not done():
            self.journal.check_epoch()
            left_s = end - self.clock()
            if left_s <= 0:
                return False
            self.report(f"{text}: {left_s:.0f} s left")
            self.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, POLL_S)
        return True

    def wait_once(self, text: str) -> None:
        """Waits for one poll, before another look at something that has no time limit."""
        self.journal.check_epoch()
        self.report(text)
        self.sleep(POLL_S)


FailoverStep = Callable[[StepContext], StepResult]
"""Takes a failover out of one state. It looks first whether its work is done already, so that a
repeat after a crash changes nothing."""
