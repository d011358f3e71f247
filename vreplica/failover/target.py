"""The target of a failover: a job, or a group of jobs, with every verb that applies to it.

    FailoverTarget (protocol)
      |- JobTarget      one job, from this process
      |- GroupTarget    the jobs of a group in their order, from this process
      `- by the service: one job; a mover does the work (in the command line, needs the catalog)

A caller chooses the target once and then uses the verbs alike. Each verb returns a value that can
be written as JSON (`to_dict`); its class says whether it is of a job or of a group:

    verb                    job                     group
    preview, preview_back   Preview                 GroupPreview
    preview_undo            UndoPreview             GroupUndoPreview
    begin ... commit        Outcome                 GroupOutcome
    adopt                   Adopted                 GroupAdopted
    show                    Record                  GroupOutcome
    history                 JobHistory              GroupHistory
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from vreplica.failover import adopt as adopting
from vreplica.failover import history, operations
from vreplica.failover.adopt import Adoptable, Adopted, KnownStates
from vreplica.failover.crosscheck import Comparison, compare
from vreplica.failover.group import report as group_report
from vreplica.failover.group import run as group_run
from vreplica.failover.group.adopt import GroupAdopted, adopt_members, read_adoptable_members
from vreplica.failover.group.preview import GroupPreview, preview_group, preview_group_back
from vreplica.failover.group.report import GroupOutcome
from vreplica.failover.machine.choices import FailoverChoices, OnError, UndoChoices
from vreplica.failover.machine.context import Reporter
from vreplica.failover.machine.errors import OptionNotForTarget
from vreplica.failover.machine.group_order import Group
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.point_choice import NEWEST, PointChoice
from vreplica.failover.machine.record import Outcome, Record, record_of
from vreplica.failover.machine.runner import DEFAULT_UNDO
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.preview import Preview, preview, preview_back
from vreplica.failover.undo_preview import (
    GroupUndoPreview,
    UndoPreview,
    preview_group_undo,
    preview_undo,
)
from vreplica.sync.events import Listener, ignore
from vreplica.sync.job import Job

# -- values ---------------------------------------------------------------------------------


class FailoverPreview(Protocol):
    """The state of both sides before the operator decides: of one job, or of each member."""

    def to_dict(self, max_downtime_s: float | None = None) -> dict[str, Any]:
        """As JSON. `max_downtime_s`: the limit that the estimates of passes are made for."""


class FailoverOutcome(Protocol):
    """The state of a failover after a verb has gone as far as it can."""

    @property
    def id(self) -> str:
        """`fo-...` of a failover, `fb-...` of a failback."""

    @property
    def state(self) -> FailoverState | str:
        """`str()` gives its name."""

    @property
    def committed(self) -> bool:
        """The failover is permanent."""

    @property
    def given_up(self) -> bool:
        """The failover was given up by its policy or by an undo: no replica was started."""

    @property
    def incomplete(self) -> bool:
        """A part of it stopped and needs the operator: a member of a group, never a job.

        A job's failover that stops raises the error instead.
        """

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""


class AdoptedTarget(Protocol):
    """The outcome of `adopt`."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""


class FailoverReport(Protocol):
    """Everything that a failover did, with times."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""


@dataclass(frozen=True, slots=True)
class JobHistory:
    """A job's failovers and failbacks, oldest first."""

    job: str
    failovers: tuple[Outcome, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"job": self.job, "failovers": [each.to_dict() for each in self.failovers]}


@dataclass(frozen=True, slots=True)
class GroupHistory:
    """A group's failovers and failbacks, oldest first."""

    group: str
    failovers: tuple[GroupOutcome, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"group": self.group, "failovers": [each.to_dict() for each in self.failovers]}


# -- the protocol ---------------------------------------------------------------------------


