"""Runs in the catalog: one a job, epochs, leases, and the runs of a mover that is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from vreplica.points import Level
from vreplica.scheduling.planner import ConcurrencyLimits, RunStart
from vreplica.scheduling.schedule import Cron, DueRun, Every, Rpo, ScheduleRule
from vreplica.service.catalog import jobs, movers, observed, runs
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.errors import CatalogTooNew, CatalogUnreachable
from vreplica.service.dispatcher import Dispatcher
from vreplica.service.lease import LeaseWatch
from vreplica.service.status import job_status

TTL = timedelta(seconds=30)
RULE = ScheduleRule(Every(timedelta(hours=1)))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite")
    yield opened
    opened.close()


def dispatcher(catalog: Catalog, mover: str = "m1", **more: object) -> tuple[Dispatcher, list[str]]:
    told: list[str] = []
    rules = {"a": RULE, "b": RULE}
    made = Dispatcher(
        catalog,
        mover,
        rules,
        ConcurrencyLimits(),
        lambda what, job, data: told.append(f"{what}: {job}"),
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made, told


def join(catalog: Catalog, mover: str, capacity: int = 4, ago: float = 0.0) -> None:
    with catalog.transaction() as c:
        now = catalog.now(c) - timedelta(seconds=ago)
        movers.join(c, mover, capacity, now, TTL)


def states(catalog: Catalog) -> dict[str, str]:
    return {row["job"]: row["state"] for row in reversed(catalog.history())}


def test_a_round_queues_each_due_job_once(catalog: Catalog) -> None:
    join(catalog, "m1")
    plan, _ = dispatcher(catalog)
    assert sorted(q.job for q in plan.round({})) == ["a", "b"]
    assert plan.round({}) == []
    assert states(catalog) == {"a": "queued", "b": "queued"}


def test_the_database_refuses_a_second_active_run_of_a_job(catalog: Catalog) -> None:
    join(catalog, "m1")
    start = RunStart("a", DueRun(datetime.now(UTC), datetime.now(UTC)), ())
    with catalog.transaction() as c:
        jobs.register(c, ["a"], catalog.now(c))
        runs.queue(c, [("r1", start, "m1")], catalog.now(c))
        with pytest.raises(sa.exc.IntegrityError):
            runs.queue(c, [("r2", start, "m1")], catalog.now(c))
    assert [row["id"] for row in catalog.history()] == ["r1"]


def test_no_more_is_queued_than_the_movers_have_room_for(catalog: Catalog) -> None:
    join(catalog, "m1", capacity=1)
    plan, _ = dispatcher(catalog)
    assert len(plan.round({})) == 1
    join(catalog, "m2", capacity=1)
    (second,) = plan.round({})
    assert second.mover == "m2"


def test_a_job_goes_to_the_mover_that_ran_it_last(catalog: Catalog) -> None:
    join(catalog, "m1")
    join(catalog, "m2")
    plan, _ = dispatcher(catalog)
    first = {q.job: q for q in plan.round({})}
    with catalog.transaction() as c:
        now = catalog.now(c)
        for queued in first.values():
            ticket = runs.begin(c, queued.id, queued.mover, now)
            assert ticket is not None
            assert runs.finish(c, ticket, now, state="done", point_time=now, seconds=1.0)
        # Due again at once.
        again_due(c)
    again = {q.job: q for q in plan.round({})}
    assert {j: q.mover for j, q in again.items()} == {j: q.mover for j, q in first.items()}


def test_a_run_taken_up_again_gets_a_new_epoch_and_the_old_ticket_writes_nothing(
    catalog: Catalog,
) -> None:
    join(catalog, "m1")
    plan, _ = dispatcher(catalog)
    run = next(q.id for q in plan.round({}) if q.job == "a")
    with catalog.transaction() as c:
        now = catalog.now(c)
        old = runs.begin(c, run, "m1", now)
        new = runs.begin(c, run, "m1", now)
        assert old is not None
        assert new is not None
        assert (old.begun_before, new.begun_before) == (False, True)
        assert new.epoch > old.epoch
        assert not runs.finish(c, old, now, state="failed", error="late")
        assert runs.finish(c, new, now, state="done", point_time=now)
        assert not runs.finish(c, new, now, state="failed", error="twice")
    assert states(catalog)["a"] == "done"


class Clock:
    """This process's own, wherever the one on the wall is set to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def watching(catalog: Catalog, clock: Clock) -> LeaseWatch:
    watch = LeaseWatch(TTL * 4 / 3, clock)
    look(catalog, watch)
    return watch


