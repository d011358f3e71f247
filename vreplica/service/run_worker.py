"""Executes one run of the service: at least once asked, at most one recovery point.

    ticket (epoch up) -> is the point there already? -> vreplica.run, fenced -> the catalog's rows

The run's id is the id of the point that it makes; so a run that is taken up again after a crash
finds its point at the destination, or makes it now.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vreplica.delta.control import Control
from vreplica.delta.errors import CopyCancelled
from vreplica.errors import PreflightError, VReplicaError
from vreplica.points import RecoveryPoint
from vreplica.service.catalog import jobs, projection, runs
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.engines import CatalogAway
from vreplica.service.catalog.runs import Ticket
from vreplica.service.lease import Lease
from vreplica.sync.cycle import run
from vreplica.sync.errors import Cancelled, JobDisabled, JobFailedOver
from vreplica.sync.job import Job
from vreplica.sync.recovery_points import points
from vreplica.sync.report import RunReport

log = logging.getLogger("vreplica.service")

CHECK_S: Final = 2.0
"""Between two looks at the epoch in the catalog; the lease is looked at before every write."""

Tell = Callable[[str, str, dict[str, Any]], None]
"""What happened, to which job, with what."""


@dataclass(eq=False)
class RunTakenAway(PreflightError):
    template = "run {run} of job {job} is not this mover's any more: {reason}"
    remedy = "Nothing to do: whoever has it now puts both sides in order."
    run: str
    job: str
    reason: str


@dataclass(slots=True)
class Fence:
    """Raises as soon as this process may write no more for a run."""

    ticket: Ticket
    lease: Lease
    catalog: Catalog
    clock: Callable[[], float] = time.monotonic
    _looked: float = float("-inf")

    def __call__(self) -> None:
        if self.lease.good and self.clock() - self._looked >= CHECK_S:
            try:
                self.look()
            except CatalogAway:
                # Nobody takes a run from a lease that is good.
                self._looked = self.clock()
        # Last: a catalog that hangs may outlive it.
        if not self.lease.good:
            raise RunTakenAway(self.ticket.run, self.ticket.job, "its lease is over")

    def look(self) -> None:
        """Look into the catalog, whatever was seen before."""
        with self.catalog.transaction() as c:
            now = jobs.epoch(c, self.ticket.job)
        if now != self.ticket.epoch:
            reason = f"its epoch is {self.ticket.epoch}, the job's is {now}"
            raise RunTakenAway(self.ticket.run, self.ticket.job, reason)
        self._looked = self.clock()


@dataclass(slots=True)
class Mover:
    """What the runs of one process share. `jobs` gives a job with its secrets."""

    id: str
    catalog: Catalog
    lease: Lease
    jobs: Mapping[str, Job]
    tell: Tell
    run: Callable[..., RunReport] = run
    find_points: Callable[[Job], tuple[RecoveryPoint, ...]] = points
    controls: dict[str, Control] = field(default_factory=dict)
    stopping: bool = False

    def execute(self, run_id: str) -> str:
        """One run, to its end. Returns the state it ended in; never raises VReplicaError."""
        ticket = self.catalog.retry_while_away(self._begin, run_id)
        if ticket is None:
            return "not mine"
        control = self.controls[run_id] = Control()
        if self.stopping:
            control.cancel()
        try:
            return self._execute(ticket, control)
        finally:
            del self.controls[run_id]

    def _begin(self, run_id: str) -> Ticket | None:
        with self.catalog.transaction() as c:
            return runs.begin(c, run_id, self.id, self.catalog.now(c))

    def cancel_all(self) -> None:
        """Every run ends at its next batch and leaves nothing behind."""
        self.stopping = True
        for control in list(self.controls.values()):
            control.cancel()

    def _execute(self, ticket: Ticket, control: Control) -> str:
        try:
            job = self.jobs[ticket.job]
            there = self.find_points(job) if ticket.again else ()
            made = next((p for p in there if p.id == ticket.run), None)
            if made is not None:
                with self.catalog.transaction() as c:
                    projection.keep_points(c, job.name, there)
                result = {"point": made.to_dict(), "found": True}
                return self._end(ticket, "done", result=result, point=made)
            fence = Fence(ticket, self.lease, self.catalog)
            self.catalog.retry_while_away(fence.look)
            report = self.run(job, control=control, run_id=ticket.run, fence=fence)
        except RunTakenAway as error:
            log.warning("%s", error, extra=self._fields(ticket))
            return "taken away"
        except (Cancelled, CopyCancelled):
            return self._end(ticket, "cancelled", error="cancelled: the service stops")
        except (JobDisabled, JobFailedOver) as error:
            with self.catalog.transaction() as c:
                projection.keep_offs(c, [job])
            return self._end(ticket, "cancelled", error=str(error))
        except VReplicaError as error:
            return self._end(ticket, "failed", error=str(error), result=error.to_dict())
        except Exception as error:
            log.exception("run %s of job %s", ticket.run, ticket.job, extra=self._fields(ticket))
            return self._end(ticket, "failed", error=f"a defect: {error!r}")
        state = self._end(
            ticket, "done", result=report.to_dict(), point=report.point, seconds=report.seconds
        )
        try:
            projection.keep_run(self.catalog, job, report, self.find_points)
        except Exception:
            # The run is done, whatever the list of points says.
            log.exception("points of job %s", ticket.job, extra=self._fields(ticket))
        return state

    def _end(
        self,
        ticket: Ticket,
        state: str,
        *,
        error: str | None = None,
        result: dict[str, Any] | None = None,
        point: RecoveryPoint | None = None,
        seconds: float | None = None,
    ) -> str:
        data: dict[str, Any] = {"run": ticket.run, **({"error": error} if error else {})}
        told = [(f"run {state}", data)]
        if point is not None and point.flagged:
            why = {"point": point.id, "suspicions": list(point.suspicions)}
            told.append(("point flagged", {**data, **why}))

        def write() -> bool:
            with self.catalog.transaction() as c:
                ours = runs.finish(
                    c,
                    ticket,
                    self.catalog.now(c),
                    state=state,
                    result=result,
                    error=error,
                    point_time=point.taken if point else None,
                    seconds=seconds,
                )
                for what, more in told if ours else ():
                    self.catalog.note(c, self.id, what, ticket.job, **more)
                return ours

        if not self.catalog.retry_while_away(write):
            return "taken away"
        for what, more in told:
            self.tell(what, ticket.job, {**(result or {}), **more})
        return state

    def _fields(self, ticket: Ticket) -> dict[str, str]:
        """For `extra=` of a log record."""
        return {"run": ticket.run, "job": ticket.job, "mover": self.id}
