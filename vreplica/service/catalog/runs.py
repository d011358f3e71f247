"""Runs, from the queue to their end. Functions over one transaction.

    queued --begin--> running --finish--> done | failed | cancelled
       |                 |
       `--- mark_lost ---`--> lost    the lease of its mover is over
       `- close_unreported -> lost    it ended without reporting a result

A job has at most one run that is queued or running; an index holds that. Each time a process
begins a run, the job's epoch rises, and a process with an older epoch may write nothing more. So a
mover that was frozen, or cut off, and comes back has no effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from vreplica.scheduling.planner import RunStart
from vreplica.service.catalog import jobs
from vreplica.service.catalog import tables as t
from vreplica.service.catalog.tables import ACTIVE

KEPT_DURATIONS: Final = 5
"""Recent durations from which the next one is estimated."""


@dataclass(frozen=True, slots=True)
class RunTicket:
    """The right to execute a run. It ends when the job's epoch is another one."""

    run: str
    job: str
    epoch: int
    begun_before: bool
    """A process has begun the run earlier, and its point may exist already."""


def mark_lost(
    c: sa.Connection, gone: Mapping[str, datetime], now: datetime
) -> list[tuple[str, str, str, str]]:
    """Ends the active runs of movers without a lease. Returns their (id, kind, job, mover).

    `gone`: movers whose lease is over, with the end of that lease; one that has renewed it since
    keeps its runs. A run becomes lost and its job is planned anew. A failover only gets a new
    epoch here: failover_requests.mark_lost decides about it.
    """
    for mover, until in gone.items():
        c.execute(sa.delete(t.movers).where(t.movers.c.id == mover, t.movers.c.until == until))
    present = sa.select(t.movers.c.id)
    query = sa.select(t.runs.c.id, t.runs.c.kind, t.runs.c.job, t.runs.c.mover)
    query = query.where(t.runs.c.state.in_(ACTIVE), t.runs.c.mover.not_in(present))
    # Waits for a run whose mover has come back and is recording its end.
    query = query.with_for_update(of=t.runs)
    lost = [(row[0], row[1], row[2], row[3]) for row in c.execute(query)]
    for run, kind, job, _ in lost:
        jobs.raise_epoch(c, job)
        if kind == "run":
            c.execute(
                sa.update(t.runs)
                .where(t.runs.c.id == run)
                .values(state="lost", ended=now, error="its mover is gone")
            )
            jobs.forget_last_start(c, job)
    return lost


def queue(c: sa.Connection, starts: Sequence[tuple[str, RunStart, str]], now: datetime) -> None:
    """Adds runs (id, start, mover). Their jobs have no active run, as the planner has seen."""
    if not starts:
        return
    rows = [
        {
            "id": run,
            "job": start.job,
            "state": "queued",
            "mover": mover,
            "holds": list(start.resources),
            "due": start.due.at,
            "queued": now,
        }
        for run, start, mover in starts
    ]
    c.execute(sa.insert(t.runs), rows)
    update = sa.update(t.jobs).where(t.jobs.c.name == sa.bindparam("of"))
    values = [{"of": start.job, "last_start": now, "mover": mover} for _, start, mover in starts]
    c.execute(update, values)


def active(c: sa.Connection, mover: str) -> list[str]:
    """Ids of the active runs of a mover, without failovers."""
    mine = (t.runs.c.mover == mover, t.runs.c.kind == "run", t.runs.c.state.in_(ACTIVE))
    return list(c.execute(sa.select(t.runs.c.id).where(*mine)).scalars())


def open_of(c: sa.Connection, mover: str) -> list[str]:
    """Ids of the active runs and failovers of a mover."""
    mine = (t.runs.c.mover == mover, t.runs.c.state.in_(ACTIVE))
    return list(c.execute(sa.select(t.runs.c.id).where(*mine)).scalars())


def mover_of(c: sa.Connection, job: str) -> str | None:
    """The mover of the job's active run or failover."""
    mine = (t.runs.c.job == job, t.runs.c.state.in_(ACTIVE))
    found: str | None = c.execute(sa.select(t.runs.c.mover).where(*mine)).scalar()
    return found


def begin(c: sa.Connection, run: str, mover: str, now: datetime) -> RunTicket | None:
    """Begins a run, also once more after a crash. None: it is not this mover's any more."""
    row = c.execute(sa.select(t.runs).where(t.runs.c.id == run)).one_or_none()
    if row is None or row.mover != mover or row.state not in ACTIVE:
        return None
    number = jobs.raise_epoch(c, row.job)
    c.execute(
        sa.update(t.runs)
        .where(t.runs.c.id == run)
        .values(state="running", epoch=number, began=row.began or now, tries=row.tries + 1)
    )
    return RunTicket(run, row.job, number, row.state == "running")


def finish(
    c: sa.Connection,
    ticket: RunTicket,
    now: datetime,
    *,
    state: str,
    result: dict[str, Any] | None = None,
    error: str | None = None,
    point_time: datetime | None = None,
    seconds: float | None = None,
) -> bool:
    """Records the end of a run. False, and nothing is written, where the ticket is out of date."""
    if jobs.epoch(c, ticket.job) != ticket.epoch:
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


def close_unreported(
    c: sa.Connection, run: str, now: datetime, reason: str, state: str = "lost"
) -> str | None:
    """Ends a run that reported no result; returns its job. None: it has reported meanwhile."""
    mine = sa.and_(t.runs.c.id == run, t.runs.c.state.in_(ACTIVE))
    values = {"state": state, "ended": now, "error": reason}
    if not c.execute(sa.update(t.runs).where(mine).values(values)).rowcount:
        return None
    row = c.execute(sa.select(t.runs.c.job, t.runs.c.kind).where(t.runs.c.id == run)).one()
    jobs.raise_epoch(c, row.job)
    if row.kind == "run":
        jobs.forget_last_start(c, row.job)
    return str(row.job)


def last_errors(c: sa.Connection, names: Iterable[str]) -> dict[str, str]:
    """The error of each job's latest failed run."""
    found = {}
    for name in names:
        failed = (t.runs.c.job == name, t.runs.c.state == "failed", t.runs.c.kind == "run")
        latest = sa.select(t.runs.c.error).where(*failed).order_by(t.runs.c.queued.desc()).limit(1)
        if error := c.execute(latest).scalar():
            found[name] = error
    return found
