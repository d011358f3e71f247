"""Failovers of groups: the same failovers of the same jobs, in turn, with a journal of their own.

<state_dir>/.groups/<group>/<id>/journal.jsonl      begin {choices, group}, then for each turn
                                                    intent "start web01", call "start web01" {...}
<state_dir>/<job>/failovers/<id>/                   each member's own, under the group's id

So whoever finds the group's journal knows where each member's is, and a member's says how far it
got: nothing has to be kept in step. A member is resumed, undone, committed by the rules of a
single failover.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final

from vreplica.failover import runner
from vreplica.failover.choices import Choices, FinalSync, OnError
from vreplica.failover.errors import (
    FailoverUnderWay,
    GroupNotRunning,
    Interrupted,
    MemberGivenUp,
    MemberSilent,
    NoFailover,
)
from vreplica.failover.group import Group, Pass
from vreplica.failover.journal import Entry, Journal, load
from vreplica.failover.record import Record, record_of
from vreplica.failover.runner import Outcome, Tell
from vreplica.failover.table import ENDED, GIVEN_UP_BY_UNDO, State, at_or_past
from vreplica.jobs import failover
from vreplica.jobs.sides import VSphereSides
from vreplica.points.model import new_id
from vreplica.sync import Job
from vreplica.sync.events import Event, Listener, Warn

Jobs = Mapping[str, Job]

INSURE: Final = "insure"
BRING_DOWN: Final = "bring down"
START: Final = "start"


@dataclass(frozen=True, slots=True)
class MemberReport:
    """`state` is None for a member whose failover was never begun."""

    job: str
    state: State | None
    record: Record | None
    trouble: str | None
    """What its last turn failed with, or why it had none."""


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """Where a group's failover stands, with the record of each member."""

    id: str
    group: Group
    choices: Choices
    entries: tuple[Entry, ...]
    members: tuple[MemberReport, ...]

    @property
    def state(self) -> str:
        """running | committed | undone | aborted, when all say so; stopped: they do not."""
        begun = {m.state for m in self.members if m.state is not None}
        if not begun or begun <= {State.ABORTED}:
            return "aborted"
        if begun <= {State.ABORTED, State.UNDONE}:
            return "undone"
        if self.troubles or len(begun) > 1 or None in {m.state for m in self.members}:
            return "stopped"
        (only,) = begun
        return only.value if only in (State.RUNNING, State.COMMITTED) else "stopped"

    @property
    def troubles(self) -> dict[str, str]:
        return {m.job: m.trouble for m in self.members if m.trouble is not None}

    @property
    def ended(self) -> bool:
        return all(m.state is None or m.state in ENDED for m in self.members)

    def to_dict(self) -> dict[str, Any]:
        return {
            "failover": self.id,
            "group": self.group.to_dict(),
            "state": self.state,
            "choices": self.choices.to_dict(),
            "began": self.entries[0].time.isoformat() if self.entries else None,
            "last": self.entries[-1].time.isoformat() if self.entries else None,
            "members": [
                {
                    "job": m.job,
                    "state": m.state.value if m.state is not None else None,
                    "trouble": m.trouble,
                    **({"record": m.record.to_dict()} if m.record is not None else {}),
                }
                for m in self.members
            ],
        }


def folders(state_dir: Path, group: str) -> list[Path]:
    """The group's failovers, oldest first."""
    root = state_dir / ".groups" / group
    return sorted(p for p in root.iterdir() if p.is_dir() and load(p)) if root.is_dir() else []


def current(state_dir: Path, jobs: Jobs, group: str) -> Path:
    """The group's failover that has not ended, else the newest. Raises NoFailover."""
    found = folders(state_dir, group)
    if not found:
        raise NoFailover(job=f"group:{group}")
    return next((f for f in found if not show(f, jobs).ended), found[-1])


def show(folder: Path, jobs: Jobs) -> GroupOutcome:
    """Where it stands; takes nothing over. `jobs`: the members' jobs as they are configured."""
    entries = load(folder)
    group = Group.from_dict(entries[0].data["group"])
    troubles: dict[str, str | None] = {}
    for entry in entries:
        if entry.kind in ("call", "note"):
            troubles[entry.data["job"]] = entry.data.get("trouble")
    members = []
    for member in group.members:
        own = _folder(jobs[member.name], folder.name)
        journal = load(own)
        members.append(
            MemberReport(
                job=member.name,
                state=runner.show(own).state if journal else None,
                record=record_of(member.name, folder.name, journal) if journal else None,
                trouble=troubles.get(member.name),
            )
        )
    choices = Choices.from_dict(entries[0].data["choices"])
    return GroupOutcome(folder.name, group, choices, tuple(entries), tuple(members))


