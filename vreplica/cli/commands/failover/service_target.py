"""A job or a group, failed over by the service: --by-service.

request ──► catalog ──► a mover does it, and continues it after a crash
   └── reads the catalog until it has ended: same answer, same exit codes
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vreplica.cli.exit_codes import STOPPED
from vreplica.cli.open_catalog import opened, user
from vreplica.cli.render.output import Output
from vreplica.errors import VReplicaError
from vreplica.failover.adopt import Adoptable, KnownStates
from vreplica.failover.crosscheck import Comparison
from vreplica.failover.machine.choices import FailoverChoices, UndoChoices
from vreplica.failover.machine.context import Reporter
from vreplica.failover.machine.errors import OptionNotForTarget
from vreplica.failover.machine.group_order import Group
from vreplica.failover.machine.point_choice import NEWEST, PointChoice
from vreplica.failover.machine.record import Outcome
from vreplica.failover.machine.runner import DEFAULT_UNDO
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.target import (
    AdoptedTarget,
    FailoverOutcome,
    FailoverPreview,
    FailoverReport,
    FailoverTarget,
    GroupHistory,
    GroupTarget,
    JobHistory,
    JobTarget,
)
from vreplica.failover.undo_preview import GroupUndoPreview, UndoPreview
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
class GroupByService:
    """The outcome of a group, as a mover recorded it: what `GroupOutcome.to_dict` gives."""

    value: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.value["failover"])

    @property
    def state(self) -> str:
        return str(self.value["state"])

    @property
    def committed(self) -> bool:
        return self.state == "committed"

    @property
    def given_up(self) -> bool:
        return self.state == "aborted"

    @property
    def incomplete(self) -> bool:
        return self.state == "stopped" or any(m["trouble"] for m in self.value["members"])

    def to_dict(self) -> dict[str, Any]:
        return self.value


@dataclass(frozen=True, slots=True)
class AdoptedByService:
    """The failover that a mover has adopted, as it recorded it."""

    value: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.value


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """A job or a group whose failover a mover of the service carries out.

    What only reads (previews, reports) is done by this process. The job is taken out of the job
    file there and not before: the other verbs need none of its passwords.
    """

    out: Output
    config: Config
    name: str
    group: Group | None = None

    # -- read by this process ---------------------------------------------------------------

    @property
    def _here(self) -> FailoverTarget:
        if self.group is not None:
            return GroupTarget(self.group, self.config, self.config.state_dir)
        return JobTarget(self.config[self.name])

    def preview(self, **options: Any) -> FailoverPreview:
        return self._here.preview(**options)

    def preview_back(self, **options: Any) -> FailoverPreview:
        return self._here.preview_back(**options)

    def preview_undo(self, choices: UndoChoices = DEFAULT_UNDO) -> UndoPreview | GroupUndoPreview:
        return self._here.preview_undo(choices)

    def unfinished(self) -> None:
        """None: the service continues what it began, and nothing is left to this process."""

    def show(self) -> FailoverReport:
        return self._here.show()

    def crosscheck(self) -> Mapping[str, Comparison]:
        return self._here.crosscheck()

    def history(self) -> JobHistory | GroupHistory:
        return self._here.history()

    def adoptable(self, known: KnownStates) -> tuple[Adoptable, ...]:
        return self._here.adoptable(known)

    # -- done by the service ----------------------------------------------------------------

    def begin(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        commit: bool = False,
        id_: str | None = None,
    ) -> FailoverOutcome:
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
    ) -> FailoverOutcome:
        more = {"choices": choices.to_dict(), "commit": commit, "new_vm": new_vm}
        return self._request(report, "back", **more)

    def resume(
        self,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        source_lost: bool = False,
        boot: PointChoice = NEWEST,
    ) -> FailoverOutcome:
        if boot.members:
            raise OptionNotForTarget(option="point JOB=ID", target=self.name)
        if self.group is not None and (source_lost or boot.given):
            option = "source_lost" if source_lost else "point"
            raise OptionNotForTarget(option=option, target=self.name)
        return self._request(report, "resume", source_lost=source_lost, **boot.to_dict())

    def undo(
        self,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        choices: UndoChoices = DEFAULT_UNDO,
    ) -> FailoverOutcome:
        return self._request(report, "undo", **choices.to_dict())

    def commit(self, report: Reporter, on_event: Listener = ignore) -> FailoverOutcome:
        return self._request(report, "commit")

    def adopt(self, seen: Sequence[Adoptable], report: Reporter) -> AdoptedTarget:
        expects = {one.job: one.seen for one in seen}
        row = self._ask(report, "adopt", expects=expects)
        self._raise_error(row)
        return AdoptedByService(row.result["adopted"])

    def _request(self, report: Reporter, do: str, **more: Any) -> FailoverOutcome:
        return self._outcome(self._ask(report, do, **more))

    def _ask(self, report: Reporter, do: str, **more: Any) -> Any:
        """Puts the request into the catalog and waits until it has ended. Returns its row."""
        request = {"do": do, "who": user(), **more}
        if self.group is not None:
            request |= {"group": self.group.to_dict(), "members": self._jobs}
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
        return row

    @property
    def _jobs(self) -> list[str]:
        return [m.name for m in self.group.members] if self.group is not None else [self.name]

    def _wait(self, catalog: Catalog, id_: str, report: Reporter) -> Any:
        """The request's row, once it has ended. A catalog that is away is asked again."""
        from vreplica.service.catalog import failover_requests, observed, runs
        from vreplica.service.catalog.engines import CatalogAway, is_damaged

        reported: set[str] = set()

        def report_once(text: str) -> None:
            if text not in reported:
                reported.add(text)
                report(text)

        while True:
            try:
                with catalog.transaction() as c:
                    row = failover_requests.get(c, id_)
                    states = [observed.failover_states(c, job).get(id_) for job in self._jobs]
                    busy = next(filter(None, (runs.mover_of(c, job) for job in self._jobs)), None)
            except CatalogAway as error:
                if is_damaged(error):
                    raise
                report_once(f"the catalog is away, asking again: {error}")
            else:
                assert row is not None, "a request is never deleted"
                if row.state not in failover_requests.OPEN_STATES:
                    return row
                if row.state == "asked" and busy:
                    report_once(f"waits for the run under way on mover {busy}")
                if row.state == "running":
                    report_once(f"mover {row.mover} does it")
                for job, state in zip(self._jobs, states, strict=True):
                    if state:
                        report_once(state if self.group is None else f"{job}: {state}")
            time.sleep(POLL_S)

    def _outcome(self, row: Any) -> FailoverOutcome:
        """The outcome that a mover recorded, or its error."""
        self._raise_error(row)
        result = row.result or {}
        if self.group is not None:
            return GroupByService({k: v for k, v in result.items() if k != "error"})
        state, facts = FailoverState(result["state"]), result["facts"]
        measured = result.get("downtime_s"), result.get("age_s")
        return Outcome(result["failover"], state, facts, *measured)

    def _raise_error(self, row: Any) -> None:
        """Raises the error that a mover recorded; returns where there is none."""
        error = (row.result or {}).get("error") or ({"message": row.error} if row.error else None)
        if error is None:
            return
        then = error.get("remedy") or "`vreplica-sync status` shows its state."
        if row.state == "lost":
            then = f"Start mover {row.mover} again: it continues by itself."
        stopped = FailoverByServiceStopped(self.name, str(error["message"]), then)
        stopped.exit_code = int(error.get("exit_code", STOPPED))  # type: ignore[misc]
        raise stopped
