"""Who works, and on what: movers, their leases, and runs. Functions over one transaction.

    queued --begin--> running --finish--> done | failed | cancelled
       `-----------------`--- lose: its mover's lease is over, by the database's clock ---> lost

A job has at most one run that is queued or running (an index holds that). Each time a run is
begun, by whichever process, the job's epoch rises; whoever holds an older one may write
nothing more. So a mover that was frozen, or cut off, and comes back, does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from vreplica.scheduling.planner import Start
from vreplica.scheduling.schedule import Rule, Standing
from vreplica.service.catalog import tables as t

ACTIVE = ("queued", "running")
KEPT_DURATIONS = 5
"""How many recent durations speak for the next one."""


@dataclass(frozen=True, slots=True)
class Mover:
    """A process that works, and how much of it is taken."""

    id: str
    capacity: int
    active: int

    @property
    def free(self) -> int:
        return self.capacity - self.active


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to execute a run: good as long as the job's epoch is this one."""

    run: str
    job: str
    epoch: int
    again: bool
    """It was begun before: the point may be there already."""


# -- movers ---------------------------------------------------------------------------------------


def join(c: sa.Connection, mover: str, capacity: int, now: datetime, ttl: timedelta) -> None:
    """Take part from now on; also after a crash, under the same name."""
    c.execute(sa.delete(t.movers).where(t.movers.c.id == mover))
    values = {"id": mover, "capacity": capacity, "joined": now, "until": now + ttl}
    c.execute(sa.insert(t.movers).values(values))


def renew(c: sa.Connection, mover: str, now: datetime, ttl: timedelta) -> bool:
    """False: the lease was over and somebody has taken note; join again."""
    query = sa.update(t.movers).where(t.movers.c.id == mover).values(until=now + ttl)
    return c.execute(query).rowcount > 0


def leave(c: sa.Connection, mover: str) -> None:
    c.execute(sa.delete(t.movers).where(t.movers.c.id == mover))


def movers(c: sa.Connection) -> list[Mover]:
    """All that have a lease, with what they have to do."""
    active = (
        sa.select(t.runs.c.mover, sa.func.count().label("n"))
        .where(t.runs.c.state.in_(ACTIVE))
        .group_by(t.runs.c.mover)
        .subquery()
    )
    query = sa.select(t.movers.c.id, t.movers.c.capacity, sa.func.coalesce(active.c.n, 0))
    query = query.outerjoin(active, active.c.mover == t.movers.c.id).order_by(t.movers.c.id)
    return [Mover(*row) for row in c.execute(query)]


def leases(c: sa.Connection) -> dict[str, datetime]:
    """Until when each mover is believed to live."""
    return {row.id: row.until for row in c.execute(sa.select(t.movers.c.id, t.movers.c.until))}


def lose(
    c: sa.Connection, gone: Mapping[str, datetime], now: datetime
) -> list[tuple[str, str, str, str]]:
    """Runs (id, kind, job, mover) of movers that are `gone` (until when each had its lease; one
    that has renewed since is not), or without a lease: epochs raised, runs lost.

    A failover is not: it stays with its mover, see orders.py.
    """
    for mover, until in gone.items():
        c.execute(sa.delete(t.movers).where(t.movers.c.id == mover, t.movers.c.until == until))
    present = sa.select(t.movers.c.id)
    query = sa.select(t.runs.c.id, t.runs.c.kind, t.runs.c.job, t.runs.c.mover)
    query = query.where(t.runs.c.state.in_(ACTIVE), t.runs.c.mover.not_in(present))
    # One that its mover, back this very moment, is writing the end of is waited for.
    query = query.with_for_update(of=t.runs)
    lost = [(row[0], row[1], row[2], row[3]) for row in c.execute(query)]
    for run, kind, job, _ in lost:
        raise_epoch(c, job)
        if kind == "run":
            c.execute(
                sa.update(t.runs)
                .where(t.runs.c.id == run)
                .values(state="lost", ended=now, error="its mover is gone")
            )
            _plan_anew(c, job)
    return lost


# -- jobs -----------------------------------------------------------------------------------------


def know(c: sa.Connection, names: Iterable[str], now: datetime) -> None:
    """Jobs that are in the file; new ones are seen now for the first time."""
    known = set(c.execute(sa.select(t.jobs.c.name)).scalars())
    new = [{"name": n, "since": now} for n in names if n not in known]
    if new:
        # Movers that begin together on an empty catalog see the same jobs for the first time.
        insert = postgresql.insert if c.dialect.name == "postgresql" else sqlite.insert
        c.execute(insert(t.jobs).on_conflict_do_nothing(), new)


