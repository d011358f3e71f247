"""The row of each job, from which the planner's record is made. Over one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from vreplica.scheduling.schedule import JobRecord, ScheduleRule
from vreplica.service.catalog import schema
from vreplica.service.catalog import tables as t
from vreplica.service.catalog.tables import ACTIVE, FAILOVER


def register(c: sa.Connection, names: Iterable[str], now: datetime) -> None:
    """Adds the jobs that have no row yet; their schedule counts from now on."""
    known = set(c.execute(sa.select(t.jobs.c.name)).scalars())
    new = [{"name": n, "since": now} for n in names if n not in known]
    if new:
        # Slow to load, and rarely needed.
        from sqlalchemy.dialects import postgresql, sqlite

        # Movers that start together on an empty catalog add the same jobs.
        insert = postgresql.insert if c.dialect.name == "postgresql" else sqlite.insert
        c.execute(insert(t.jobs).on_conflict_do_nothing(), new)


def records(c: sa.Connection, rules: Mapping[str, ScheduleRule]) -> list[JobRecord]:
    """The planner's records of all jobs that have a rule, in the order of their names."""
    active = {
        row.job: row
        for row in c.execute(
            sa.select(t.runs.c.job, t.runs.c.holds).where(t.runs.c.state.in_(ACTIVE))
        )
    }
    requested: set[str] = set()
    open_states = (*ACTIVE, "asked")
    query = sa.select(t.runs.c.job, t.runs.c.state, t.runs.c.order)
    query = query.where(t.runs.c.kind == FAILOVER, t.runs.c.state.in_(open_states))
    for row in c.execute(query):
        # The members of a group have no row of their own, so they count as soon as it is asked.
        members = (row.order or {}).get("members") or ([row.job] if row.state == "asked" else [])
        requested.update(members)
    seen = asked(c)
    found = []
    for row in c.execute(sa.select(t.jobs).order_by(t.jobs.c.name)):
        rule = rules.get(row.name)
        run = active.get(row.name)
        if rule is None:
            continue
        found.append(
            JobRecord(
                name=row.name,
                rule=rule,
                since=row.since,
                last_start=row.last_start,
                last_end=row.last_end,
                failures=row.failures,
                point_time=row.point_time,
                asked=row.point_time is not None or row.name in seen,
                durations_s=tuple(row.durations_s),
                running=run is not None,
                paused=row.paused,
                disabled=row.off is not None or row.name in requested,
                # A run occupies what it took when it began, wherever the VM has moved since.
                resources=tuple(run.holds if run is not None else row.holds),
            )
        )
    return found


def asked(c: sa.Connection) -> set[str]:
    """The jobs whose destination was asked for their points."""
    if not schema.has_0004(c):
        return set()
    return set(c.execute(sa.select(t.job_seen.c.job)).scalars())


def unasked(c: sa.Connection, names: Iterable[str]) -> list[str]:
    """Of these jobs those of which no point is known, and whose destination nobody has asked."""
    query = sa.select(t.jobs.c.name).where(t.jobs.c.point_time.is_not(None))
    known = asked(c) | set(c.execute(query).scalars())
    return [name for name in names if name not in known]


def set_resources(c: sa.Connection, resources: Mapping[str, tuple[str, ...]]) -> None:
    """The hosts and datastores that the next run of each job will occupy."""
    known = {n: tuple(h) for n, h in c.execute(sa.select(t.jobs.c.name, t.jobs.c.holds))}
    for job, occupied in resources.items():
        if known.get(job) != occupied:
            ours = sa.update(t.jobs).where(t.jobs.c.name == job)
            c.execute(ours.values(holds=list(occupied)))


def set_paused(c: sa.Connection, job: str, now: datetime, *, paused: bool) -> bool:
    """False: it was so already. A job that is resumed is planned from now on."""
    values: dict[str, Any] = {"paused": paused} if paused else {"paused": False, "since": now}
    query = sa.update(t.jobs).where(t.jobs.c.name == job, t.jobs.c.paused != paused)
    return c.execute(query.values(values)).rowcount > 0


def forget_last_start(c: sa.Connection, job: str) -> None:
    """After a run that ended without result: cron and every do not wait for their next time."""
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(last_start=None))


def raise_epoch(c: sa.Connection, job: str) -> int:
    """From here on a process with an older epoch may write nothing for the job."""
    up = sa.update(t.jobs).where(t.jobs.c.name == job).values(epoch=t.jobs.c.epoch + 1)
    c.execute(up)
    return epoch(c, job)


def epoch(c: sa.Connection, job: str) -> int:
    return int(c.execute(sa.select(t.jobs.c.epoch).where(t.jobs.c.name == job)).scalar_one())


def set_disabled(c: sa.Connection, job: str, failover: str | None) -> None:
    """`failover`: the id of the failover that disabled the job; None: the job is enabled."""
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(off=failover))


def disabled(c: sa.Connection) -> dict[str, str]:
    """The disabled jobs, with the id of the failover that disabled each."""
    query = sa.select(t.jobs.c.name, t.jobs.c.off).where(t.jobs.c.off.is_not(None))
    return {row.name: row.off for row in c.execute(query)}


def paused(c: sa.Connection) -> set[str]:
    """The jobs whose schedule is paused."""
    return set(c.execute(sa.select(t.jobs.c.name).where(t.jobs.c.paused)).scalars())


def alarms(c: sa.Connection) -> dict[str, str]:
    """The alarm of every job that has one, as of the last round of planning."""
    query = sa.select(t.jobs.c.name, t.jobs.c.alarm).where(t.jobs.c.alarm.is_not(None))
    return {row.name: row.alarm for row in c.execute(query)}


def set_alarm(c: sa.Connection, job: str, alarm: str | None) -> None:
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(alarm=alarm))


def last_movers(c: sa.Connection, names: Iterable[str]) -> dict[str, str]:
    """The mover that ran each job last, and so has its digest maps."""
    query = sa.select(t.jobs.c.name, t.jobs.c.mover).where(t.jobs.c.name.in_(list(names)))
    return {name: mover for name, mover in c.execute(query) if mover}
