"""Begins, resumes, undoes and commits the failover or failback of a job.

Each function runs the state machine (machine/runner.py) on the job's two vCenters, as far as it
goes, and returns where the failover stands then. A step that fails raises its error; the failover
stays in the state that it had reached, to be resumed or undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from vreplica.failover import history
from vreplica.failover.begin_alone import begin_alone
from vreplica.failover.failback import (
    FailbackPlan,
    FailbackPorts,
    plan_failback,
    say_who_has_replica,
)
from vreplica.failover.machine import runner
from vreplica.failover.machine.choices import FailoverChoices, UndoChoices
from vreplica.failover.machine.context import Reporter, no_report
from vreplica.failover.machine.errors import NoFailover, NotPossibleNow
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.point_choice import NEWEST, PointChoice
from vreplica.failover.machine.record import Outcome, outcome_of
from vreplica.failover.machine.states import ENDED, FailoverState
from vreplica.failover.machine.steps.boot_point import check_can_boot
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.sync.events import Listener, ignore
from vreplica.sync.job import Job
from vreplica.sync.job_dir import failovers_dir

DEFAULT_CHOICES: Final = FailoverChoices()


def fail_over(
    job: Job,
    choices: FailoverChoices = DEFAULT_CHOICES,
    report: Reporter = no_report,
    on_event: Listener = ignore,
    *,
    id_: str | None = None,
    goal: FailoverState | None = None,
    of_group: str | None = None,
) -> Outcome:
    """Begins a failover and goes as far as it can, or to the state `goal`.

    `id_`: the id of the new failover; a group gives its members its own. `of_group`: the group that
    it is begun for. Raises as `check_free`.
    """
    choices = with_preference(job, choices)
    history.check_free(job)
    folder = failovers_dir(job) / (id_ or history.new_failover_id())
    with VSpherePorts(job, folder.name, on_event) as ports:
        alone = _alone(job, history.check_free)
        more = _of_group(of_group)
        return runner.begin_failover(folder, ports, choices, report, goal, more=more, alone=alone)


def fail_back(
    job: Job,
    choices: FailoverChoices = DEFAULT_CHOICES,
    report: Reporter = no_report,
    on_event: Listener = ignore,
    *,
    new_vm: str | None = None,
    id_: str | None = None,
    goal: FailoverState | None = None,
    of_group: str | None = None,
) -> Outcome:
    """Begins a failback to the original VM: only what differs is copied.

    `new_vm`: the datastore for a new VM, where the original is lost. `id_`, `goal`: as for
    `begin`. Raises as `plan_failback`.
    """
    choices = with_preference(job, choices)
    plan = plan_failback(job, new_vm)
    folder = failovers_dir(job) / (id_ or history.new_failback_id())
    with FailbackPorts(job, plan, folder.name, on_event) as ports:
        alone = _alone(job, history.check_none_under_way)
        return runner.begin_failover(
            folder,
            ports,
            choices,
            report,
            goal,
            more={**plan.to_dict(), **_of_group(of_group)},
            alone=alone,
        )


def _of_group(label: str | None) -> dict[str, str]:
    """For a member's journal: on another machine it tells which failovers belong together."""
    return {"of_group": label} if label is not None else {}


def check_begin(job: Job, choices: FailoverChoices) -> None:
    """Refuses a failover as its begin would. Changes nothing.

    Raises BootRefused, ReplicaIsOn, ReplicaTouched.
    """
    with VSpherePorts(job, "check", ignore) as ports:
        check_can_boot(ports, with_preference(job, choices))


def with_preference(job: Job, choices: FailoverChoices) -> FailoverChoices:
    """The choices, with the point that the job prefers where they name none."""
    return replace(choices, boot=choices.boot.or_prefer(job.prefer))


@contextmanager
def _alone(job: Job, check: Callable[[Job], None]) -> Iterator[None]:
    """Lets one process at a time begin: the second one finds the journal of the first."""
    with begin_alone(job):
        check(job)
        yield


def resume(
    job: Job,
    report: Reporter = no_report,
    on_event: Listener = ignore,
    *,
    source_lost: bool = False,
    boot: PointChoice = NEWEST,
) -> Outcome:
    """Continues the failover that stopped. `source_lost`: its source is lost for good since.

    `boot`: another choice of the point to boot. Raises NotPossibleNow where it has ended.
    """
    check_has_not_ended(outcome_of(_current(job)))
    call = partial(runner.resume_failover, source_lost=source_lost, boot=boot)
    return _on_current(call, job, report, on_event)


def check_has_not_ended(outcome: Outcome) -> None:
    """Raises NotPossibleNow for a failover that has ended: there is nothing to resume."""
    if outcome.state in ENDED:
        state = outcome.state.value
        raise NotPossibleNow(failover=outcome.id, asked="to resume it", state=state)


def undo(
    job: Job,
    report: Reporter = no_report,
    on_event: Listener = ignore,
    choices: UndoChoices = runner.DEFAULT_UNDO,
) -> Outcome:
    """Puts both sides back. Raises NotPossibleNow, UndoRefused."""
    return _on_current(partial(runner.undo_failover, choices=choices), job, report, on_event)


def commit(job: Job, report: Reporter = no_report, on_event: Listener = ignore) -> Outcome:
    """Makes the failover permanent. Raises NotPossibleNow."""
    return _on_current(runner.commit_failover, job, report, on_event)


def _current(job: Job) -> Path:
    """The folder of the job's failover. Raises NoFailover.

    Raises ReplicaInFailover where a failover has the replica that this machine does not know.
    """
    try:
        folder = history.current(job)
    except NoFailover:
        say_who_has_replica(job)
        raise
    if outcome_of(folder).state in ENDED:
        say_who_has_replica(job)
    return folder


def _on_current(
    call: Callable[[Path, VSpherePorts, Reporter], Outcome],
    job: Job,
    report: Reporter,
    on_event: Listener,
) -> Outcome:
    folder = _current(job)
    with ports_of(job, folder, on_event) as ports:
        return call(folder, ports, report)


def ports_of(job: Job, folder: Path, on_event: Listener) -> VSpherePorts:
    """The ports of an existing failover or failback: source and replica in its direction."""
    entries = load(folder)
    plan = FailbackPlan.of_journal(entries[0].data) if entries else None
    if plan is not None:
        return FailbackPorts(job, plan, folder.name, on_event)
    return VSpherePorts(job, folder.name, on_event)