def standings(c: sa.Connection, rules: Mapping[str, Rule]) -> list[Standing]:
    """What the planner needs of every job that has a rule."""
    active = {
        row.job: row
        for row in c.execute(
            sa.select(t.runs.c.job, t.runs.c.holds).where(t.runs.c.state.in_(ACTIVE))
        )
    }
    orders = (t.runs.c.kind == "failover", t.runs.c.state == "asked")
    asked = set(c.execute(sa.select(t.runs.c.job).where(*orders)).scalars())
    found = []
    for row in c.execute(sa.select(t.jobs).order_by(t.jobs.c.name)):
        rule = rules.get(row.name)
        run = active.get(row.name)
        if rule is None:
            continue
        found.append(
            Standing(
                name=row.name,
                rule=rule,
                since=row.since,
                last_start=row.last_start,
                last_end=row.last_end,
                failures=row.failures,
                point_time=row.point_time,
                durations_s=tuple(row.durations_s),
                running=run is not None,
                paused=row.paused,
                off=row.off is not None or row.name in asked,
                # What a run took when it began, wherever the VM has moved since.
                holds=tuple(run.holds if run is not None else row.holds),
            )
        )
    return found


def place(c: sa.Connection, holds: Mapping[str, tuple[str, ...]]) -> None:
    """Where each job's VMs are now: what a run of it will occupy."""
    known = {n: tuple(h) for n, h in c.execute(sa.select(t.jobs.c.name, t.jobs.c.holds))}
    for job, held in holds.items():
        if known.get(job) != held:
            c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(holds=list(held)))


def _plan_anew(c: sa.Connection, job: str) -> None:
    """Its last run was none: cron and every do not wait for their next time."""
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(last_start=None))


def raise_epoch(c: sa.Connection, job: str) -> int:
    up = sa.update(t.jobs).where(t.jobs.c.name == job).values(epoch=t.jobs.c.epoch + 1)
    c.execute(up)
    return epoch(c, job)


def epoch(c: sa.Connection, job: str) -> int:
    return int(c.execute(sa.select(t.jobs.c.epoch).where(t.jobs.c.name == job)).scalar_one())


def set_off(c: sa.Connection, job: str, failover: str | None) -> None:
    """The failover that has switched the job off; None: it is on."""
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(off=failover))


def offs(c: sa.Connection) -> dict[str, str]:
    """Jobs that are off, and by which failover."""
    query = sa.select(t.jobs.c.name, t.jobs.c.off).where(t.jobs.c.off.is_not(None))
    return {row.name: row.off for row in c.execute(query)}


def alarms(c: sa.Connection) -> dict[str, str]:
    """The alarm of every job that has one."""
    query = sa.select(t.jobs.c.name, t.jobs.c.alarm).where(t.jobs.c.alarm.is_not(None))
    return {row.name: row.alarm for row in c.execute(query)}


def set_alarm(c: sa.Connection, job: str, alarm: str | None) -> None:
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(alarm=alarm))


# -- runs -----------------------------------------------------------------------------------------


def queue(c: sa.Connection, runs: Sequence[tuple[str, Start, str]], now: datetime) -> None:
    """Runs (id, start, mover). The planner has seen that their jobs have none that is active."""
    if not runs:
        return
    rows = [
        {
            "id": run,
            "job": start.job,
            "state": "queued",
            "mover": mover,
            "holds": list(start.holds),
            "due": start.due.at,
            "queued": now,
        }
        for run, start, mover in runs
    ]
    c.execute(sa.insert(t.runs), rows)
    update = sa.update(t.jobs).where(t.jobs.c.name == sa.bindparam("of"))
    values = [{"of": start.job, "last_start": now, "mover": mover} for _, start, mover in runs]
    c.execute(update, values)


def last_movers(c: sa.Connection, jobs: Iterable[str]) -> dict[str, str]:
    """Who ran each job last: its digest maps are there."""
    query = sa.select(t.jobs.c.name, t.jobs.c.mover).where(t.jobs.c.name.in_(list(jobs)))
    return {name: mover for name, mover in c.execute(query) if mover}


def active(c: sa.Connection, mover: str) -> list[tuple[str, str, datetime]]:
    """(id, state, queued) of a mover's runs; failovers are not among them."""
    query = sa.select(t.runs.c.id, t.runs.c.state, t.runs.c.queued)
    mine = (t.runs.c.mover == mover, t.runs.c.kind == "run", t.runs.c.state.in_(ACTIVE))
    query = query.where(*mine)
    return [(row[0], row[1], row[2]) for row in c.execute(query)]


def runs_of(c: sa.Connection, mover: str) -> list[str]:
    """Ids of everything that a mover has to do, runs and failovers."""
    mine = (t.runs.c.mover == mover, t.runs.c.state.in_(ACTIVE))
    return list(c.execute(sa.select(t.runs.c.id).where(*mine)).scalars())


def runner(c: sa.Connection, job: str) -> str | None:
    """The mover that has a run of the job under way."""
    mine = (t.runs.c.job == job, t.runs.c.state.in_(ACTIVE))
    found: str | None = c.execute(sa.select(t.runs.c.mover).where(*mine)).scalar()
    return found