def look(catalog: Catalog, watch: LeaseWatch) -> None:
    with catalog.transaction() as c:
        watch.observe(movers.leases(c))


def renew(catalog: Catalog, mover: str) -> None:
    with catalog.transaction() as c:
        assert movers.renew(c, mover, catalog.now(c), TTL)


def again_due(c: sa.Connection) -> None:
    c.execute(sa.text("UPDATE vr_job SET last_start = '2026-01-01T00:00:00.000000+00:00'"))


def test_runs_of_a_mover_that_is_gone_are_lost_and_begin_elsewhere(catalog: Catalog) -> None:
    join(catalog, "m1")
    clock = Clock()
    watch = watching(catalog, clock)
    plan, told = dispatcher(catalog, watch=watch)
    queued = {q.job: q.id for q in plan.round({})}
    with catalog.transaction() as c:
        ticket = runs.begin(c, queued["a"], "m1", catalog.now(c))
    assert ticket is not None
    join(catalog, "m2")
    clock.now += 39
    renew(catalog, "m2")
    look(catalog, watch)
    # Within the lease and a third more nothing is taken from it.
    assert plan.round({}) == []
    clock.now += 2
    again = plan.round({})
    assert {q.mover for q in again} == {"m2"}
    assert {q.job for q in again} == {"a", "b"}
    assert sorted(told) == ["run lost: a", "run lost: b"]
    with catalog.transaction() as c:
        now = catalog.now(c)
        assert runs.begin(c, queued["b"], "m1", now) is None
        assert not runs.finish(c, ticket, now, state="done", point_time=now)


@pytest.mark.parametrize("when", [Cron("0 * * * *"), Every(timedelta(days=1))])
def test_a_run_that_was_cancelled_does_not_wait_for_its_next_time(
    catalog: Catalog, when: Cron | Every
) -> None:
    join(catalog, "m1")
    plan, _ = dispatcher(catalog, rules={"a": ScheduleRule(when)})
    with catalog.transaction() as c:
        jobs.register(c, ["a"], catalog.now(c) - timedelta(hours=2))
    for state in ("cancelled", "abandoned"):
        (queued,) = plan.round({})
        with catalog.transaction() as c:
            now = catalog.now(c)
            ticket = runs.begin(c, queued.id, "m1", now)
            assert ticket is not None
            if state == "cancelled":
                assert runs.finish(c, ticket, now, state=state)
            else:
                assert runs.close_unreported(c, queued.id, now, "it ended without a result") == "a"
    assert [q.job for q in plan.round({})] == ["a"]
    assert plan.round({}) == []


def test_one_that_renews_after_it_was_given_up_but_before_the_round_keeps_its_runs(
    catalog: Catalog,
) -> None:
    join(catalog, "m1")
    clock = Clock()
    watch = watching(catalog, clock)
    plan, told = dispatcher(catalog, watch=watch)
    assert len(plan.round({})) == 2
    clock.now += 100
    renew(catalog, "m1")
    assert plan.round({}) == []
    assert told == []


