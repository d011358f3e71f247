"""One job, failed over by the service: --by-service.

request ──► catalog ──► a mover does it, and continues it after a crash
   └── reads the catalog until it has ended: same answer, same exit codes
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vreplica.cli.exit_codes import STOPPED
from vreplica.cli.open_catalog import opened, user
from vreplica.cli.render.output import Output
from vreplica.errors import VReplicaError
from vreplica.failover.crosscheck import Comparison
from vreplica.failover.machine.choices import FailoverChoices, UndoChoices
from vreplica.failover.machine.context import Reporter
from vreplica.failover.machine.errors import OptionNotForTarget
from vreplica.failover.machine.point_choice import NEWEST, PointChoice
from vreplica.failover.machine.record import Outcome, Record
from vreplica.failover.machine.runner import DEFAULT_UNDO
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.preview import Preview
from vreplica.failover.target import JobHistory, JobTarget
from vreplica.sync.events import Listener, ignore

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.service.catalog.database import Catalog

POLL_S: Final = 0.5
"""Between two looks at the request."""


@dataclass(eq=False)
class FailoverByServiceStopped(VReplicaError):
    template = "the service's failover of job {job} stopped: {reason}"
    remedy = "{then}"
    job: str
    reason: str
    then: str


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """A job whose failover a mover of the service carries out.

    What only reads (previews, reports) is done by this process. The job is taken out of the job
    file there and not before: the other verbs need none of its passwords.
    """

    out: Output
    config: Config
    name: str

    # -- read by this process ---------------------------------------------------------------

    @property
    def _here(self) -> JobTarget:
        return JobTarget(self.config[self.name])

    def preview(self, *, source_lost: bool = False, boot: PointChoice = NEWEST) -> Preview:
        return self._here.preview(source_lost=source_lost, boot=boot)

    def preview_back(
        self, *, source_lost: bool = False, boot: PointChoice = NEWEST, new_vm: str | None = None
    ) -> Preview:
        return self._here.preview_back(source_lost=source_lost, boot=boot, new_vm=new_vm)

    def unfinished(self) -> None:
        """None: the service continues what it began, and nothing is left to this process."""

    def show(self) -> Record:
        return self._here.show()

    def crosscheck(self) -> Mapping[str, Comparison]:
        return self._here.crosscheck()

    def history(self) -> JobHistory:
        return self._here.history()

    # -- done by the service ----------------------------------------------------------------

    def begin(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        commit: bool = False,
        id_: str | None = None,
    ) -> Outcome:
        if id_ is not None:
            raise OptionNotForTarget(option="id", target=self.name)
        return self._request(report, "begin", choices=choices.to_dict(), commit=commit)

    def begin_back(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        commit: bool = False,
        new_vm: str | None = None,
    ) -> Outcome:
        more = {"choices": choices.to_dict(), "commit": commit, "new_vm": new_vm}
        return self._request(report, "back", **more)

    def resume(
        self,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        source_lost: bool = False,
        boot: PointChoice = NEWEST,
    ) -> Outcome:
        if boot.members:
            raise OptionNotForTarget(option="point JOB=ID", target=self.name)
        return self._request(report, "resume", source_lost=source_lost, **boot.to_dict())

    def undo(
        self,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        choices: UndoChoices = DEFAULT_UNDO,
    ) -> Outcome:
        return self._request(report, "undo", **choices.to_dict())

    def commit(self, report: Reporter, on_event: Listener = ignore) -> Outcome:
        return self._request(report, "commit")

    def _request(self, report: Reporter, do: str, **more: Any) -> Outcome:
        """Puts the request into the catalog and waits until it has ended."""
        request = {"do": do, "who": user(), **more}
        with opened(self.config) as catalog:
            from vreplica.service.catalog import failover_requests

            with catalog.transaction() as c:
                id_ = failover_requests.new_request_id(do)
                failover_requests.add(c, id_, self.name, request, catalog.now(c))
                catalog.add_audit_entry(
                    c, request["who"], "failover asked", self.name, run=id_, order=do
                )
            report(f"asked the service ({id_})")
            try:
                row = self._wait(catalog, id_, report)
            except KeyboardInterrupt:
                report(f"the service continues it; `vreplica-sync status {self.name}` shows it")
                raise
        return self._outcome(row)

    def _wait(self, catalog: Catalog, id_: str, report: Reporter) -> Any:
        """The request's row, once it has ended. A catalog that is away is asked again."""
        from vreplica.service.catalog import failover_requests, observed, runs
        from vreplica.service.catalog.engines import CatalogAway

        reported: set[str] = set()

        def report_once(text: str) -> None:
            if text not in reported:
                reported.add(text)
                report(text)

        while True:
            try:
                with catalog.transaction() as c:
                    row = failover_requests.get(c, id_)
                    state = observed.failover_states(c, self.name).get(id_)
                    busy = runs.mover_of(c, self.name)
            except CatalogAway as error:
                report_once(f"the catalog is away, asking again: {error}")
            else:
                assert row is not None, "a request is never deleted"
                if row.state not in failover_requests.OPEN_STATES:
                    return row
                if row.state == "asked" and busy:
                    report_once(f"waits for the run under way on mover {busy}")
                if row.state == "running":
                    report_once(f"mover {row.mover} does it")
                if state:
                    report_once(state)
            time.sleep(POLL_S)

    def _outcome(self, row: Any) -> Outcome:
        """The outcome that a mover recorded, or its error."""
        result = row.result or {}
        error = result.get("error") or ({"message": row.error} if row.error else None)
        if error is None:
            return Outcome(result["failover"], FailoverState(result["state"]), result["facts"])
        then = error.get("remedy") or "`vreplica-sync status` shows its state."
        if row.state == "lost":
            then = f"Start mover {row.mover} again: it continues by itself."
        stopped = FailoverByServiceStopped(self.name, str(error["message"]), then)
        stopped.exit_code = int(error.get("exit_code", STOPPED))  # type: ignore[misc]
        raise stopped