class FailoverTarget(Protocol):
    """A job or a group, with the verbs of failovers that this executor can carry out.

    `report` gets one line of text for each step, for a person. It may raise to stop the failover
    between two steps. `on_event` gets the progress of each sync; a group reports the warnings
    among them as lines and drops the rest. Every verb raises VReplicaError. An option that the
    target does not have raises OptionNotForTarget before anything is read.
    """

    @property
    def name(self) -> str:
        """As the operator types it: `web01`, or `group:shop`."""

    def preview(self, *, source_lost: bool = False, boot: PointChoice = NEWEST) -> FailoverPreview:
        """Reads both sides and changes nothing. Raises where no failover can begin.

        `boot`: the recovery point to boot where no final sync is made. Raises BootRefused where
        the choice names no point that can boot.
        """

    def preview_back(
        self, *, source_lost: bool = False, boot: PointChoice = NEWEST, new_vm: str | None = None
    ) -> FailoverPreview:
        """As `preview`, for a failback. `new_vm`: as for `begin_back`."""

    def begin(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        commit: bool = False,
        id_: str | None = None,
    ) -> FailoverOutcome:
        """Begins a failover and goes as far as it can.

        `commit`: commit it as soon as the replica answers. `id_`: the id of the new failover
        (`history.new_failover_id`), for a caller that has to know it before; None: a new one.
        """

    def begin_back(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        commit: bool = False,
        new_vm: str | None = None,
    ) -> FailoverOutcome:
        """Begins a failback and goes as far as it can.

        `new_vm`: the datastore for a new VM, where the original is lost for good.
        """

    def resume(
        self,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        source_lost: bool = False,
        boot: PointChoice = NEWEST,
    ) -> FailoverOutcome:
        """Continues the failover that stopped. Takes it over: a process that ran it before can do
        nothing more. `source_lost`: continue without the source. `boot`: boot another point than
        was chosen at first."""

    def preview_undo(self, choices: UndoChoices = DEFAULT_UNDO) -> UndoPreview | GroupUndoPreview:
        """Reads what an undo takes out of service, and how much that has written. Changes nothing.

        Raises NoFailover, and what an undo would be refused with.
        """

    def undo(
        self,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        choices: UndoChoices = DEFAULT_UNDO,
    ) -> FailoverOutcome:
        """Puts both sides back. Raises NotPossibleNow after a commit, UndoRefused."""

    def commit(self, report: Reporter, on_event: Listener = ignore) -> FailoverOutcome:
        """Makes the failover permanent. Raises NotPossibleNow before the replica runs."""

    def adoptable(self, known: KnownStates) -> tuple[Adoptable, ...]:
        """Reads the failovers that `adopt` would continue here, for each job. Changes nothing.

        `known`: the failovers as the service's catalog has them; empty where there is none. Raises
        NothingToAdopt.
        """

    def adopt(self, seen: Sequence[Adoptable], report: Reporter) -> AdoptedTarget:
        """Continues on this machine what was seen: the mover that had it can do nothing more.

        Raises AdoptedMeanwhile.
        """

    def unfinished(self) -> FailoverOutcome | None:
        """The failover that has begun and not ended; None: there is none."""

    def show(self) -> FailoverReport:
        """The report of the failover that has not ended, else of the newest. Raises NoFailover."""

    def crosscheck(self) -> Mapping[str, Comparison]:
        """Job -> its record of that failover, compared with vCenter's tasks and events."""

    def history(self) -> JobHistory | GroupHistory:
        """All failovers and failbacks, oldest first."""


# -- from this process ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobTarget:
    """A job, failed over by this process."""

    job: Job

    @property
    def name(self) -> str:
        return self.job.name

    def preview(self, *, source_lost: bool = False, boot: PointChoice = NEWEST) -> Preview:
        self._refuse_members(boot)
        return preview(self.job, source_lost=source_lost, boot=boot)

    def preview_back(
        self, *, source_lost: bool = False, boot: PointChoice = NEWEST, new_vm: str | None = None
    ) -> Preview:
        self._refuse_members(boot)
        return preview_back(self.job, source_lost=source_lost, boot=boot, new_vm=new_vm)

    def begin(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        commit: bool = False,
        id_: str | None = None,
    ) -> Outcome:
        outcome = operations.fail_over(self.job, choices, report, on_event, id_=id_)
        return self._committed(outcome, report, on_event) if commit else outcome

    def begin_back(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        commit: bool = False,
        new_vm: str | None = None,
    ) -> Outcome:
        outcome = operations.fail_back(self.job, choices, report, on_event, new_vm=new_vm)
        return self._committed(outcome, report, on_event) if commit else outcome

    def _committed(self, outcome: Outcome, report: Reporter, on_event: Listener) -> Outcome:
        """Commits it where the replica's guest answered."""
        return self.commit(report, on_event) if outcome.answered else outcome

    def resume(
        self,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        source_lost: bool = False,
        boot: PointChoice = NEWEST,
    ) -> Outcome:
        self._refuse_members(boot)
        return operations.resume(self.job, report, on_event, source_lost=source_lost, boot=boot)

    def preview_undo(self, choices: UndoChoices = DEFAULT_UNDO) -> UndoPreview:
        return preview_undo(self.job, choices)

    def undo(
        self,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        choices: UndoChoices = DEFAULT_UNDO,
    ) -> Outcome:
        return operations.undo(self.job, report, on_event, choices)

    def commit(self, report: Reporter, on_event: Listener = ignore) -> Outcome:
        return operations.commit(self.job, report, on_event)

    def adoptable(self, known: KnownStates) -> tuple[Adoptable, ...]:
        return (adopting.read_adoptable(self.job, known),)

    def adopt(self, seen: Sequence[Adoptable], report: Reporter) -> Adopted:
        (one,) = seen
        return adopting.adopt(self.job, one, report)

    def unfinished(self) -> Outcome | None:
        return history.unfinished(self.job)

    def show(self) -> Record:
        folder = history.current(self.job)
        return record_of(self.job.name, folder.name, load(folder))

    def crosscheck(self) -> dict[str, Comparison]:
        return {self.job.name: compare(self.job, self.show())}

    def _refuse_members(self, boot: PointChoice) -> None:
        if boot.members:
            raise OptionNotForTarget(option="point JOB=ID", target=self.name)

    def history(self) -> JobHistory:
        return JobHistory(self.job.name, tuple(history.outcomes(self.job)))


