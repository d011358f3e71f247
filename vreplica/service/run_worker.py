"""Executes the runs of one mover. A run that is executed twice makes one recovery point.

    ticket (new epoch) -> does its point exist? -> vreplica.run behind a fence -> catalog

The run's id is the id of the point that it makes. So a run that begins again after a crash finds
its point at the destination, or makes it then.
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
from vreplica.notify.events import OnEvent
from vreplica.points import RecoveryPoint
from vreplica.service.catalog import jobs, projection, runs
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.engines import CatalogAway
from vreplica.service.catalog.runs import RunTicket
from vreplica.service.lease import Lease
from vreplica.sync.cycle import run
from vreplica.sync.errors import Cancelled, JobDisabled, JobFailedOver
from vreplica.sync.job import Job
from vreplica.sync.recovery_points import points
from vreplica.sync.report import RunReport

log = logging.getLogger("vreplica.service")

CHECK_S: Final = 2.0
"""Between two looks at the epoch in the catalog. The lease is looked at before every write."""


@dataclass(eq=False)
class RunTakenAway(PreflightError):
    template = "run {run} of job {job} is not this mover's any more: {reason}"
    remedy = "Nothing to do: the mover that has it now puts both sides in order."
    run: str
    job: str
    reason: str


@dataclass(slots=True)
class EpochFence:
    """Raises RunTakenAway as soon as this process may write no more for a run."""

    ticket: RunTicket
    lease: Lease
    catalog: Catalog
    clock: Callable[[], float] = time.monotonic
    _checked: float = float("-inf")

    def __call__(self) -> None:
        if self.lease.valid and self.clock() - self._checked >= CHECK_S:
            try:
                self.check_epoch()
            except CatalogAway:
                # While the lease is valid no other mover takes the run.
                self._checked = self.clock()
        # The last check: a catalog that hangs may have outlasted the lease.
        if not self.lease.valid:
            raise RunTakenAway(self.ticket.run, self.ticket.job, "its lease is over")

    def check_epoch(self) -> None:
        """Reads the epoch now, however short ago it was read."""
        with self.catalog.transaction() as c:
            now = jobs.epoch(c, self.ticket.job)
        if now != self.ticket.epoch:
            reason = f"its epoch is {self.ticket.epoch}, the job's is {now}"
            raise RunTakenAway(self.ticket.run, self.ticket.job, reason)
        self._checked = self.clock()


@dataclass(slots=True)
class RunWorker:
    """Executes the runs of one mover. `jobs` gives a job with its secrets."""

    mover: str
    catalog: Catalog
    lease: Lease
    jobs: Mapping[str, Job]
    on_event: OnEvent
    run: Callable[..., RunReport] = run
    read_points: Callable[[Job], tuple[RecoveryPoint, ...]] = points
    controls: dict[str, Control] = field(default_factory=dict)
    """Of the runs that are executed now, by their ids."""
    stopping: bool = False

    def execute(self, run_id: str) -> str:
        """Executes one run to its end. Returns its last state; never raises VReplicaError."""
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

    def cancel_all(self) -> None:
        """Cancels every run at its next batch. A cancelled run leaves nothing behind."""
        self.stopping = True
        for control in list(self.controls.values()):
            control.cancel()

    def _begin(self, run_id: str) -> RunTicket | None:
        with self.catalog.transaction() as c:
            return runs.begin(c, run_id, self.mover, self.catalog.now(c))

    def _execute(self, ticket: RunTicket, control: Control) -> str:
        try:
            job = self.jobs[ticket.job]
            existing = self.read_points(job) if ticket.begun_before else ()
            made = next((p for p in existing if p.id == ticket.run), None)
            if made is not None:
                with self.catalog.transaction() as c:
                    projection.write_points(c, job.name, existing)
                result = {"point": made.to_dict(), "found": True}
                return self._end(ticket, "done", result=result, point=made)
            fence = EpochFence(ticket, self.lease, self.catalog)
            self.catalog.retry_while_away(fence.check_epoch)
            report = self.run(job, control=control, run_id=ticket.run, fence=fence)
        except RunTakenAway as error:
            log.warning("%s", error, extra=self._log_fields(ticket))
            return "taken away"
        except (Cancelled, CopyCancelled):
            return self._end(ticket, "cancelled", error="cancelled: the service stops")
        except (JobDisabled, JobFailedOver) as error:
            with self.catalog.transaction() as c:
                projection.write_disabled(c, [job])
            return self._end(ticket, "cancelled", error=str(error))
        except VReplicaError as error:
            return self._end(ticket, "failed", error=str(error), result=error.to_dict())
        except Exception as error:
            fields = self._log_fields(ticket)
            log.exception("run %s of job %s", ticket.run, ticket.job, extra=fields)
            return self._end(ticket, "failed", error=f"a defect: {error!r}")
        state = self._end(
            ticket, "done", result=report.to_dict(), point=report.point, seconds=report.seconds
        )
        try:
            projection.write_run(self.catalog, job, report, self.read_points)
        except Exception:
            # The run is done, whether or not the list of points is right.
            log.exception("points of job %s", ticket.job, extra=self._log_fields(ticket))
        return state

    def _end(
        self,
        ticket: RunTicket,
        state: str,
        *,
        error: str | None = None,
        result: dict[str, Any] | None = None,
        point: RecoveryPoint | None = None,
        seconds: float | None = None,
    ) -> str:
        """Writes the end of a run to the catalog, then reports it."""
        data: dict[str, Any] = {"run": ticket.run, **({"error": error} if error else {})}
        happened = [(f"run {state}", data)]
        if point is not None and point.flagged:
            why = {"point": point.id, "suspicions": list(point.suspicions)}
            happened.append(("point flagged", {**data, **why}))

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
                for name, more in happened if ours else ():
                    self.catalog.add_audit_entry(c, self.mover, name, ticket.job, **more)
                return ours

        if not self.catalog.retry_while_away(write):
            return "taken away"
        for name, more in happened:
            self.on_event(name, ticket.job, {**(result or {}), **more})
        return state

    def _log_fields(self, ticket: RunTicket) -> dict[str, str]:
        """For `extra=` of a log record."""
        return {"run": ticket.run, "job": ticket.job, "mover": self.mover}
