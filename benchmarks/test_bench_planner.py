"""Benchmarks of a planning round with 10,000 jobs: alone, and with a catalog in SQLite."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from vreplica.hours import Hours, Opening
from vreplica.scheduling.planner import ConcurrencyLimits, plan_round
from vreplica.scheduling.schedule import Cron, Every, JobRecord, Rpo, ScheduleRule
from vreplica.service.catalog import jobs, movers
from vreplica.service.catalog.database import Catalog
from vreplica.service.dispatcher import Dispatcher

NOW = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)


def records(n: int) -> list[JobRecord]:
    """A third of the jobs each: cron at different times, an interval, an RPO with windows."""
    zone = ZoneInfo("Europe/Berlin")
    night = Opening((Hours.parse("mon-fri 20:00-06:00"), Hours.parse("sat,sun")))
    made = []
    for i in range(n):
        when = (
            Cron(f"{i % 60} {i // 60 % 24} * * *"),
            Every(timedelta(hours=1)),
            Rpo(timedelta(minutes=15)),
        )[i % 3]
        age = timedelta(seconds=i % 5000)
        made.append(
            JobRecord(
                name=f"vm{i}",
                rule=ScheduleRule(when, zone=zone, opening=night, rpo=timedelta(hours=30)),
                since=NOW - timedelta(days=9),
                last_start=NOW - age,
                last_end=NOW - age / 2,
                point_time=NOW - age,
                durations_s=(30.0, 40.0, 50.0),
                running=i % 50 == 0,
                resources=(f"host:a/{i % 200}", f"datastore:a/{i % 100}", f"host:b/{i % 199}"),
            )
        )
    return made


def test_a_round_with_10000_jobs(benchmark: Any) -> None:
    fleet = records(10_000)
    tick = benchmark(lambda: plan_round(NOW, fleet, ConcurrencyLimits()))
    assert tick.starts
    assert tick.waiting


def test_a_round_with_10000_jobs_and_the_catalog(benchmark: Any, tmp_path: Path) -> None:
    """A round of the service: read all, plan, queue the runs that begin, at most 480."""
    fleet = {job.name: job for job in records(10_000)}
    rules = {name: job.rule for name, job in fleet.items()}

    def fresh() -> tuple[tuple[Dispatcher], dict[str, Any]]:
        catalog = Catalog.open(f"sqlite:///{tmp_path / f'{len(list(tmp_path.iterdir()))}.sqlite'}")
        with catalog.transaction() as c:
            now = catalog.now(c)
            movers.join(c, "m1", 480, now, timedelta(minutes=5))
            jobs.register(c, rules, now)
            jobs.set_resources(c, {name: job.resources for name, job in fleet.items()})
        limits = ConcurrencyLimits(total=480)
        return (Dispatcher(catalog, "m1", rules, limits, lambda *_: None),), {}

    queued = benchmark.pedantic(lambda plan: plan.round({}), setup=fresh, rounds=5)
    assert len(queued) > 100
