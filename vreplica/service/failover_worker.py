"""Executes failovers that are asked of the service, one event at a time.

    order --take--> Driven --step--> --step--> ... --settle--> the catalog
                      |                 each: lease good? then one event of the failover's journal
                      `- journal held in one epoch, both sides connected, from the first step on

The journal is the truth (failover/machine/journal.py): whoever is restarted takes it over and goes
on from where it stands, each effect once. The catalog is only told; it may be away meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from vreplica.errors import VReplicaError
from vreplica.failover import history, operations
from vreplica.failover.machine import runner
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.errors import Interrupted
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.record import Outcome, outcome_of
from vreplica.failover.machine.states import ENDED, FailoverState
from vreplica.service.catalog import failover_requests, jobs, projection
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.engines import CatalogAway
from vreplica.service.catalog.runs import Ticket
from vreplica.service.lease import Lease
from vreplica.service.run_worker import RunTakenAway, Tell
from vreplica.sync.events import Event, Warn
from vreplica.sync.job import Job
from vreplica.sync.recovery_points import points

log = logging.getLogger("vreplica.service")

LOOK_S: Final = 0.5
"""Between two looks at a lease that is over, or whether the service has been stopped."""

Result = dict[str, Any]
"""What a step says: {"more": is there another one?, "error": what it failed with, or absent}."""


@dataclass(slots=True)
class Driver:
    """What the failovers of one process share. `jobs` gives a job with its secrets."""

    id: str
    catalog: Catalog
    lease: Lease
    jobs: Mapping[str, Job]
    tell: Tell
    working: set[str] = field(default_factory=set)
    stopping: bool = False

    @contextmanager
    def take(self, order: str) -> Iterator[Driven | None]:
        """None where it is not this mover's any more."""
        found = self.catalog.retry_while_away(self.begin, order)
        if found is None:
            yield None
            return
        self.working.add(order)
        try:
            with ExitStack() as stack:
                yield Driven(self, *found, stack)
        finally:
            self.working.discard(order)

    def begin(self, order: str) -> tuple[Ticket, dict[str, Any]] | None:
        """As `orders.begin`."""
        with self.catalog.transaction() as c:
            return failover_requests.begin(c, order, self.id, self.catalog.now(c))

    def heed_stop(self) -> None:
        if self.stopping:
            raise Interrupted


