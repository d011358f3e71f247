"""One job, failed over by this process, with the service's catalog kept up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vreplica.cli import catalog_updates
from vreplica.cli.render.output import Output
from vreplica.config import Config
from vreplica.failover.history import new_failover_id
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.context import Reporter
from vreplica.failover.machine.record import Outcome
from vreplica.failover.target import JobTarget
from vreplica.sync.events import Listener, ignore


# Without slots: they would break `super()` here.
@dataclass(frozen=True)
class CataloguedJob(JobTarget):
    """A JobTarget that tells the catalog of every verb, however it ends."""

    out: Output
    config: Config

    def begin(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        commit: bool = False,
        id_: str | None = None,
    ) -> Outcome:
        id_ = id_ or new_failover_id()
        catalog_updates.reserve_job(self.out, self.config, self.job, id_)
        with self._catalogued(reserved=id_):
            return super().begin(choices, report, on_event, commit=commit, id_=id_)

    def begin_back(
        self,
        choices: FailoverChoices,
        report: Reporter,
        on_event: Listener = ignore,
        *,
        commit: bool = False,
        new_vm: str | None = None,
    ) -> Outcome:
        with self._catalogued():
            return super().begin_back(choices, report, on_event, commit=commit, new_vm=new_vm)

    def resume(
        self, report: Reporter, on_event: Listener = ignore, *, source_lost: bool = False
    ) -> Outcome:
        with self._catalogued():
            return super().resume(report, on_event, source_lost=source_lost)

    def undo(self, report: Reporter, on_event: Listener = ignore) -> Outcome:
        with self._catalogued():
            return super().undo(report, on_event)

    def commit(self, report: Reporter, on_event: Listener = ignore) -> Outcome:
        with self._catalogued():
            return super().commit(report, on_event)

    @contextmanager
    def _catalogued(self, reserved: str | None = None) -> Iterator[None]:
        try:
            yield
        finally:
            catalog_updates.failover_ended(self.out, self.config, self.job, reserved)