def begin(state_dir: Path, group: Group, jobs: Jobs, choices: Choices, tell: Tell) -> GroupOutcome:
    """Fail all members over, as far as it goes. Raises FailoverUnderWay before anything is done.

    What members fail with is in the outcome.
    """
    for found in folders(state_dir, group.name):
        before = show(found, jobs)
        if not before.ended or before.state == "committed":
            name = f"group:{group.name}"
            raise FailoverUnderWay(job=name, failover=before.id, state=before.state)
    for member in group.members:
        failover.check_free(jobs[member.name])
    folder = state_dir / ".groups" / group.name / f"fo-{new_id()}"
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = {"choices": choices.to_dict(), "group": group.to_dict()}
    with _Run(Journal.begin(folder, data), group, jobs, choices, tell) as run:
        run.forwards()
    return show(folder, jobs)


def resume(folder: Path, jobs: Jobs, tell: Tell, on_error: OnError | None = None) -> GroupOutcome:
    """Go on with a group's failover that stopped; whoever ran it before does nothing more."""
    with _taken_over(folder, jobs, tell, on_error) as run:
        run.forwards()
    return show(folder, jobs)


def undo(folder: Path, jobs: Jobs, tell: Tell) -> GroupOutcome:
    """Put all members back, who needs others first. One that fails does not keep the others."""
    with _taken_over(folder, jobs, tell, OnError.CONTINUE) as run:
        run.backwards("undo", run.undo)
    return show(folder, jobs)


def commit(folder: Path, jobs: Jobs, tell: Tell) -> GroupOutcome:
    """Make it permanent, who needs others first.

    Raises GroupNotRunning while any member is on its way; those that were given up stay so.
    """
    on_its_way = {
        m.job: str(m.state)
        for m in show(folder, jobs).members
        if m.state is not None and m.state not in (*ENDED, State.RUNNING, State.COMMITTING)
    }
    if on_its_way:
        raise GroupNotRunning(group=folder.parent.name, members=on_its_way)
    with _taken_over(folder, jobs, tell, OnError.STOP) as run:
        run.backwards("commit", run.commit)
    return show(folder, jobs)


def _taken_over(folder: Path, jobs: Jobs, tell: Tell, on_error: OnError | None) -> _Run:
    journal = Journal.take_over(folder)
    group = Group.from_dict(journal.choices["group"])
    if on_error is not None:
        group = replace(group, on_error=on_error)
    return _Run(journal, group, jobs, Choices.from_dict(journal.choices["choices"]), tell)


def _folder(job: Job, id_: str) -> Path:
    return job.job_dir / "failovers" / id_