@dataclass(frozen=True, slots=True)
class GroupTarget:
    """The jobs of a group, failed over by this process in the group's order.

    `jobs`: at least the group's members, by name. `on_error`: replaces the group's own rule;
    None: the rule of the job file, or for `resume` the rule that the failover was begun with.
    """

    group: Group
    jobs: Mapping[str, Job]
    state_dir: Path
    on_error: OnError | None = None

    @property
    def name(self) -> str:
        return self.group.label

    def preview(self, *, source_lost: bool = False, boot: PointChoice = NEWEST) -> GroupPreview:
        self._check_members(boot)
        return preview_group(self.group, self.jobs, source_lost=source_lost, boot=boot)

    def preview_back(
        self, *, source_lost: bool = False, boot: PointChoice = NEWEST, new_vm: str | None = None
    ) -> GroupPreview:
        self._refuse(new_vm=new_vm)
        self._check_members(boot)
        return preview_group_back(self.group, self.jobs, source_lost=source_lost, boot=boot)

    def begin(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        commit: bool = False,
        id_: str | None = None,
    ) -> GroupOutcome:
        self._check_members(choices.boot)
        outcome = group_run.fail_over(
            self.state_dir, self._ruled, self.jobs, choices, report, id_=id_
        )
        return self._committed(outcome, report) if commit else outcome

    def begin_back(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        commit: bool = False,
        new_vm: str | None = None,
    ) -> GroupOutcome:
        self._refuse(new_vm=new_vm)
        self._check_members(choices.boot)
        outcome = group_run.fail_back(self.state_dir, self._ruled, self.jobs, choices, report)
        return self._committed(outcome, report) if commit else outcome

    def _committed(self, outcome: GroupOutcome, report: Reporter) -> GroupOutcome:
        """Commits it where every member runs."""
        return self.commit(report) if outcome.state == FailoverState.RUNNING.value else outcome

    def resume(
        self,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        source_lost: bool = False,
        boot: PointChoice = NEWEST,
    ) -> GroupOutcome:
        self._refuse(source_lost=source_lost or None, point=boot if boot.given else None)
        return group_run.resume(self._folder, self.jobs, report, self.on_error)

    def preview_undo(self, choices: UndoChoices = DEFAULT_UNDO) -> GroupUndoPreview:
        return preview_group_undo(self.state_dir, self.group.name, self.jobs, choices)

    def undo(
        self,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        choices: UndoChoices = DEFAULT_UNDO,
    ) -> GroupOutcome:
        return group_run.undo(self._folder, self.jobs, report, choices)

    def commit(self, report: Reporter, on_event: Listener = ignore) -> GroupOutcome:
        return group_run.commit(self._folder, self.jobs, report)

    def adoptable(self, known: KnownStates) -> tuple[Adoptable, ...]:
        return read_adoptable_members(self.group, self.jobs, known)

    def adopt(self, seen: Sequence[Adoptable], report: Reporter) -> GroupAdopted:
        return adopt_members(self.state_dir, self.group, self.jobs, seen, report)

    def unfinished(self) -> GroupOutcome | None:
        return next((each for each in self.history().failovers if not each.ended), None)

    def show(self) -> GroupOutcome:
        return group_report.show(self._folder)

    def crosscheck(self) -> dict[str, Comparison]:
        """Of each member whose failover was begun."""
        records = (m.record for m in self.show().members if m.record is not None)
        return {record.job: compare(self.jobs[record.job], record) for record in records}

    def history(self) -> GroupHistory:
        folders = group_report.folders(self.state_dir, self.group.name)
        return GroupHistory(self.group.name, tuple(group_report.show(f) for f in folders))

    @property
    def _ruled(self) -> Group:
        return replace(self.group, on_error=self.on_error) if self.on_error else self.group

    @property
    def _folder(self) -> Path:
        return group_report.current(self.state_dir, self.group.name)

    def _check_members(self, boot: PointChoice) -> None:
        """Raises OptionNotForTarget where a point is named for no member of the group."""
        if boot.point is not None:
            raise OptionNotForTarget(option="point", target=f"{self.name} without its job")
        for name in boot.members:
            if name not in self.group:
                raise OptionNotForTarget(option=f"point {name}=ID", target=self.name)

    def _refuse(self, **options: object) -> None:
        """Raises OptionNotForTarget for the first option that was given."""
        for option, value in options.items():
            if value is not None:
                raise OptionNotForTarget(option=option, target=self.name)
