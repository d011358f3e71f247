"""Executes the failovers that are requested of the service, one event at a time.

    request --take--> FailoverTask --step--> --step--> ... --record_end--> the catalog
                        |            each: lease valid? then one event of the failover's journal
                        `- journal open in one epoch, both sites connected, from the first step on

The journal is the truth (failover/machine/journal.py). A process that starts again continues from
its state, with each effect once. The catalog is a copy; it may be away meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Final

from vreplica.errors import VReplicaError
from vreplica.failover import adopt as adopting
from vreplica.failover import history, operations
from vreplica.failover.group import adopt as group_adopt
from vreplica.failover.group import report as group_report
from vreplica.failover.group import run as group_run
from vreplica.failover.group.report import GroupOutcome
from vreplica.failover.machine import runner
from vreplica.failover.machine.choices import FailoverChoices, UndoChoices
from vreplica.failover.machine.errors import Interrupted, NoFailover, NotPossibleNow
from vreplica.failover.machine.group_order import Group
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.point_choice import PointChoice
from vreplica.failover.machine.record import Outcome, outcome_of
from vreplica.failover.machine.states import ENDED, FailoverState
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.notify.events import OnEvent
from vreplica.service.catalog import failover_requests, jobs, observed, projection
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.engines import CatalogAway
from vreplica.service.catalog.runs import RunTicket
from vreplica.service.lease import Lease
from vreplica.service.run_worker import RunTakenAway
from vreplica.sync.events import ReplicationEvent, Warn
from vreplica.sync.job import Job
from vreplica.sync.job_dir import failovers_dir
from vreplica.sync.recovery_points import points

log = logging.getLogger("vreplica.service")

POLL_S: Final = 0.5
"""Between two looks at a lease that is over, or whether the service has been stopped."""

StepResult = dict[str, Any]
"""{"more": true while a further step follows, "error": the error of the step, where it failed}."""


@dataclass(slots=True)
class FailoverWorker:
    """Executes the failovers of one mover. `jobs` gives a job with its secrets."""

    mover: str
    catalog: Catalog
    lease: Lease
    jobs: Mapping[str, Job]
    on_event: OnEvent
    working: set[str] = field(default_factory=set)
    """The ids of the requests that are executed now."""
    stopping: bool = False

    @contextmanager
    def take(self, request: str) -> Iterator[FailoverTask | None]:
        """Begins a request. None where it is not this mover's any more."""
        found = self.catalog.retry_while_away(self.begin, request)
        if found is None:
            yield None
            return
        self.working.add(request)
        try:
            with ExitStack() as stack:
                is_group = "group" in found[1]
                yield (GroupTask if is_group else FailoverTask)(self, *found, stack)
        finally:
            self.working.discard(request)

    def begin(self, request: str) -> tuple[RunTicket, dict[str, Any]] | None:
        """As `failover_requests.begin`."""
        with self.catalog.transaction() as c:
            return failover_requests.begin(c, request, self.mover, self.catalog.now(c))

    def check_stopping(self) -> None:
        """Raises Interrupted when the service stops."""
        if self.stopping:
            raise Interrupted


