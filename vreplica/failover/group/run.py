"""Runs the failover or failback of a group: the failovers of its members, in their order.

Each member has a failover of its own under the group's id (report.py). It is resumed, undone and
committed by the rules of a single job. A failback has the same passes and the same order: which
member needs which does not depend on the site.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Final

from vreplica.failover import history, operations
from vreplica.failover.failback import plan_failback
from vreplica.failover.group.report import GroupOutcome, folder_of, folders, member_folder, show
from vreplica.failover.machine import runner
from vreplica.failover.machine.choices import FailoverChoices, FinalSync, OnError, UndoChoices
from vreplica.failover.machine.context import Reporter
from vreplica.failover.machine.errors import (
    FailoverUnderWay,
    GroupNotRunning,
    Interrupted,
    MemberGivenUp,
    MemberSilent,
    NothingToFailBack,
    NotPossibleNow,
)
from vreplica.failover.machine.group_order import Group, Pass
from vreplica.failover.machine.journal import Journal, load, next_number
from vreplica.failover.machine.record import Outcome, outcome_of
from vreplica.failover.machine.states import ENDED, FailoverState, at_or_past
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.files import make_private_folder
from vreplica.sync.events import Listener, ReplicationEvent, Warn, ignore
from vreplica.sync.job import Job
from vreplica.sync.job_dir import in_state_dir

Jobs = Mapping[str, Job]

INSURE: Final = "insure"
BRING_DOWN: Final = "bring down"
START: Final = "start"
"""Names of the passes in the group's journal."""

CAN_COMMIT: Final = (FailoverState.RUNNING, FailoverState.KEEPING, FailoverState.COMMITTING)
"""States in which a member's failover can be committed."""


def fail_over(
    state_dir: Path,
    group: Group,
    jobs: Jobs,
    choices: FailoverChoices,
    report: Reporter,
    *,
    id_: str | None = None,
) -> GroupOutcome:
    """Fails all members over and goes as far as it can. The members' errors are in the outcome.

    Raises, before anything is done, FailoverUnderWay, and FailedOverAlready where a member's
    replica is in service.
    """
    _none_under_way(state_dir, group)
    for member in group.members:
        history.check_free(jobs[member.name])
    for member in group.members if group.on_error is OnError.STOP else ():
        boot = choices.boot.of_member(member.name)
        operations.check_begin(jobs[member.name], replace(choices, boot=boot))
    id_ = id_ or history.new_failover_id()
    return _begin(state_dir, group, jobs, choices, report, id_=id_, back=False)


def fail_back(
    state_dir: Path,
    group: Group,
    jobs: Jobs,
    choices: FailoverChoices,
    report: Reporter,
    *,
    id_: str | None = None,
) -> GroupOutcome:
    """Fails the members back whose replicas are in service, and goes as far as it can.

    Raises, before anything is done, FailoverUnderWay, NothingToFailBack, and what `plan_failback`
    raises for a member.
    """
    _none_under_way(state_dir, group)
    group = members_in_service(group, jobs)
    for member in group.members:
        plan_failback(jobs[member.name])
    id_ = id_ or history.new_failback_id()
    return _begin(state_dir, group, jobs, choices, report, id_=id_, back=True)


def members_in_service(group: Group, jobs: Jobs) -> Group:
    """The group of the members whose replicas are in service. Raises NothingToFailBack."""
    there = {m.name for m in group.members if history.failed_over(jobs[m.name]) is not None}
    if not there:
        why = "no member's replica is in service"
        raise NothingToFailBack(job=group.label, why=why)
    return group.only(there)


def _none_under_way(state_dir: Path, group: Group) -> None:
    for folder in folders(state_dir, group.name):
        before = show(folder)
        if not before.ended:
            name = group.label
            raise FailoverUnderWay(job=name, failover=before.id, state=before.state)