@pytest.mark.parametrize("jump", [timedelta(hours=3), timedelta(hours=-3)])
def test_a_clock_that_jumps_makes_nobody_dead_and_keeps_nobody_alive(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    join(catalog, "m1")
    join(catalog, "m2")
    clock = Clock()
    watch = watching(catalog, clock)
    plan, told = dispatcher(catalog, watch=watch)
    first = {q.job: q for q in plan.round({})}
    now = Catalog.now
    monkeypatch.setattr(Catalog, "now", lambda self, c=None: now(self, c) + jump)
    assert plan.round({}) == []
    assert told == []
    clock.now += 30
    renew(catalog, "m1")
    look(catalog, watch)
    clock.now += 15
    plan.round({})
    assert told == [f"run lost: {q.job}" for q in first.values() if q.mover == "m2"]
    assert told


def test_an_alarm_is_told_when_it_comes_and_when_it_goes(catalog: Catalog) -> None:
    join(catalog, "m1", capacity=1)
    rule = ScheduleRule(Rpo(timedelta(minutes=15)))
    plan, told = dispatcher(catalog, rules={"a": rule})
    (queued,) = plan.round({})
    with catalog.transaction() as c:
        now = catalog.now(c)
        c.execute(
            sa.text("UPDATE vr_job SET point_time = :t"),
            {"t": (now - timedelta(hours=1)).isoformat()},
        )
    plan.round({})
    plan.round({})
    assert told == ["RPO violated: a"]
    with catalog.transaction() as c:
        ticket = runs.begin(c, queued.id, "m1", now)
        assert ticket is not None
        runs.finish(c, ticket, now, state="done", point_time=now, seconds=2.0)
    plan.round({})
    assert told == ["RPO violated: a", "RPO kept again: a"]
    assert [row["what"] for row in catalog.audit_trail("a")] == ["RPO kept again", "RPO violated"]


def fail_over(c: sa.Connection, now: datetime) -> None:
    jobs.set_disabled(c, "a", "fo-1")


def pause(c: sa.Connection, now: datetime) -> None:
    assert jobs.set_paused(c, "a", now, paused=True)


@pytest.mark.parametrize("stop", [fail_over, pause])
def test_nothing_is_said_to_be_kept_again_where_somebody_has_stopped_a_job(
    catalog: Catalog, stop: Callable[[sa.Connection, datetime], None]
) -> None:
    plan, told = dispatcher(catalog, rules={"a": ScheduleRule(Rpo(timedelta(minutes=15)))})
    with catalog.transaction() as c:
        jobs.register(c, ["a"], catalog.now(c) - timedelta(hours=1))
    plan.round({})
    with catalog.transaction() as c:
        stop(c, catalog.now(c))
    plan.round({})
    assert told == ["RPO violated: a"]
    with catalog.transaction() as c:
        assert jobs.alarms(c) == {}


def test_status_says_what_comes_next(catalog: Catalog) -> None:
    rules = {"a": RULE, "b": ScheduleRule(Rpo(timedelta(minutes=15)))}
    for one in job_status(catalog, rules):
        assert (one.why, one.next_at) == ("no service is running", None)
    join(catalog, "m1")
    found = {s.job: s for s in job_status(catalog, rules)}
    assert found["a"].why == "every 1 h"
    assert found["b"].why == "no recovery point is known here; the destination was not asked"
    assert catalog.pause("a", "me", paused=True)
    assert not catalog.pause("a", "me", paused=True)
    assert next(s for s in job_status(catalog, rules) if s.job == "a").state == "paused"
    assert catalog.audit_trail("a")[0]["who"] == "me"


def test_points_of_the_destination_replace_what_was_known(catalog: Catalog) -> None:
    with catalog.transaction() as c:
        now = catalog.now(c)
        jobs.register(c, ["a"], now)
        point = ("p1", now, str(Level.CRASH), {"id": "p1"})
        observed.set_points(c, "a", [point, ("p2", now + TTL, str(Level.CRASH), {})])
        observed.set_points(c, "a", [point])
    (row,) = catalog.read(sa.text("SELECT id, job FROM vr_point").columns())  # type: ignore[arg-type]
    assert row == {"id": "p1", "job": "a"}
    rules = {"a": RULE}
    assert job_status(catalog, rules)[0].age is not None
    with catalog.transaction() as c:
        observed.set_points(c, "a", [])
    assert job_status(catalog, rules)[0].age is None


def test_a_catalog_of_a_later_version_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    with catalog.transaction() as c:
        c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CatalogTooNew, match="9999"):
        Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite")


def test_a_database_that_is_not_there_is_said_so() -> None:
    with pytest.raises(CatalogUnreachable, match="cannot open the catalog") as caught:
        Catalog.open("postgresql://me:secret@127.0.0.1:1/nothing")
    assert "secret" not in str(caught.value)


def test_a_run_after_a_clock_was_set_back_can_be_read_again(catalog: Catalog) -> None:
    plan, _ = dispatcher(catalog, rules={"a": RULE})
    join(catalog, "m1")
    with catalog.transaction() as c:
        jobs.register(c, ["a"], catalog.now(c) + timedelta(hours=3))
    assert [q.job for q in plan.round({})] == ["a"]
    (row,) = catalog.history()
    assert row["due"].year == 1970
    # As version 0.1 stored it.
    with catalog.transaction() as c:
        c.execute(sa.text("UPDATE vr_run SET due = '0001-01-01T00:07:00.000000+00:00'"))
    (row,) = catalog.history()
    assert (row["due"].year, row["due"].minute) == (1970, 7)
