"""Failovers that are asked of the service: who has them, how they end. Over one transaction.

    asked --hand_out--> queued --begin--> running --finish--> done | failed
      ^-- mover gone before it began --'     |  ^
                                             v  |   a failover stays with its mover, where its
                                            lost    journal is; that mover goes on when it is back

An order is a row of the runs' table, so a job has one run or one failover at a time:

    {"do": "begin" | "back" | "resume" | "undo" | "commit", "who": "alice", and of the first two
     "choices": {...}, "commit": once the replica answers?, "new_vm": datastore of a failback's}

The id of one that begins is the failover's own. While one is asked, and from its begin on, the
planner leaves the job alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from vreplica.errors import PreflightError
from vreplica.points.model import new_id
from vreplica.service.catalog import jobs, movers
from vreplica.service.catalog import tables as t
from vreplica.service.catalog.movers import Mover
from vreplica.service.catalog.runs import Ticket
from vreplica.service.catalog.tables import ACTIVE

OPEN: Final = ("asked", *ACTIVE)
KIND: Final = "failover"
PREFIX: Final = {"begin": "fo", "back": "fb"}
"""Of the ids of orders that begin a failover or a failback."""
_failover = t.runs.c.kind == KIND


@dataclass(eq=False)
class OrderUnderWay(PreflightError):
    template = "the service has a failover of job {job} in hand: {order} is {state}"
    remedy = "`vreplica-sync status {job}` tells how it goes on."
    job: str
    order: str
    state: str


@dataclass(eq=False)
class NoService(PreflightError):
    template = "no service is at work on this catalog"
    remedy = "Start one (`vreplica-sync serve`), or leave out --by-service to do it from here."
    retryable = True


def order_id(do: str) -> str:
    """Of one that begins a failover or a failback: that one's."""
    return f"{PREFIX.get(do, 'or')}-{new_id()}"


def ask(c: sa.Connection, id_: str, job: str, order: dict[str, Any], now: datetime) -> None:
    """Raises OrderUnderWay, and NoService where nobody would do it."""
    jobs.register(c, [job], now)
    if not any(until > now for until in movers.leases(c).values()):
        raise NoService
    found = c.execute(_orders(job).where(t.runs.c.state.in_(OPEN))).first()
    if found is not None:
        raise OrderUnderWay(job=job, order=found.id, state=found.state)
    values = {"id": id_, "kind": KIND, "order": order, "job": job, "state": "asked"}
    more = {"mover": "", "holds": [], "due": now, "queued": now}
    c.execute(sa.insert(t.runs).values(**values, **more))


def hand_out(c: sa.Connection, movers: Iterable[Mover]) -> list[tuple[str, str, str]]:
    """(id, job, mover) of each that can begin: no run of its job is under way any more."""
    free = {m.id: m.free for m in movers}
    busy = sa.select(t.runs.c.job).where(t.runs.c.state.in_(ACTIVE))
    query = sa.select(t.runs).where(_failover, t.runs.c.state == "asked")
    given = []
    for row in c.execute(query.where(t.runs.c.job.not_in(busy)).order_by(t.runs.c.queued)).all():
        mover = _mover_for(c, row, free)
        if mover is None:
            continue
        free[mover] -= 1
        values = {"state": "queued", "mover": mover}
        c.execute(sa.update(t.runs).where(t.runs.c.id == row.id).values(values))
        given.append((row.id, row.job, mover))
    return given


def _mover_for(c: sa.Connection, row: Any, free: dict[str, int]) -> str | None:
    """Where its journal is; for a new one, who ran the job last, since its digest maps are there.

    Whether that one has room does not count: a failover waits for nobody else's runs.
    """
    if row.order["do"] != "begin":  # a failback too: it reads the failover's journal
        before = c.execute(_orders(row.job).where(t.runs.c.mover != "")).first()
        if before is not None:
            return before.mover if before.mover in free else None
    last = jobs.last_movers(c, [row.job]).get(row.job)
    return last if last in free else max(free, key=lambda m: free[m], default=None)


def begin(
    c: sa.Connection, id_: str, mover: str, now: datetime
) -> tuple[Ticket, dict[str, Any]] | None:
    """Take one up, also once more after a crash; from here on the job is off.

    None: it is not this mover's any more, or something newer was asked of the job.
    """
    row = c.execute(sa.select(t.runs).where(t.runs.c.id == id_)).one_or_none()
    if row is None or row.mover != mover or row.state not in (*ACTIVE, "lost"):
        return None
    newest = c.execute(_orders(row.job)).first()
    if row.state == "lost" and newest is not None and newest.id != id_:
        return None
    epoch = jobs.raise_epoch(c, row.job)
    again = row.state != "queued"
    values = {"state": "running", "epoch": epoch, "ended": None, "error": None}
    values |= {"began": row.began or now, "tries": row.tries + 1}
    c.execute(sa.update(t.runs).where(t.runs.c.id == id_).values(values))
    if row.order["do"] == "begin":
        jobs.set_disabled(c, row.job, id_)
    return Ticket(id_, row.job, epoch, again), row.order


def finish(
    c: sa.Connection,
    ticket: Ticket,
    now: datetime,
    *,
    state: str,
    result: dict[str, Any],
    error: str | None,
) -> bool:
    """False, and nothing written, where the ticket is out of date."""
    if jobs.epoch(c, ticket.job) != ticket.epoch:
        return False
    mine = sa.and_(t.runs.c.id == ticket.run, t.runs.c.state == "running")
    values = {"state": state, "ended": now, "result": result, "error": error}
    return c.execute(sa.update(t.runs).where(mine).values(values)).rowcount > 0


def lose(c: sa.Connection, id_: str, now: datetime) -> bool:
    """Its mover is gone. False: it had not begun, and is asked of the others again."""
    ours = t.runs.c.id == id_
    if c.execute(sa.select(t.runs.c.state).where(ours)).scalar_one() == "queued":
        c.execute(sa.update(t.runs).where(ours).values(state="asked", mover=""))
        return False
    values = {"state": "lost", "ended": now, "error": "its mover is gone"}
    c.execute(sa.update(t.runs).where(ours).values(values))
    return True


def unfinished(c: sa.Connection, mover: str) -> dict[str, str]:
    """Id and state of what a mover has to go on with: its orders that are open, or lost and
    the last word on their job."""
    query = sa.select(t.runs).where(_failover, t.runs.c.mover == mover)
    rows = c.execute(query.where(t.runs.c.state.in_((*ACTIVE, "lost")))).all()
    found = {}
    for row in rows:
        newest = c.execute(_orders(row.job)).first()
        if row.state != "lost" or (newest is not None and newest.id == row.id):
            found[row.id] = row.state
    return found


def newest_of_all(c: sa.Connection) -> dict[str, Any]:
    """The last order of each job that had one, as a row."""
    query = sa.select(t.runs).where(_failover).order_by(t.runs.c.queued, t.runs.c.id)
    return {row.job: row for row in c.execute(query)}


def get(c: sa.Connection, id_: str) -> Any | None:
    return c.execute(sa.select(t.runs).where(t.runs.c.id == id_)).one_or_none()


def _orders(job: str) -> sa.Select[Any]:
    return (
        sa.select(t.runs)
        .where(_failover, t.runs.c.job == job)
        .order_by(t.runs.c.queued.desc(), t.runs.c.id.desc())
    )