def _begin(
    state_dir: Path,
    group: Group,
    jobs: Jobs,
    choices: FailoverChoices,
    report: Reporter,
    *,
    id_: str,
    back: bool,
) -> GroupOutcome:
    folder = folder_of(state_dir, group.name, id_)
    with in_state_dir():
        make_private_folder(folder.parent)
    data = {"choices": choices.to_dict(), "group": group.to_dict(), "back": back}
    data |= next_number(folder.parent)
    with _GroupRun(Journal.begin(folder, data), group, jobs, report) as run:
        run.forwards()
    return show(folder)


def resume(
    folder: Path, jobs: Jobs, report: Reporter, on_error: OnError | None = None
) -> GroupOutcome:
    """Continues a group's failover that stopped. The process that ran it can do nothing more.

    Raises NotPossibleNow where it has ended.
    """
    if (found := show(folder)).ended:
        raise NotPossibleNow(failover=found.id, asked="to resume it", state=found.state)
    with _taken_over(folder, jobs, report, on_error) as run:
        run.forwards()
    return show(folder)


def undo(
    folder: Path, jobs: Jobs, report: Reporter, choices: UndoChoices = runner.DEFAULT_UNDO
) -> GroupOutcome:
    """Puts all members back, those that need others first. An error does not stop the others.

    Raises UndoRefused, before any member is touched, where the source of one may not be able to
    run: members that need each other stay together.
    """
    for member in show(folder).group.members:
        own = member_folder(folder, member.name)
        if load(own):
            with operations.ports_of(jobs[member.name], own, ignore) as ports:
                runner.check_undo(own, ports, choices)
    with _taken_over(folder, jobs, report, OnError.CONTINUE) as run:
        run.backwards("undo", partial(run.undo, choices=choices))
    return show(folder)


def commit(folder: Path, jobs: Jobs, report: Reporter) -> GroupOutcome:
    """Makes the failover permanent, members that need others first.

    Raises GroupNotRunning while a member is on its way. Members that were given up stay so.
    """
    on_its_way = {
        m.job: str(m.state)
        for m in show(folder).members
        if m.state is not None and m.state not in (*ENDED, *CAN_COMMIT)
    }
    if on_its_way:
        raise GroupNotRunning(group=folder.parent.name, members=on_its_way)
    with _taken_over(folder, jobs, report, OnError.STOP) as run:
        run.backwards("commit", run.commit)
    return show(folder)


def _taken_over(folder: Path, jobs: Jobs, report: Reporter, on_error: OnError | None) -> _GroupRun:
    journal = Journal.take_over(folder)
    group = Group.from_dict(journal.choices["group"])
    if on_error is not None:
        group = replace(group, on_error=on_error)
    return _GroupRun(journal, group, jobs, report)