@dataclass(slots=True)
class Driven:
    """One order in this process's hands."""

    driver: Driver
    ticket: Ticket
    order: dict[str, Any]
    stack: ExitStack
    drive: runner.OpenFailover | None = None

    def step(self) -> Result:
        """One event further; none when the service stops. What it fails with is in the result."""
        try:
            self.hold()
            return {"more": self._go()}
        except Interrupted:
            time.sleep(LOOK_S)
            return {"more": True}
        except VReplicaError as error:
            told = {"exit_code": error.exit_code, **error.to_dict()}
            return {"more": False, "error": told}
        except Exception as error:
            log.exception("failover of job %s", self.ticket.job, extra=self._fields())
            return {"more": False, "error": {"message": f"a defect: {error!r}"}}

    def hold(self) -> None:
        """Wait while the lease is over: others may hold this mover dead, and act."""
        driver, lapsed = self.driver, False
        while not driver.lease.good:
            driver.heed_stop()
            lapsed = True
            time.sleep(LOOK_S)
        driver.heed_stop()
        if lapsed and self.driver.catalog.retry_while_away(self._epoch) != self.ticket.epoch:
            again = driver.catalog.retry_while_away(driver.begin, self.ticket.run)
            if again is None:
                reason = "its lease was over, and something newer was asked"
                raise RunTakenAway(self.ticket.run, self.ticket.job, reason)
            self.ticket = again[0]

    def settle(self, last: Result) -> str:
        """Write how it ended. Returns the state of the order."""
        self.stack.close()
        job, error = self._job, last.get("error")
        outcome = self._outcome()
        text = str(error["message"]) if error is not None else None
        state = "failed" if error is not None else "done"
        result: dict[str, Any] = {"failover": None, "state": None}
        if outcome is not None:
            result = outcome.to_dict()
        if not self.driver.catalog.retry_while_away(
            self._write, state, {**result, "error": error}, text
        ):
            return "taken away"
        self.driver.tell(f"failover {state}", self.ticket.job, _told(result, text))
        try:
            found = points(job)
            with self.driver.catalog.transaction() as c:
                projection.keep_points(c, job.name, found)
        except Exception:
            # A side that is away: the next run, or `catalog rebuild`, brings them.
            log.warning("points of job %s could not be read", job.name, extra=self._fields())
        return state

    @property
    def _job(self) -> Job:
        return self.driver.jobs[self.ticket.job]

    def _go(self) -> bool:
        do = self.order["do"]
        if do in ("undo", "commit"):
            self._ask(do)
            return False
        if self.drive is None:
            self.drive = self._open(do)
        if self.drive.advance():
            self._progress(self.drive.outcome)
            return True
        outcome = self.drive.outcome
        answered = outcome.answered
        if answered and self.order.get("commit"):
            self.stack.close()
            self._ask("commit")
        return False

    def _open(self, do: str) -> runner.OpenFailover:
        """The failover's journal, with both sides."""
        job, own = self._job, self._job.job_dir / "failovers" / self.ticket.run
        if do in failover_requests.PREFIX and not load(own):
            choices = FailoverChoices.from_dict(self.order["choices"])
            more: dict[str, Any] = {"id_": own.name, "goal": FailoverState.READY}
            if do == "begin":
                operations.fail_over(job, choices, self._say, **more)
            else:
                operations.fail_back(
                    job, choices, self._say, new_vm=self.order.get("new_vm"), **more
                )
        folder = own if do in failover_requests.PREFIX else history.current(job)
        ports = self.stack.enter_context(operations.ports_of(job, folder, self._hear))
        ports.check_cancelled = self.hold
        return self.stack.enter_context(runner.open_failover(folder, ports, self._say))

    def _ask(self, do: str) -> None:
        """Undo or commit: one event, and nothing where it has happened before a crash."""
        goal = {
            "undo": (FailoverState.UNDONE, FailoverState.ABORTED),
            "commit": (FailoverState.COMMITTED,),
        }[do]
        if self.ticket.again and outcome_of(history.current(self._job)).state in goal:
            return
        call = operations.undo if do == "undo" else operations.commit
        call(self._job, self._say, self._hear)

    def _outcome(self) -> Outcome | None:
        found = history.outcomes(self._job)
        if self.order["do"] in failover_requests.PREFIX:
            return next((o for o in found if o.id == self.ticket.run), None)
        return next((o for o in found if o.state not in ENDED), found[-1] if found else None)

    def _write(self, state: str, result: dict[str, Any], text: str | None) -> bool:
        driver, job = self.driver, self._job
        with driver.catalog.transaction() as c:
            now = driver.catalog.now(c)
            ours = failover_requests.finish(
                c, self.ticket, now, state=state, result=result, error=text
            )
            if not ours:
                return False
            for outcome in history.outcomes(job):
                projection.keep_failover(c, job.name, outcome, now)
            projection.release(c, job, self.ticket.run)
            projection.keep_offs(c, [job])
            more = {"run": self.ticket.run, "order": self.order["do"], **_told(result, text)}
            driver.catalog.note(c, driver.id, f"failover {state}", job.name, **more)
        return True

    def _progress(self, outcome: Outcome) -> None:
        """For whoever looks on; a catalog that is away does not hold the failover."""
        job = self.ticket.job
        log.info("job %s: failover %s is %s", job, outcome.id, outcome.state, extra=self._fields())
        try:
            with self.driver.catalog.transaction() as c:
                projection.keep_failover(c, job, outcome, self.driver.catalog.now(c))
        except CatalogAway as error:
            log.warning("the catalog is away: %s", error, extra=self._fields())

    def _epoch(self) -> int:
        with self.driver.catalog.transaction() as c:
            return jobs.epoch(c, self.ticket.job)

    def _say(self, text: str) -> None:
        log.debug("job %s: %s", self.ticket.job, text, extra=self._fields())
        self.driver.heed_stop()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Warn):
            log.warning("job %s: %s", self.ticket.job, event.text, extra=self._fields())

    def _fields(self) -> dict[str, str]:
        """For `extra=` of a log record."""
        return {"run": self.ticket.run, "job": self.ticket.job, "mover": self.driver.id}


def _told(result: dict[str, Any], error: str | None) -> dict[str, Any]:
    """Of how it ended, what receivers are told."""
    told = {k: result[k] for k in ("failover", "state")}
    return {**told, "error": error} if error else told
