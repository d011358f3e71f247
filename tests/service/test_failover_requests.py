"""Failovers that are asked of the service: who gets them, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from vreplica.points import Level, RecoveryPoint
from vreplica.scheduling.planner import ConcurrencyLimits
from vreplica.scheduling.schedule import Every, ScheduleRule
from vreplica.service.catalog import (
    failover_requests,
    jobs,
    movers,
    observed,
    projection,
    runs,
    tables,
)
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.failover_requests import FailoverRequested, NoService
from vreplica.service.catalog.tables import FAILOVER
from vreplica.service.dispatcher import Dispatcher
from vreplica.service.lease import Lease
from vreplica.service.run_worker import RunWorker
from vreplica.service.status import job_status
from vreplica.sync.errors import JobDisabled
from vreplica.sync.job_switch import disable, enable

TTL = timedelta(seconds=30)
RULES = {"a": ScheduleRule(Every(timedelta(microseconds=1)))}
BEGIN = {"do": "begin", "who": "me", "choices": {}, "commit": False}


@dataclass
class There:
    """A catalog, and a dispatcher that takes a mover to be gone when it is told so."""

    catalog: Catalog
    gone_now: dict[str, datetime] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plan = Dispatcher(
            self.catalog,
            "m1",
            RULES,
            ConcurrencyLimits(),
            lambda what, job, data: self.told.append(f"{what}: {job}"),
            self,  # type: ignore[arg-type]
        )

    def gone(self) -> dict[str, datetime]:
        return self.gone_now

    def round(self) -> list[tuple[str, str, bool]]:
        return [(q.id, q.mover, q.failover) for q in self.plan.round({})]

    def join(self, *names: str) -> None:
        with self.catalog.transaction() as c:
            for mover in names:
                movers.join(c, mover, 1, self.catalog.now(c), TTL)

    def dies(self, mover: str) -> None:
        with self.catalog.transaction() as c:
            self.gone_now = {mover: movers.leases(c)[mover]}

    def ask(self, id_: str, order: dict[str, Any] = BEGIN) -> None:
        with self.catalog.transaction() as c:
            failover_requests.add(c, id_, "a", order, self.catalog.now(c))

    def begin(self, id_: str, mover: str) -> Any:
        with self.catalog.transaction() as c:
            return failover_requests.begin(c, id_, mover, self.catalog.now(c))

    def finish(self, ticket: runs.RunTicket, kind: str = FAILOVER) -> None:
        with self.catalog.transaction() as c:
            now = self.catalog.now(c)
            if kind == FAILOVER:
                assert failover_requests.finish(c, ticket, now, state="done", result={}, error=None)
            else:
                assert runs.finish(c, ticket, now, state="done", point_time=now)

    @property
    def state(self) -> str:
        return job_status(self.catalog, RULES)[0].state


@pytest.fixture
def there(tmp_path: Path) -> Iterator[There]:
    catalog = Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite")
    yield There(catalog)
    catalog.close()


def test_nobody_is_asked_where_no_service_is_at_work(there: There) -> None:
    with pytest.raises(NoService):
        there.ask("fo-1")


def test_it_waits_for_the_run_under_way_and_the_planner_waits_for_it(there: There) -> None:
    there.join("m1", "m2")
    ((run, mover, _),) = there.round()
    there.ask("fo-1")
    with pytest.raises(FailoverRequested, match="fo-1 is asked"):
        there.ask("fo-2")
    assert there.round() == []
    with there.catalog.transaction() as c:
        ticket = runs.begin(c, run, mover, there.catalog.now(c))
    assert ticket is not None
    there.finish(ticket, "run")
    # To the mover that ran the job last, and no run of it besides.
    assert there.round() == [("fo-1", mover, True)]
    assert there.state == "failing over"
    began = there.begin("fo-1", mover)
    assert there.round() == []
    there.finish(began[0])
    assert there.round() == []
    assert there.state == "disabled"
    # What goes on with it goes where its journal is, and nowhere else.
    there.dies(mover)
    there.ask("or-1", {"do": "undo", "who": "me"})
    assert there.round() == []
    there.gone_now = {}
    there.join(mover)
    assert there.round() == [("or-1", mover, True)]


def test_one_that_has_not_begun_goes_to_another_mover_and_one_that_has_waits_for_its_own(
    there: There,
) -> None:
    there.join("m2")
    there.ask("fo-1")
    assert there.round() == [("fo-1", "m2", True)]
    there.join("m1")
    there.dies("m2")
    assert there.round() == [("fo-1", "m1", True)]
    assert there.told == []
    assert there.begin("fo-1", "m2") is None
    ticket, _ = there.begin("fo-1", "m1")
    there.join("m2")
    there.dies("m1")
    assert there.round() == []
    assert there.told == ["failover lost: a"]
    assert there.state == "disabled"
    # It is back, and goes on, in a new epoch.
    again, _ = there.begin("fo-1", "m1")
    assert again.begun_before
    assert again.epoch > ticket.epoch
    with there.catalog.transaction() as c:
        assert failover_requests.unfinished(c, "m1") == {"fo-1": "running"}


def test_a_mover_that_comes_back_too_late_does_not_go_on(there: There) -> None:
    there.join("m1")
    there.ask("fo-1")
    there.round()
    assert there.begin("fo-1", "m1")
    there.join("m2")
    there.dies("m1")
    there.round()
    there.ask("fo-2")
    assert there.round() == [("fo-2", "m2", True)]
    assert there.begin("fo-1", "m1") is None
    with there.catalog.transaction() as c:
        assert failover_requests.unfinished(c, "m1") == {}


# -- is the job off? ------------------------------------------------------------------------------


@dataclass
class FakeJob:
    """As much of a job as files are about."""

    job_dir: Path
    name: str = "a"


def off(there: There, job: Any) -> str | None:
    with there.catalog.transaction() as c:
        projection.write_disabled(c, [job])
        return jobs.disabled(c).get("a")


def test_files_here_say_whether_a_job_is_off_unless_another_machine_has_the_journal(
    there: There, tmp_path: Path
) -> None:
    job: Any = FakeJob(tmp_path / "a")
    job.job_dir.mkdir()
    with there.catalog.transaction() as c:
        jobs.register(c, ["a"], there.catalog.now(c))
    assert off(there, job) is None
    disable(job, "fo-1")
    assert off(there, job) == "fo-1"
    # Its journal is not here, or has not ended: what the catalog knows stays.
    enable(job, "fo-1")
    assert off(there, job) == "fo-1"
    there.join("m1")
    assert there.round() == []
    folder = job.job_dir / "failovers" / "fo-1"
    folder.mkdir(parents=True)
    lines = ['"kind":"begin","data":{}', '"kind":"event","event":"given up","data":{}']
    (folder / "journal.jsonl").write_text(
        "".join(
            f'{{"n":{n},"epoch":1,"time":"2026-01-01T00:00:00+00:00",{line}}}\n'
            for n, line in enumerate(lines)
        )
    )
    assert off(there, job) is None
    assert len(there.round()) == 1
    # One that is about to begin here; it does not begin after all.
    projection.reserve_job(there.catalog, job, "fo-2")
    assert off(there, job) == "fo-2"
    with there.catalog.transaction() as c:
        projection.release_job(c, job, "fo-2")
    assert off(there, job) is None


# -- runs -----------------------------------------------------------------------------------------


def point(id_: str, *suspicions: str) -> RecoveryPoint:
    return RecoveryPoint(
        id=id_,
        job="a",
        source_vm="u",
        source_name="a",
        time=datetime.now(UTC),
        level=Level.CRASH,
        requested=Level.CRASH,
        disks=(),
        suspicions=suspicions,
    )


@dataclass
class Report:
    point: RecoveryPoint
    points: int
    removed_points: tuple[str, ...] = ()
    seconds: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}


def mover(there: There, job: Any, run: Any, found: tuple[RecoveryPoint, ...] = ()) -> RunWorker:
    lease = Lease(lambda: True, lambda: None, TTL)
    lease.renew_once()
    on_event = there.plan.on_event
    return RunWorker(
        "m1", there.catalog, lease, {"a": job}, on_event, run=run, read_points=lambda _: found
    )


def test_the_catalog_keeps_the_points_and_a_flagged_one_is_told(
    there: There, tmp_path: Path
) -> None:
    there.join("m1")
    job: Any = FakeJob(tmp_path / "a")
    told = there.told

    def one(report: Report, found: tuple[RecoveryPoint, ...] = ()) -> list[str]:
        ((run, _, _),) = there.round()
        told.clear()
        assert mover(there, job, lambda *_, **__: report, found).execute(run) == "done"
        rows = there.catalog.read(sa.select(tables.points))
        return sorted(row["id"] for row in rows)

    assert one(Report(point("p1"), 1)) == ["p1"]
    assert one(Report(point("p2"), 1, ("p1",))) == ["p2"]
    # The destination has another one, of which the catalog did not know.
    here = (point("p0"), point("p2"), point("p3", "most of it is random"))
    assert one(Report(here[2], 3), here) == ["p0", "p2", "p3"]
    assert told == ["run done: a", "point flagged: a"]
    assert [r["what"] for r in there.catalog.audit_trail("a", limit=2)] == [
        "point flagged",
        "run done",
    ]
    assert job_status(there.catalog, RULES)[0].flagged == "p3"


def test_a_run_of_a_job_that_a_failover_has_switched_off_is_none_that_failed(
    there: There, tmp_path: Path
) -> None:
    there.join("m1")
    job: Any = FakeJob(tmp_path / "a")
    job.job_dir.mkdir()
    ((run, _, _),) = there.round()
    disable(job, "fo-1")

    def refused(*_: Any, **__: Any) -> Any:
        raise JobDisabled(job="a", failover="fo-1")

    assert mover(there, job, refused).execute(run) == "cancelled"
    assert there.state == "disabled"
    assert there.round() == []


def test_a_database_that_is_away_neither_stops_a_run_nor_loses_what_it_made(
    there: There, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.join("m1")
    ((run, _, _),) = there.round()
    away = {"tries": 0}
    true = Catalog.transaction

    def transaction(self: Catalog) -> Any:
        if away["tries"]:
            away["tries"] -= 1
            raise sa.exc.OperationalError("SELECT", {}, Exception("gone"))
        return true(self)

    def work(*_: Any, fence: Any, **__: Any) -> Report:
        away["tries"] = 3
        fence.clock = lambda: 1e9
        fence()
        return Report(point("p1"), 1)

    monkeypatch.setattr(Catalog, "transaction", transaction)
    monkeypatch.setattr("vreplica.service.catalog.database.RETRY_S", 0.01)
    job: Any = FakeJob(tmp_path / "a")
    assert mover(there, job, work).execute(run) == "done"
    assert away["tries"] == 0
    with there.catalog.transaction() as c:
        assert runs.close_unreported(c, run, there.catalog.now(c), "a defect") is None


def test_a_run_writes_nothing_after_a_catalog_that_hung_until_its_lease_was_over(
    there: There, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.join("m1")
    ((run, _, _),) = there.round()
    job: Any = FakeJob(tmp_path / "a")
    done: list[str] = []

    def work(*_: Any, fence: Any, **__: Any) -> Report:
        fence.clock = lambda: 1e9

        def hangs(self: Catalog) -> Any:
            fence.lease._valid_until = float("-inf")
            raise sa.exc.OperationalError("SELECT", {}, Exception("gone"))

        with monkeypatch.context() as m:
            m.setattr(Catalog, "transaction", hangs)
            fence()
        done.append("written")
        return Report(point("p1"), 1)

    assert mover(there, job, work).execute(run) == "taken away"
    assert done == []


def test_a_failover_that_waits_is_reported_again_until_somebody_decides(
    there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the guest was asked to shut down, it may go off while nobody looks."""
    began = now = there.catalog.now()
    monkeypatch.setattr(there.catalog, "now", lambda _=None: now)
    other = Dispatcher(
        there.catalog, "m2", RULES, ConcurrencyLimits(), lambda what, *_: there.told.append(what)
    )

    def reminders(minutes: float, state: str | None = None) -> int:
        """How often both movers report it in a round at that time."""
        nonlocal now
        now = began + timedelta(minutes=minutes)
        if state is not None:
            with there.catalog.transaction() as c:
                observed.set_failover(c, "fo-1", "a", state=state, facts={}, now=now)
        there.told.clear()
        there.round()
        other.round({})
        return sum("failover waits" in text for text in there.told)

    assert reminders(0, "shutting-down") == 1, "once by the fleet"
    assert [reminders(m) for m in (1, 14, 15, 16, 31)] == [0, 0, 1, 0, 1]
    assert there.catalog.audit_trail("a")[0]["data"]["state"] == "shutting-down"
    there.join("m1")
    there.ask("or-1", {"do": "resume", "who": "me"})
    assert reminders(60) == 0, "the service works on it"
    assert reminders(90, "undone") == 0
    assert reminders(120, "running") == 0, "it is in service, and waits for its commit"
