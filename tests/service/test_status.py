"""`status` says what is known here, and says so where nothing is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vreplica
from tests.support.job_file import STATE, job_table, site_table
from vreplica.config import Config
from vreplica.failover.live import LiveJob, LiveSide
from vreplica.failover.machine.journal import Journal
from vreplica.failover.machine.states import FailoverEvent
from vreplica.points import Level, RecoveryPoint
from vreplica.points.vm_keys import LEAF_KEY
from vreplica.service import catch_up
from vreplica.service.catalog import by_hand as hand_rows
from vreplica.service.catalog import jobs, movers, observed, projection
from vreplica.service.catalog.database import Catalog
from vreplica.service.catch_up import CatchUp
from vreplica.service.describe_job import as_read
from vreplica.service.status import JobStatus, ServiceStatus, read_status
from vreplica.sync import by_hand
from vreplica.sync.by_hand import HandEntry
from vreplica.sync.job_dir import failovers_below
from vreplica.version import __version__
from vreplica.vsphere.errors import HostUnreachable

TTL = timedelta(seconds=30)
RPO = 'schedule = { rpo = "15m" }\n'
Event = FailoverEvent
INSURED = (Event.JOB_DISABLED, Event.POINT_A_MADE)
RUNNING = (
    *INSURED,
    Event.SHUTDOWN_REQUESTED,
    Event.SOURCE_SEEN_OFF,
    Event.POINT_SETTLED,
    Event.FENCE_CHECKED,
    Event.REPLICA_STARTED,
    Event.REPLICA_ANSWERED,
)
FACTS = {Event.SOURCE_SEEN_OFF: {"off_level": "crash"}, Event.POINT_SETTLED: {"point": "p1"}}
COMMITTED = (*RUNNING, Event.COMMIT_ASKED, Event.DIRECTION_SETTLED)


@dataclass
class Here:
    """A job file with a scheduled job and one that is run by hand, and its catalog."""

    config: Config
    opened: list[Catalog] = field(default_factory=list)

    @property
    def catalog(self) -> Catalog:
        if not self.opened:
            self.opened.append(Catalog.open(self.config.catalog_url()))
        return self.opened[0]

    def serves(self) -> None:
        with self.catalog.transaction() as c:
            movers.join(c, "m1", 4, self.catalog.now(c), TTL)
            jobs.register(c, ["web01"], self.catalog.now(c))

    def knows(self, job: str, *ages_s: float) -> None:
        with self.catalog.transaction() as c:
            now = self.catalog.now(c)
            jobs.register(c, [job], now)
            points = [(f"p{age}", now - timedelta(seconds=age), "crash", {}) for age in ages_s]
            observed.set_points(c, job, points)

    def journal(self, job: str, id_: str, *events: FailoverEvent, **begun: Any) -> None:
        folder = failovers_below(self.config.state_dir / job) / id_
        journal = Journal.begin(folder, {"choices": {}, **begun})
        for event in events:
            journal.write("event", event=event, data=FACTS.get(event, {}))
        journal.close()

    def hand(self, job: str, entry: HandEntry) -> None:
        by_hand.write(self.config.state_dir / job, replace(entry, job=job))

    def read(self) -> ServiceStatus:
        return read_status(self.config)

    def __getitem__(self, job: str) -> JobStatus:
        return next(one for one in self.read().jobs if one.job == job)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setenv("PASSWORD", "p")
    file = tmp_path / "jobs.toml"
    tables = job_table("web01") + RPO + job_table("hand01")
    to_dr = tables.replace('destination = { site = "main"', 'destination = { site = "dr"')
    file.write_text(STATE + site_table() + site_table("dr") + to_dr)
    made = Here(vreplica.load(file))
    yield made
    for catalog in made.opened:
        catalog.close()


def run_by_hand(ago_s: float, error: str | None = None) -> HandEntry:
    ended = datetime.now(UTC) - timedelta(seconds=ago_s)
    began = ended - timedelta(seconds=2)
    result = {} if error else {"point": "ph", "taken": began.isoformat(), "level": "crash"}
    state = "failed" if error else "done"
    return HandEntry(f"h{ago_s}", "run", "", state, "alice@dr1", began, ended, error, result)


# -- nothing is known -------------------------------------------------------------------------


def test_where_nothing_is_known_that_is_said_and_nobody_is_paged(here: Here) -> None:
    found = here.read()
    assert (found.catalog, found.as_of, found.movers) == (None, None, ())
    assert [(one.job, one.scheduled) for one in found.jobs] == [("web01", True), ("hand01", False)]
    for one in found.jobs:
        assert (one.asked, one.age, one.alarm, one.next_at) == (False, None, None, None)
        assert one.vm_at is None, "a failover may not be known here either"
    assert here["web01"].why == "no service is running"
    assert here["hand01"].why == "no schedule (run by hand)"


def test_a_rebuilt_mover_raises_no_alarm_before_its_target_is_over(here: Here) -> None:
    here.serves()
    one = here["web01"]
    assert (one.asked, one.alarm) == (False, None)
    assert "the destination was not asked" in one.why
    with here.catalog.transaction() as c:
        c.execute(jobs.t.jobs.update().values(since=here.catalog.now(c) - timedelta(hours=1)))
    assert here["web01"].alarm == "RPO violated", "nobody could say for an hour"
    here.knows("web01", 20)
    one = here["web01"]
    assert (one.asked, one.alarm, one.point, one.level) == (True, None, "p20", "crash")
    assert one.vm_at == "main"


def test_a_catalog_that_nobody_serves_promises_nothing(here: Here) -> None:
    here.serves()
    here.knows("web01", 1200)
    assert here["web01"].next_at is not None
    with here.catalog.transaction() as c:
        movers.join(c, "m1", 4, here.catalog.now(c) - timedelta(hours=1), TTL)
    found = here.read()
    assert not found.to_dict()["at_work"]
    (one, _) = found.jobs
    assert (one.next_at, one.why, one.alarm) == (None, "no service is running", "RPO violated")


def test_the_service_is_shown_with_its_leases_versions_and_the_catalogs_age(here: Here) -> None:
    here.serves()
    found = here.read().to_dict()
    (mover,) = found["movers"]
    assert (mover["mover"], mover["version"], mover["at_work"]) == ("m1", __version__, True)
    assert 0 <= found["age_s"] < 60


# -- runs by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize("job", ["web01", "hand01"])
@pytest.mark.parametrize("taken_in", [False, True])
def test_the_point_of_a_run_by_hand_counts(here: Here, job: str, taken_in: bool) -> None:
    here.hand(job, run_by_hand(30))
    if taken_in:
        projection.take_in(here.catalog, here.config.state_dir / job)
        assert by_hand.read(here.config.state_dir / job) == ()
        assert [row["what"] for row in here.catalog.audit_trail(job)] == ["run done by hand"]
    one = here[job]
    assert one.age is not None
    assert 30 <= one.age.total_seconds() < 90
    assert (one.point, one.asked, one.vm_at, one.state) == ("ph", True, "main", "idle")


def test_a_failure_is_shown_with_its_cause_until_a_run_makes_a_point(here: Here) -> None:
    here.hand("hand01", run_by_hand(300))
    here.hand("hand01", run_by_hand(60, "the host is away\nmore"))
    one = here["hand01"]
    assert (one.state, one.failures, one.error) == ("failing", 1, "the host is away\nmore")
    assert one.why == "last run failed: the host is away; no schedule (run by hand)"
    assert one.failed_at is not None
    here.hand("hand01", run_by_hand(10))
    assert (here["hand01"].state, here["hand01"].error) == ("idle", None)


def test_what_was_done_without_a_catalog_is_taken_in_once(here: Here) -> None:
    folder = here.config.state_dir / "web01"
    here.hand("web01", run_by_hand(60, "no route"))
    line = (folder / "by-hand.jsonl").read_text()
    for _ in range(2):
        (folder / "by-hand.jsonl").write_text(line)
        projection.take_in(here.catalog, folder)
    (row,) = here.catalog.history(["web01"])
    assert (row["who"], row["state"], row["error"]) == ("alice@dr1", "failed", "no route")
    assert len(here.catalog.audit_trail("web01")) == 1


# -- failovers ----------------------------------------------------------------------------------


def test_a_failover_of_this_machine_is_shown_without_a_catalog(here: Here) -> None:
    here.journal("hand01", "fo-20261130T100000Z-1", *INSURED)
    one = here["hand01"]
    assert (one.state, one.vm_at, one.vm_off) == ("failing over", "main", False)
    assert one.why == "moving to dr: safety point made, fo-20261130T100000Z-1"


def test_a_failback_under_way_is_shown_by_the_names_of_the_sites(here: Here) -> None:
    here.knows("web01", 1e6)
    here.journal("web01", "fo-20261130T100000Z-1", *COMMITTED)
    one = here["web01"]
    assert (one.state, one.vm_at, one.alarm) == ("disabled", "dr", None)
    assert one.why == "in service at dr (failover committed), fo-20261130T100000Z-1"
    # The clock was set back between the two.
    here.journal("web01", "fb-20261129T100000Z-2", *INSURED, number=2)
    one = here["web01"]
    assert (one.state, one.vm_at) == ("failing over", "dr")
    assert one.why.startswith("moving back to main: safety point made")


def test_members_of_a_group_have_states_of_their_own(here: Here) -> None:
    with here.catalog.transaction() as c:
        now = here.catalog.now(c)
        jobs.register(c, ["web01", "hand01"], now)
        for job, state in (("web01", "running"), ("hand01", "synced")):
            observed.set_failover(c, "fo-1", job, state=state, facts={}, now=now)
            jobs.set_disabled(c, job, "fo-1")
    assert (here["web01"].vm_at, here["web01"].vm_off) == ("dr", False)
    assert (here["hand01"].vm_at, here["hand01"].vm_off) == (None, True)
    assert "off at main, point chosen" in here["hand01"].why


def test_a_journal_that_cannot_be_read_hides_no_other_job(here: Here) -> None:
    here.journal("web01", "fo-20261130T100000Z-1", *INSURED)
    (here.config.state_dir / "web01/failovers/fo-20261130T100000Z-1/journal.jsonl").write_text(
        "{\n"
    )
    one = here["web01"]
    assert (one.state, one.vm_at, one.next_at) == ("disabled", None, None)
    assert "journal" in one.why
    assert here["hand01"].why == "no schedule (run by hand)"


# -- the service asks when it starts --------------------------------------------------------------


def a_point(id_: str) -> RecoveryPoint:
    time = datetime.now(UTC) - timedelta(seconds=40)
    level = Level.CRASH
    return RecoveryPoint(id_, "web01", "u", "web01", time, level, level, ())


@dataclass
class Destination:
    """The replicas of one site; `away`: it does not answer."""

    replicas: dict[str, Any] = field(default_factory=dict)
    away: bool = False

    @contextmanager
    def connect(self, _: Any) -> Iterator[Destination]:
        if self.away:
            raise HostUnreachable("vc.dr", 443, "refused")
        yield self


def a_replica(*points: RecoveryPoint, leaf: str = "") -> Any:
    return SimpleNamespace(
        points=points, newer=(), vm=SimpleNamespace(extra_config={LEAF_KEY: leaf})
    )


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Destination:
    made = Destination()
    monkeypatch.setattr(catch_up, "find_replica", lambda site, job: site.replicas.get(job.name))
    return made


def asks(here: Here, site: Destination) -> None:
    CatchUp(here.config, here.catalog, connect=site.connect).once()  # type: ignore[arg-type]


def test_the_points_of_a_destination_are_known_again_of_every_job(
    here: Here, site: Destination, caplog: pytest.LogCaptureFixture
) -> None:
    here.serves()
    site.replicas["web01"] = a_replica(a_point("p1"), a_point("p2"))
    site.away = True
    with caplog.at_level(logging.WARNING):
        asks(here, site)
    assert "site dr cannot say which points there are" in caplog.text
    assert not here["web01"].asked
    site.away = False
    asks(here, site)
    one, hand = here["web01"], here["hand01"]
    assert (one.point, one.asked, one.vm_at) == ("p2", True, "main")
    assert (hand.point, hand.asked, hand.age) == (None, True, None)


def test_points_that_a_run_has_written_meanwhile_are_not_replaced(here: Here) -> None:
    here.knows("web01", 5)
    assert not projection.write_points_if_unknown(here.catalog, "web01", (a_point("old"),))
    assert here["web01"].point == "p5"


def test_a_replica_that_a_lost_failover_has_booted_is_not_said_to_be_at_home(
    here: Here, site: Destination
) -> None:
    here.serves()
    site.replicas["web01"] = a_replica(a_point("p1"), leaf="booted by fo-9")
    asks(here, site)
    one = here["web01"]
    assert (one.state, one.vm_at, one.alarm) == ("disabled", "dr", None)
    assert one.why == "in service at dr (its journal is not known here), fo-9"
    # Somebody has put it back, from another machine.
    site.replicas["web01"] = a_replica(a_point("p1"))
    asks(here, site)
    assert (here["web01"].state, here["web01"].vm_at) == ("idle", "main")


def test_an_older_catalog_is_told_nothing_that_it_cannot_hold(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.hand("web01", run_by_hand(5))
    monkeypatch.setattr("vreplica.service.catalog.schema.has_0004", lambda c: False)
    projection.take_in(here.catalog, here.config.state_dir / "web01")
    assert len(by_hand.read(here.config.state_dir / "web01")) == 1
    with here.catalog.transaction() as c:
        assert hand_rows.latest(c) == []


def test_a_vm_whose_site_cannot_be_read_is_not_said_to_be_there(here: Here) -> None:
    here.hand("web01", run_by_hand(30))
    off, away = (
        LiveSide("dr", "r", "poweredOff", True),
        LiveSide("main", "web01", trouble="refused"),
    )
    on = LiveSide("main", "web01", "poweredOn", True)
    assert here["web01"].vm_at == "main"
    assert as_read(here["web01"], LiveJob(on, off)).vm_at == "main"
    assert as_read(here["web01"], LiveJob(away, off)).vm_at is None
