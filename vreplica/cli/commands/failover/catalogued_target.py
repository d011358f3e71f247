"""A job or a group, failed over by this process, with the service's catalog kept up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from vreplica.cli import catalog_updates
from vreplica.cli.render.output import Output
from vreplica.config import Config
from vreplica.errors import VReplicaError
from vreplica.failover.adopt import Adoptable, KnownStates
from vreplica.failover.crosscheck import Comparison
from vreplica.failover.history import new_failover_id, outcomes_below
from vreplica.failover.machine.choices import FailoverChoices, UndoChoices
from vreplica.failover.machine.context import Reporter
from vreplica.failover.machine.runner import DEFAULT_UNDO
from vreplica.failover.machine.states import ENDED
from vreplica.failover.target import (
    AdoptedTarget,
    FailoverOutcome,
    FailoverPreview,
    FailoverReport,
    FailoverTarget,
    GroupHistory,
    JobHistory,
)
from vreplica.failover.undo_preview import GroupUndoPreview, UndoPreview
from vreplica.sync.events import Listener, ignore


@dataclass(frozen=True, slots=True)
class CataloguedTarget:
    """Passes each verb on to `target`, and tells the catalog of it, however it ends.

    `jobs`: the names of the jobs that `target` is about.
    """

    target: FailoverTarget
    jobs: tuple[str, ...]
    out: Output
    config: Config

    @property
    def name(self) -> str:
        return self.target.name

    # -- only read ----------------------------------------------------------------------------

    def preview(self, **options: Any) -> FailoverPreview:
        return self.target.preview(**options)

    def preview_back(self, **options: Any) -> FailoverPreview:
        return self.target.preview_back(**options)

    def preview_undo(self, choices: UndoChoices = DEFAULT_UNDO) -> UndoPreview | GroupUndoPreview:
        return self.target.preview_undo(choices)

    def unfinished(self) -> FailoverOutcome | None:
        return self.target.unfinished()

    def show(self) -> FailoverReport:
        return self.target.show()

    def crosscheck(self) -> Mapping[str, Comparison]:
        return self.target.crosscheck()

    def history(self) -> JobHistory | GroupHistory:
        return self.target.history()

    def adoptable(self, known: KnownStates) -> tuple[Adoptable, ...]:
        return self.target.adoptable(known)

    # -- done, and told to the catalog ----------------------------------------------------------

    def begin(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        id_: str | None = None,
        **options: Any,
    ) -> FailoverOutcome:
        id_ = id_ or new_failover_id()
        for name in self.jobs:
            catalog_updates.reserve_job(self.out, self.config, self.config[name], id_)
        with self._recorded("failover", reserved=id_):
            return self.target.begin(choices, report, on_event, id_=id_, **options)

    def begin_back(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        **options: Any,
    ) -> FailoverOutcome:
        with self._recorded("failback"):
            return self.target.begin_back(choices, report, on_event, **options)

    def resume(
        self, report: Reporter, on_event: Listener = ignore, **options: Any
    ) -> FailoverOutcome:
        with self._recorded("resume"):
            return self.target.resume(report, on_event, **options)

    def undo(
        self, report: Reporter, on_event: Listener = ignore, **options: Any
    ) -> FailoverOutcome:
        with self._recorded("undo"):
            return self.target.undo(report, on_event, **options)

    def commit(
        self, report: Reporter, on_event: Listener = ignore, **options: Any
    ) -> FailoverOutcome:
        with self._recorded("commit"):
            return self.target.commit(report, on_event, **options)

    def adopt(self, seen: Sequence[Adoptable], report: Reporter) -> AdoptedTarget:
        with self._recorded("adopt"):
            return self.target.adopt(seen, report)

    @contextmanager
    def _recorded(self, what: str, reserved: str | None = None) -> Iterator[None]:
        """Around a verb: recorded for each job, with the state that its failover has reached."""
        with ExitStack() as stack:
            records = {
                name: stack.enter_context(
                    catalog_updates.recorded(self.out, self.config, name, what)
                )
                for name in self.jobs
            }
            for name, record in records.items():
                catalog_updates.failover_told(self.out, self.config[name], record, reserved)
            try:
                yield
            finally:
                for name, record in records.items():
                    with suppress(VReplicaError):  # of a journal that cannot be read
                        record.result = _standing(self.config, name)


def _standing(config: Config, job: str) -> dict[str, str]:
    """The failover that has not ended, else the newest; empty: there is none."""
    found = outcomes_below(config.state_dir / job)
    chosen = next((each for each in found if each.state not in ENDED), None)
    chosen = chosen or next(reversed(found), None)
    return {"failover": chosen.id, "state": chosen.state.value} if chosen is not None else {}
