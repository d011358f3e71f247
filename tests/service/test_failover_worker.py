"""What is chosen with a request reaches the failover that a mover carries out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.failover_model import Model
from tests.support.reporting import quiet
from vreplica.errors import VReplicaError
from vreplica.failover.machine.choices import FailoverChoices, UndoChoices
from vreplica.failover.machine.context import StepContext
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.record import outcome_of
from vreplica.failover.machine.runner import begin_failover
from vreplica.failover.machine.states import FailoverState
from vreplica.service import failover_worker
from vreplica.service.catalog import failover_requests, movers
from vreplica.service.catalog.database import Catalog
from vreplica.service.failover_worker import FailoverWorker
from vreplica.service.lease import Lease

TTL = timedelta(seconds=30)
YES = FailoverChoices(shutdown_timeout_s=30, heartbeat_timeout_s=30)


class Away(VReplicaError):
    """The source's site does not answer."""


@dataclass
class FakeJob:
    """As much of a job as journals are about."""

    job_dir: Path
    name: str = "a"


@dataclass
class Mover:
    """A mover with one job, whose sites are a model."""

    catalog: Catalog
    job: Any
    model: Model = field(default_factory=Model)
    told: list[tuple[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        lease = Lease(lambda: True, lambda: None, TTL)
        lease.renew_once()
        self.worker = FailoverWorker(
            "m1",
            self.catalog,
            lease,
            {"a": self.job},
            lambda name, job, data: self.told.append((name, data.get("error"))),
        )

    @property
    def folder(self) -> Path:
        return self.job.job_dir / "failovers" / "fo-1"  # type: ignore[no-any-return]

    def asked(self, **request: Any) -> str:
        """Carries a request out, one step after the other; its state at the end."""
        with self.catalog.transaction() as c:
            now = self.catalog.now(c)
            movers.join(c, "m1", 4, now, TTL)
            id_ = failover_requests.new_request_id(request["do"])
            failover_requests.add(c, id_, "a", {"who": "me", **request}, now)
            ((given, _, mover),) = failover_requests.assign(c, movers.registered(c))
            assert (given, mover) == (id_, "m1")
        with self.worker.take(id_) as task:
            assert task is not None
            while (last := task.step())["more"]:
                pass
            return task.record_end(last)


@pytest.fixture
def mover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mover]:
    ticks = itertools.count()

    def work(*args: Any, **more: Any) -> StepContext:
        return StepContext(*args, clock=lambda: float(next(ticks)), sleep=lambda _: None, **more)

    monkeypatch.setattr("vreplica.failover.machine.runner.StepContext", work)
    catalog = Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite")
    made = Mover(catalog, FakeJob(tmp_path / "a"))

    @contextmanager
    def ports_of(*_: Any) -> Iterator[Model]:
        yield made.model

    monkeypatch.setattr("vreplica.failover.operations.ports_of", ports_of)
    monkeypatch.setattr(failover_worker, "points", lambda job: made.model.points())
    yield made
    catalog.close()


def lose_source(model: Model) -> None:
    """The source's site is gone, with its VM."""

    def away(*_: Any) -> Any:
        raise Away

    model.source_on = False
    for name in ("source_is_off", "source_can_shut_down", "shut_down_source", "power_off_source"):
        setattr(model, name, away)


def test_a_source_that_was_lost_on_the_way_is_declared_lost_by_the_service_too(
    mover: Mover,
) -> None:
    begin_failover(mover.folder, mover.model, YES, quiet, FailoverState.INSURED)
    lose_source(mover.model)
    assert mover.asked(do="resume", source_lost=False) == "failed"
    assert not mover.model.replica_on
    calls = list(mover.model.calls)
    assert mover.asked(do="resume", source_lost=True) == "done"
    assert outcome_of(mover.folder).state is FailoverState.RUNNING
    assert mover.model.replica_on
    assert not [c for c in mover.model.calls[len(calls) :] if "source" in c or c == "ShutdownGuest"]
    assert [e.data for e in load(mover.folder) if e.step == "source declared lost"] == [
        {"source_lost": True}
    ]


def test_another_point_is_chosen_before_one_is_settled_and_refused_after(mover: Mover) -> None:
    begin_failover(mover.folder, mover.model, YES, quiet, FailoverState.INSURED)
    lose_source(mover.model)
    assert mover.asked(do="resume", source_lost=True, point="old") == "done"
    assert outcome_of(mover.folder).facts["point"] == "old"
    assert mover.asked(do="resume", point="old") == "failed"
    assert "to choose another point" in mover.told[-1][1]


@pytest.mark.parametrize("discard", [False, True])
def test_the_choices_of_an_undo_are_heeded(mover: Mover, discard: bool) -> None:
    begin_failover(mover.folder, mover.model, YES, quiet)
    assert mover.model.replica_on
    choices = UndoChoices(discard_written=discard, shutdown_timeout_s=30)
    assert mover.asked(do="undo", **choices.to_dict()) == "done"
    assert outcome_of(mover.folder).state is FailoverState.UNDONE
    assert (mover.model.source_on, mover.model.replica_on) == (True, False)
    assert len(mover.model.sides) == (0 if discard else 1)


def test_a_request_of_an_older_command_has_no_choices(mover: Mover) -> None:
    begin_failover(mover.folder, mover.model, YES, quiet)
    assert mover.asked(do="undo") == "done"
    assert len(mover.model.sides) == 1