class _GroupRun:
    """Runs a group's failover in this process. A context manager: closes the journal."""

    def __init__(self, journal: Journal, group: Group, jobs: Jobs, report: Reporter) -> None:
        self._journal, self._group, self._jobs, self._report = journal, group, jobs, report
        self._choices = FailoverChoices.from_dict(journal.choices["choices"])
        self._begin = operations.fail_back if journal.choices.get("back") else operations.fail_over
        self._pass: Pass | None = None
        self._lost: dict[str, str] = {}
        self._lock = Lock()

    def __enter__(self) -> _GroupRun:
        return self

    def __exit__(self, *exc: object) -> None:
        self._journal.close()

    def forwards(self) -> None:
        """Runs the three passes. Stops after a pass in which a member failed, as the group says."""
        group = self._group
        asks_first = self._choices.final_sync is FinalSync.YES
        # Without a final sync, the first effect on a source is its power-off.
        insured = FailoverState.INSURED if asks_first else FailoverState.DISABLED
        for name, after, goal, needs in (
            (INSURE, group.apart, insured, False),
            (BRING_DOWN, group.backwards, FailoverState.SYNCED, False),
            (START, group.forwards, FailoverState.RUNNING, True),
        ):
            delays = {m.name: m.delay_s for m in group.members} if name == START else {}
            self._run_pass(name, after, self._towards(goal), needs=needs, delays=delays)
            if self._lost and group.on_error is OnError.STOP:
                return

    def backwards(self, name: str, act: Callable[[str], Outcome | None]) -> None:
        self._run_pass(name, self._group.backwards, act, needs=False, delays={})

    # -- a member's turn --------------------------------------------------------------------

    def _towards(self, goal: FailoverState) -> Callable[[str], Outcome | None]:
        def act(name: str) -> Outcome | None:
            folder = self._folder(name)
            if not load(folder):
                job, report, listener = self._jobs[name], self._reporter(name), self._listener(name)
                boot = self._choices.boot.of_member(name)
                choices = replace(self._choices, boot=boot)
                group = self._group.label
                return self._begin(
                    job, choices, report, listener, id_=folder.name, goal=goal, of_group=group
                )
            outcome = outcome_of(folder)
            if not at_or_past(outcome.state, goal):
                return self._resume(name, goal)
            if outcome.state is FailoverState.RUNNING and outcome.facts.get("answered") is False:
                with self._ports(name) as ports:
                    if ports.replica_answers():
                        return replace(outcome, facts={**outcome.facts, "answered": True})
            return outcome

        return act

    def undo(self, name: str, choices: UndoChoices) -> Outcome | None:
        folder = self._folder(name)
        if not load(folder):
            return None
        state = outcome_of(folder).state
        if state in (FailoverState.ABORTED, FailoverState.UNDONE):
            return None
        with self._ports(name) as ports:
            return runner.undo_failover(folder, ports, self._reporter(name), choices)

    def commit(self, name: str) -> Outcome | None:
        folder = self._folder(name)
        if not load(folder) or outcome_of(folder).state not in CAN_COMMIT:
            return None
        with self._ports(name) as ports:
            return runner.commit_failover(folder, ports, self._reporter(name))

    def _resume(self, name: str, goal: FailoverState) -> Outcome:
        with self._ports(name) as ports:
            return runner.resume_failover(self._folder(name), ports, self._reporter(name), goal)

    def _folder(self, name: str) -> Path:
        return member_folder(self._journal.folder, name)

    def _ports(self, name: str) -> VSpherePorts:
        return operations.ports_of(self._jobs[name], self._folder(name), self._listener(name))

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
                self._report(f"{member}: left out: {reason}")
        self._lost.update({m: str(e) for m, e in self._pass.failed.items()})

    def _turn(self, name: str, member: str, act: Callable[[str], Outcome | None]) -> None:
        step, data = f"{name} {member}", {"job": member, "pass": name}
        self._write("intent", step, data)
        try:
            outcome = act(member)
            self._check(name, member, outcome)
        except Exception as error:
            self._write("call", step, {**data, "trouble": str(error), "kind": type(error).__name__})
            self._report(f"{member}: {error}")
            raise
        state = outcome.state.value if outcome is not None else "nothing to do"
        self._write("call", step, {**data, "state": state})

    def _check(self, name: str, member: str, outcome: Outcome | None) -> None:
        """Raises MemberGivenUp and MemberSilent for an outcome on which others cannot build."""
        if outcome is None or name in ("undo", "commit"):
            return
        if outcome.state in (FailoverState.ABORTED, FailoverState.UNDONE, FailoverState.UNDOING):
            reason = str(outcome.facts.get("reason", outcome.state))
            raise MemberGivenUp(member=member, reason=reason)
        wanted = self._group[member].heartbeat
        if (
            outcome.state is FailoverState.RUNNING
            and wanted
            and outcome.facts.get("answered") is False
        ):
            raise MemberSilent(member=member)

    def _write(self, kind: str, step: str, data: dict[str, Any]) -> None:
        with self._lock:
            self._journal.write(kind, step=step, data=data)

    def _reporter(self, member: str) -> Reporter:
        def report(text: str) -> None:
            if self._pass is not None and self._pass.interrupted:
                raise Interrupted
            self._report(f"{member}: {text}")

        return report

    def _listener(self, member: str) -> Listener:
        def listen(event: ReplicationEvent) -> None:
            if isinstance(event, Warn):
                self._report(f"{member}: warning: {event.text}")

        return listen