def begin(c: sa.Connection, run: str, mover: str, now: datetime) -> Ticket | None:
    """Take a run up, also once more after a crash. None: it is not this mover's any more."""
    row = c.execute(sa.select(t.runs).where(t.runs.c.id == run)).one_or_none()
    if row is None or row.mover != mover or row.state not in ACTIVE:
        return None
    number = raise_epoch(c, row.job)
    c.execute(
        sa.update(t.runs)
        .where(t.runs.c.id == run)
        .values(state="running", epoch=number, began=row.began or now, tries=row.tries + 1)
    )
    return Ticket(run, row.job, number, row.state == "running")


def finish(
    c: sa.Connection,
    ticket: Ticket,
    now: datetime,
    *,
    state: str,
    result: dict[str, Any] | None = None,
    error: str | None = None,
    point_time: datetime | None = None,
    seconds: float | None = None,
) -> bool:
    """The end of a run. False, and nothing written, where the ticket is out of date."""
    if epoch(c, ticket.job) != ticket.epoch:
        return False
    mine = sa.and_(t.runs.c.id == ticket.run, t.runs.c.state == "running")
    values = {"state": state, "ended": now, "result": result, "error": error}
    if not c.execute(sa.update(t.runs).where(mine).values(values)).rowcount:
        return False
    job = c.execute(sa.select(t.jobs).where(t.jobs.c.name == ticket.job)).one()
    update: dict[str, Any] = {"last_end": now}
    if state == "done":
        update |= {"failures": 0, "point_time": point_time}
        if seconds is not None:
            update["durations_s"] = [*job.durations_s, seconds][-KEPT_DURATIONS:]
    elif state == "failed":
        update["failures"] = job.failures + 1
    elif state == "cancelled":
        update["last_start"] = None
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == ticket.job).values(update))
    return True


def abandon(
    c: sa.Connection, run: str, now: datetime, reason: str, state: str = "lost"
) -> str | None:
    """A run that ended without saying so; its job. None: it has said so meanwhile."""
    mine = sa.and_(t.runs.c.id == run, t.runs.c.state.in_(ACTIVE))
    values = {"state": state, "ended": now, "error": reason}
    if not c.execute(sa.update(t.runs).where(mine).values(values)).rowcount:
        return None
    row = c.execute(sa.select(t.runs.c.job, t.runs.c.kind).where(t.runs.c.id == run)).one()
    raise_epoch(c, row.job)
    if row.kind == "run":
        _plan_anew(c, row.job)
    return str(row.job)


# -- what the destination and the journals say ----------------------------------------------------


def set_points(
    c: sa.Connection, job: str, points: Sequence[tuple[str, datetime, str, dict[str, Any]]]
) -> None:
    """A job's recovery points (id, time, level, description), oldest first: these and no others."""
    c.execute(sa.delete(t.points).where(t.points.c.job == job))
    rows = [
        {"job": job, "id": i, "time": m, "level": level, "description": text}
        for i, m, level, text in points
    ]
    if rows:
        c.execute(sa.insert(t.points), rows)
    newest = max((moment for _, moment, _, _ in points), default=None)
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(point_time=newest))


def add_point(
    c: sa.Connection,
    job: str,
    point: tuple[str, datetime, str, dict[str, Any]],
    removed: Sequence[str],
) -> int:
    """One more point (id, time, level, description), some less; how many that makes."""
    i, moment, level, text = point
    ours = t.points.c.job == job
    c.execute(sa.delete(t.points).where(ours, t.points.c.id.in_([*removed, i])))
    row = {"job": job, "id": i, "time": moment, "level": level, "description": text}
    c.execute(sa.insert(t.points).values(row))
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(point_time=moment))
    return int(c.execute(sa.select(sa.func.count()).where(ours)).scalar_one())


def flagged(c: sa.Connection) -> dict[str, str]:
    """Of each job that has one: the id of its oldest flagged point."""
    query = sa.select(t.points.c.job, t.points.c.id)
    query = query.where(t.points.c.description["flagged"].as_boolean())
    found: dict[str, str] = {}
    for job, id_ in c.execute(query.order_by(t.points.c.time)):
        found.setdefault(job, id_)
    return found


def set_failover(
    c: sa.Connection, id_: str, job: str, state: str, facts: dict[str, Any], now: datetime
) -> None:
    c.execute(sa.delete(t.failovers).where(t.failovers.c.id == id_))
    values = {"id": id_, "job": job, "state": state, "facts": facts, "seen": now}
    c.execute(sa.insert(t.failovers).values(values))


def failover_states(c: sa.Connection) -> dict[str, str]:
    """Where each failover stood when its journal was last seen, by its id."""
    query = sa.select(t.failovers.c.id, t.failovers.c.state)
    return {row.id: row.state for row in c.execute(query)}