class _Run:
    """One process at work on a group's failover. A context manager: closes the journal."""

    def __init__(
        self, journal: Journal, group: Group, jobs: Jobs, choices: Choices, tell: Tell
    ) -> None:
        self._journal, self._group, self._jobs = journal, group, jobs
        self._choices, self._tell = choices, tell
        self._pass: Pass | None = None
        self._lost: dict[str, str] = {}
        self._lock = Lock()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *exc: object) -> None:
        self._journal.close()

    def forwards(self) -> None:
        """Insure, bring down, start; no further than the first pass that an error stops."""
        group = self._group
        asks_first = self._choices.final_sync is FinalSync.YES
        # Without a final sync the first thing that is done to a source is its power-off.
        insured = State.INSURED if asks_first else State.DISABLED
        for name, after, goal, needs in (
            (INSURE, group.apart, insured, False),
            (BRING_DOWN, group.backwards, State.SYNCED, False),
            (START, group.forwards, State.RUNNING, True),
        ):
            delays = {m.name: m.delay_s for m in group.members} if name == START else {}
            self._run_pass(name, after, self._towards(goal), needs=needs, delays=delays)
            if self._lost and group.on_error is OnError.STOP:
                return

    def backwards(self, name: str, act: Callable[[str], Outcome | None]) -> None:
        self._run_pass(name, self._group.backwards, act, needs=False, delays={})

    # -- a member's turn --------------------------------------------------------------------

    def _towards(self, goal: State) -> Callable[[str], Outcome | None]:
        def act(name: str) -> Outcome | None:
            job, tell = self._jobs[name], self._teller(name)
            folder = _folder(job, self._journal.folder.name)
            if not load(folder):
                return failover.begin(
                    job,
                    self._choices,
                    tell,
                    self._listener(name),
                    id_=folder.name,
                    goal=goal,
                )
            outcome = runner.show(folder)
            if not at_or_past(outcome.state, goal):
                return self._resume(name, goal)
            if outcome.state is State.RUNNING and outcome.facts.get("answered") is False:
                with VSphereSides(job, folder.name, self._listener(name)) as sides:
                    if sides.replica_answers():
                        return replace(outcome, facts={**outcome.facts, "answered": True})
            return outcome

        return act

    def undo(self, name: str) -> Outcome | None:
        folder = _folder(self._jobs[name], self._journal.folder.name)
        if not load(folder):
            return None
        state = runner.show(folder).state
        if state in (State.ABORTED, State.UNDONE):
            return None
        if not at_or_past(state, State.SOURCE_OFF) and self._was_asked(folder, state):
            # The guest was asked to shut down: back leads through a source that is off.
            outcome = self._resume(name, State.SOURCE_OFF)
            if outcome.state in ENDED:
                return outcome
        with VSphereSides(self._jobs[name], folder.name, self._listener(name)) as sides:
            return runner.undo(folder, sides, self._teller(name))

    def commit(self, name: str) -> Outcome | None:
        folder = _folder(self._jobs[name], self._journal.folder.name)
        if not load(folder) or runner.show(folder).state not in (State.RUNNING, State.COMMITTING):
            return None
        with VSphereSides(self._jobs[name], folder.name, self._listener(name)) as sides:
            return runner.commit(folder, sides, self._teller(name))

    def _resume(self, name: str, goal: State) -> Outcome:
        job = self._jobs[name]
        folder = _folder(job, self._journal.folder.name)
        with VSphereSides(job, folder.name, self._listener(name)) as sides:
            return runner.resume(folder, sides, self._teller(name), goal)

    @staticmethod
    def _was_asked(folder: Path, state: State) -> bool:
        return state not in GIVEN_UP_BY_UNDO or runner.was_asked(load(folder))

    # -- a pass -----------------------------------------------------------------------------

    def _run_pass(
        self,
        name: str,
        after: Mapping[str, tuple[str, ...]],
        act: Callable[[str], Outcome | None],
        *,
        needs: bool,
        delays: Mapping[str, float],
    ) -> None:
        def work(member: str) -> None:
            self._turn(name, member, act)

        still = {
            m: tuple(o for o in others if needs or o not in self._lost)
            for m, others in after.items()
            if m not in self._lost
        }
        go_on = self._group.on_error is OnError.CONTINUE
        self._pass = Pass(still, work, self._group.parallel, go_on, needs, delays)
        if needs:
            self._pass.left_out.update(self._lost)
        self._pass.run()
        for member, reason in self._pass.left_out.items():
            if member not in self._lost:
                data = {"job": member, "pass": name, "trouble": f"left out: {reason}"}
                self._write("note", f"{name} {member}", data)
                self._lost[member] = reason
                self._tell(f"{member}: left out: {reason}")
        self._lost.update({m: str(e) for m, e in self._pass.failed.items()})

    def _turn(self, name: str, member: str, act: Callable[[str], Outcome | None]) -> None:
        step, data = f"{name} {member}", {"job": member, "pass": name}
        self._write("intent", step, data)
        try:
            outcome = act(member)
            self._check(name, member, outcome)
        except Exception as error:
            self._write("call", step, {**data, "trouble": str(error), "kind": type(error).__name__})
            self._tell(f"{member}: {error}")
            raise
        state = outcome.state.value if outcome is not None else "nothing to do"
        self._write("call", step, {**data, "state": state})

    def _check(self, name: str, member: str, outcome: Outcome | None) -> None:
        """A failover that did what it was told can still be none that a group goes on with."""
        if outcome is None or name in ("undo", "commit"):
            return
        if outcome.state in (State.ABORTED, State.UNDONE, State.UNDOING):
            reason = str(outcome.facts.get("reason", outcome.state))
            raise MemberGivenUp(member=member, reason=reason)
        wanted = self._group[member].heartbeat
        if outcome.state is State.RUNNING and wanted and outcome.facts.get("answered") is False:
            raise MemberSilent(member=member)

    def _write(self, kind: str, step: str, data: dict[str, Any]) -> None:
        with self._lock:
            self._journal.write(kind, step=step, data=data)

    def _teller(self, member: str) -> Tell:
        def tell(text: str) -> None:
            if self._pass is not None and self._pass.interrupted:
                raise Interrupted
            self._tell(f"{member}: {text}")

        return tell

    def _listener(self, member: str) -> Listener:
        def listen(event: Event) -> None:
            if isinstance(event, Warn):
                self._tell(f"{member}: warning: {event.text}")

        return listen