@dataclass(slots=True)
class FailoverTask:
    """A request that this process executes."""

    worker: FailoverWorker
    ticket: RunTicket
    request: dict[str, Any]
    stack: ExitStack
    failover: runner.OpenFailover | None = None
    result: dict[str, Any] = field(default_factory=dict)
    """What is recorded beside the failover's state."""

    def step(self) -> StepResult:
        """Executes one event, or none when the service stops. An error is part of the result."""
        try:
            self.wait_for_lease()
            return {"more": self._advance()}
        except Interrupted:
            time.sleep(POLL_S)
            return {"more": True}
        except VReplicaError as error:
            return {"more": False, "error": {"exit_code": error.exit_code, **error.to_dict()}}
        except Exception as error:
            log.exception("failover of job %s", self.ticket.job, extra=self._log_fields())
            return {"more": False, "error": {"message": f"a defect: {error!r}"}}

    def wait_for_lease(self) -> None:
        """Waits while the lease is over: other movers may take this one for dead, and act.

        Raises RunTakenAway, and Interrupted when the service stops.
        """
        worker, lapsed = self.worker, False
        while not worker.lease.valid:
            worker.check_stopping()
            lapsed = True
            time.sleep(POLL_S)
        worker.check_stopping()
        if lapsed and worker.catalog.retry_while_away(self._epoch) != self.ticket.epoch:
            again = worker.catalog.retry_while_away(worker.begin, self.ticket.run)
            if again is None:
                reason = "its lease was over, and something newer was requested"
                raise RunTakenAway(self.ticket.run, self.ticket.job, reason)
            self.ticket = again[0]

    def record_end(self, last: StepResult) -> str:
        """Writes the end to the catalog and reports it. Returns the state of the request."""
        self.stack.close()
        error, outcome = last.get("error"), self._outcome()
        text = str(error["message"]) if error is not None else None
        state = "failed" if error is not None else "done"
        result: dict[str, Any] = {"failover": None, "state": None}
        if outcome is not None:
            result = outcome.to_dict()
        full = {**result, **self.result, "error": error}
        if not self.worker.catalog.retry_while_away(self._write_end, state, full, text):
            return "taken away"
        self.worker.on_event(f"failover {state}", self.ticket.job, _event_data(result, text))
        for job in self._jobs:
            try:
                found = points(job)
                with self.worker.catalog.transaction() as c:
                    projection.write_points(c, job.name, found)
            except Exception:
                # A site that is away: the next run, or `catalog rebuild`, reads the points.
                log.warning("cannot read the points of job %s", job.name, extra=self._log_fields())
        return state

    @property
    def _job(self) -> Job:
        return self.worker.jobs[self.ticket.job]

    @property
    def _jobs(self) -> list[Job]:
        """The jobs that the request is about."""
        names = failover_requests.jobs_of(self.ticket.job, self.request)
        return [self.worker.jobs[name] for name in names]

    def _advance(self) -> bool:
        """Executes one event. False: there is no further one."""
        do = self.request["do"]
        if do == "adopt":
            self._adopt()
            return False
        if do in ("undo", "commit"):
            self._decide(do)
            return False
        if self.failover is None:
            self.failover = self._open(do)
        if self.failover.advance():
            self._write_progress(self.failover.outcome)
            return True
        if self.failover.outcome.answered and self.request.get("commit"):
            self.stack.close()
            self._decide("commit")
        return False

    def _adopt(self) -> None:
        """Adopts what the operator has seen, on this mover. Once more it changes nothing."""
        job = self._job
        known = self.worker.catalog.retry_while_away(self._known_states)
        seen = adopting.read_adoptable(job, known)
        adopting.check_seen(seen, self.request["expects"].get(job.name, {}))
        self.result["adopted"] = adopting.adopt(job, seen, self._report).to_dict()

    def _known_states(self) -> adopting.KnownStates:
        return observed.known_states(self.worker.catalog)

    def _open(self, do: str) -> runner.OpenFailover:
        """Opens the failover's journal, with both sites connected."""
        job, own = self._job, failovers_dir(self._job) / self.ticket.run
        begins = do in failover_requests.ID_PREFIX
        if begins and not load(own):
            choices = FailoverChoices.from_dict(self.request["choices"])
            more: dict[str, Any] = {"id_": own.name, "goal": FailoverState.READY}
            if do == "begin":
                operations.fail_over(job, choices, self._report, **more)
            else:
                new_vm = self.request.get("new_vm")
                operations.fail_back(job, choices, self._report, new_vm=new_vm, **more)
        folder = own if begins else history.current(job)
        if not begins and not self.ticket.begun_before:
            operations.check_has_not_ended(outcome_of(folder))
        ports = self.stack.enter_context(operations.ports_of(job, folder, self._on_sync_event))
        ports.check_cancelled = self.wait_for_lease
        if not begins:
            self._choose_again(folder, ports)
        return self.stack.enter_context(runner.open_failover(folder, ports, self._report))

    def _choose_again(self, folder: Path, ports: VSpherePorts) -> None:
        """Journals what a `resume` chooses anew, and goes no step further."""
        lost = bool(self.request.get("source_lost"))
        boot = PointChoice.from_dict(self.request)
        if not lost and not boot.given:
            return
        here = outcome_of(folder).state
        try:
            runner.resume_failover(folder, ports, self._report, here, source_lost=lost, boot=boot)
        except NotPossibleNow:
            if not self.ticket.begun_before:  # else it was chosen before a crash, and it went on
                raise

    def _decide(self, do: str) -> None:
        """Undoes or commits. Does nothing where that has happened before a crash."""
        goal = {
            "undo": (FailoverState.UNDONE, FailoverState.ABORTED),
            "commit": (FailoverState.COMMITTED,),
        }[do]
        job = self._job
        if self.ticket.begun_before and outcome_of(history.current(job)).state in goal:
            return
        if do == "undo":
            choices = UndoChoices.from_dict(self.request)
            operations.undo(job, self._report, self._on_sync_event, choices)
        else:
            operations.commit(job, self._report, self._on_sync_event)

    def _outcome(self) -> Outcome | GroupOutcome | None:
        found = history.outcomes(self._job)
        if self.request["do"] in failover_requests.ID_PREFIX:
            return next((o for o in found if o.id == self.ticket.run), None)
        return next((o for o in found if o.state not in ENDED), found[-1] if found else None)

    def _write_end(self, state: str, result: dict[str, Any], text: str | None) -> bool:
        """False, and nothing is written: the ticket is out of date."""
        worker = self.worker
        with worker.catalog.transaction() as c:
            now = worker.catalog.now(c)
            ours = failover_requests.finish(
                c, self.ticket, now, state=state, result=result, error=text
            )
            if not ours:
                return False
            for job in self._jobs:
                for outcome in history.outcomes(job):
                    projection.write_failover(c, job.name, outcome, now)
                projection.release_job(c, job, self.ticket.run)
            projection.write_disabled(c, self._jobs)
            more = {"run": self.ticket.run, "order": self.request["do"]}
            more |= _event_data(result, text)
            name = f"failover {state}"
            worker.catalog.add_audit_entry(c, worker.mover, name, self.ticket.job, **more)
        return True

    def _write_progress(self, outcome: Outcome) -> None:
        """For commands that look on. A catalog that is away does not stop the failover."""
        job, fields = self.ticket.job, self._log_fields()
        log.info("job %s: failover %s is %s", job, outcome.id, outcome.state, extra=fields)
        try:
            with self.worker.catalog.transaction() as c:
                projection.write_failover(c, job, outcome, self.worker.catalog.now(c))
        except CatalogAway as error:
            log.warning("the catalog does not answer: %s", error, extra=fields)

    def _epoch(self) -> int:
        with self.worker.catalog.transaction() as c:
            return jobs.epoch(c, self.ticket.job)

    def _report(self, text: str) -> None:
        log.debug("job %s: %s", self.ticket.job, text, extra=self._log_fields())
        self.worker.check_stopping()

    def _on_sync_event(self, event: ReplicationEvent) -> None:
        if isinstance(event, Warn):
            log.warning("job %s: %s", self.ticket.job, event.text, extra=self._log_fields())

    def _log_fields(self) -> dict[str, str]:
        """For `extra=` of a log record."""
        return {"run": self.ticket.run, "job": self.ticket.job, "mover": self.worker.mover}


@dataclass(slots=True)
class GroupTask(FailoverTask):
    """A request for a group. All its passes are one step, which the journals let go on.

    A member's own steps are those of a single job, and so are the journals (failover/group/).
    """

    lock: Lock = field(default_factory=Lock)

    def _advance(self) -> bool:
        """Goes as far as it can. Raises Interrupted when the service stops on the way."""
        do, group = self.request["do"], Group.from_dict(self.request["group"])
        state_dir = self._jobs[0].state_dir
        own = group_report.folder_of(state_dir, group.name, self.ticket.run)
        if do == "adopt":
            self._adopt_all(group)
            return False
        if do not in failover_requests.ID_PREFIX:
            self._decide_for_all(do, group_report.current(state_dir, group.name), group)
        elif not load(own):
            choices = FailoverChoices.from_dict(self.request["choices"])
            begin = group_run.fail_over if do == "begin" else group_run.fail_back
            begin(state_dir, group, self.worker.jobs, choices, self._report, id_=own.name)
        elif not group_report.show(own).ended:
            group_run.resume(own, self.worker.jobs, self._report)
        self.worker.check_stopping()
        if self.request.get("commit") and group_report.show(own).state == "running":
            group_run.commit(own, self.worker.jobs, self._report)
        return False

    def _adopt_all(self, group: Group) -> None:
        """Adopts the members that the operator has seen."""
        jobs, expects = self.worker.jobs, self.request["expects"]
        known = self.worker.catalog.retry_while_away(self._known_states)
        seen = group_adopt.read_adoptable_members(group, jobs, known)
        seen = tuple(one for one in seen if one.job in expects)
        for one in seen:
            adopting.check_seen(one, expects[one.job])
        state_dir = self._jobs[0].state_dir
        done = group_adopt.adopt_members(state_dir, group, jobs, seen, self._report)
        self.result["adopted"] = done.to_dict()

    def _decide_for_all(self, do: str, folder: Path, group: Group) -> None:
        """Resumes, undoes or commits. Does nothing where that has happened before a crash."""
        jobs, state = self.worker.jobs, group_report.show(folder).state
        if self.ticket.begun_before and state in _DECIDED.get(do, ()):
            return
        if do == "resume":
            group_run.resume(folder, jobs, self._report, group.on_error)
        elif do == "undo":
            group_run.undo(folder, jobs, self._report, UndoChoices.from_dict(self.request))
        else:
            group_run.commit(folder, jobs, self._report)

    def _outcome(self) -> GroupOutcome | None:
        group, state_dir = Group.from_dict(self.request["group"]), self._jobs[0].state_dir
        own = group_report.folder_of(state_dir, group.name, self.ticket.run)
        if self.request["do"] in failover_requests.ID_PREFIX:
            return group_report.show(own) if load(own) else None
        try:
            return group_report.show(group_report.current(state_dir, group.name))
        except NoFailover:
            return None

    def _report(self, text: str) -> None:
        """Of any member, from its thread: waits there while the lease is over."""
        log.debug("%s: %s", self.ticket.job, text, extra=self._log_fields())
        with self.lock:
            self.wait_for_lease()


_DECIDED: Final = {"undo": ("undone", "aborted"), "commit": ("committed",)}


def _event_data(result: dict[str, Any], error: str | None) -> dict[str, Any]:
    """The data of the event that reports the end."""
    data = {k: result[k] for k in ("failover", "state")}
    return {**data, "error": error} if error else data
