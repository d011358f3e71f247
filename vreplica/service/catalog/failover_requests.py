"""Failovers that are requested of the service. Functions over one transaction.

    asked --assign--> queued --begin--> running --finish--> done | failed
      ^                 |                |  ^
      `-- mover gone ---'      mover gone|  |   a failover stays with its mover, where its
                                         v  |   journal is; that mover goes on when it is back
                                        lost

A request is a row of the table of runs, so a job has one run or one failover at a time. The row's
column `order` holds it:

    {"do": "begin" | "back" | "resume" | "undo" | "commit" | "adopt", "who": "alice",
     "choices": {...}      of begin and back
     "commit": true        of begin and back: commit as soon as the replica answers
     "new_vm": "ds1",      of back: the datastore of a new VM
     "source_lost": true, "point": ...   of resume: what is chosen anew
     "undo": {...},        of undo: its choices
     "expects": {...},     of adopt: job -> what the operator has seen (failover/adopt.py)
     "group": {...}, "members": ["db01", ...]   of a group; the row's job is `group:NAME`}

The id of a request that begins a failover is the failover's id. The planner leaves a job alone
while a failover of it is requested, and from the failover's begin on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from vreplica.errors import PreflightError
from vreplica.points.model import new_id
from vreplica.service.catalog import jobs, movers
from vreplica.service.catalog import tables as t
from vreplica.service.catalog.movers import Mover
from vreplica.service.catalog.runs import RunTicket
from vreplica.service.catalog.tables import ACTIVE, FAILOVER

OPEN_STATES: Final = ("asked", *ACTIVE)
ID_PREFIX: Final = {"begin": "fo", "back": "fb"}
"""Prefixes of the ids of requests that begin a failover or a failback."""
_is_failover = t.runs.c.kind == FAILOVER


@dataclass(eq=False)
class FailoverRequested(PreflightError):
    template = "the service is already working on a failover of job {job}: {request} is {state}"
    remedy = "`vreplica-sync status {job}` shows its state. Nothing was requested."
    job: str
    request: str
    state: str


@dataclass(eq=False)
class NoService(PreflightError):
    template = "no service is at work on this catalog"
    remedy = "Start one (`vreplica-sync serve`), or leave out --by-service. Nothing was requested."
    retryable = True


def jobs_at_work(c: sa.Connection) -> frozenset[str]:
    """The jobs of the requests that have not ended."""
    query = sa.select(t.runs).where(_is_failover, t.runs.c.state.in_(OPEN_STATES))
    return frozenset(name for row in c.execute(query) for name in jobs_of(row.job, row.order))


def new_request_id(do: str) -> str:
    """The id of a request that begins a failover or a failback is that one's id."""
    return f"{ID_PREFIX.get(do, 'or')}-{new_id()}"


def add(c: sa.Connection, id_: str, job: str, request: dict[str, Any], now: datetime) -> None:
    """Raises FailoverRequested, and NoService where no mover would take the request."""
    jobs.register(c, [job], now)
    if not any(until > now for until in movers.leases(c).values()):
        raise NoService
    for name in (wanted := jobs_of(job, request)):
        jobs.register(c, [name], now)
    query = sa.select(t.runs).where(_is_failover, t.runs.c.state.in_(OPEN_STATES))
    for found in c.execute(query):
        if {found.job, *jobs_of(found.job, found.order)} & {job, *wanted}:
            raise FailoverRequested(job=job, request=found.id, state=found.state)
    values = {"id": id_, "kind": FAILOVER, "order": request, "job": job, "state": "asked"}
    more = {"mover": "", "holds": [], "due": now, "queued": now}
    c.execute(sa.insert(t.runs).values(**values, **more))


def jobs_of(job: str, request: Mapping[str, Any]) -> list[str]:
    """The jobs that a request is about: the members of a group, or the one job."""
    return list(request.get("members") or [job])


def assign(c: sa.Connection, fleet: Iterable[Mover]) -> list[tuple[str, str, str]]:
    """Gives requests to movers, once no run of their job is active. Returns (id, job, mover)."""
    free = {m.id: m.free for m in fleet}
    active = sa.select(t.runs.c.job, t.runs.c.order).where(t.runs.c.state.in_(ACTIVE))
    busy = {name for row in c.execute(active) for name in jobs_of(row.job, row.order or {})}
    query = sa.select(t.runs).where(_is_failover, t.runs.c.state == "asked")
    given = []
    for row in c.execute(query.order_by(t.runs.c.queued)).all():
        wanted = jobs_of(row.job, row.order)
        mover = _mover_for(c, row, free) if busy.isdisjoint(wanted) else None
        if mover is None:
            continue
        busy.update(wanted)
        free[mover] -= 1
        values = {"state": "queued", "mover": mover}
        c.execute(sa.update(t.runs).where(t.runs.c.id == row.id).values(values))
        given.append((row.id, row.job, mover))
    return given


def _mover_for(c: sa.Connection, row: Any, free: dict[str, int]) -> str | None:
    """The mover that has the failover's journal.

    A failover that is adopted leaves that mover, which is lost. For a new failover it is the mover
    that ran the job last, because its digest maps are there. It may have no free place: a failover
    does not wait for other runs.
    """
    if row.order["do"] not in (
        "begin",
        "adopt",
    ):  # also of a failback, which reads the failover's journal
        before = c.execute(_requests(row.job).where(t.runs.c.mover != "")).first()
        if before is not None:
            return before.mover if before.mover in free else None
    last = jobs.last_movers(c, jobs_of(row.job, row.order)).values()
    there = Counter(mover for mover in last if mover in free)
    return max(there or free, key=lambda m: (there[m], free[m]), default=None)


def begin(
    c: sa.Connection, id_: str, mover: str, now: datetime
) -> tuple[RunTicket, dict[str, Any]] | None:
    """Begins a request, also once more after a crash. Its job is disabled from here on.

    None: it is not this mover's any more, or something newer was requested of the job.
    """
    row = c.execute(sa.select(t.runs).where(t.runs.c.id == id_)).one_or_none()
    if row is None or row.mover != mover or row.state not in (*ACTIVE, "lost"):
        return None
    newest = c.execute(_requests(row.job)).first()
    if row.state == "lost" and newest is not None and newest.id != id_:
        return None
    epoch = jobs.raise_epoch(c, row.job)
    members = [name for name in jobs_of(row.job, row.order) if name != row.job]
    for name in members:
        jobs.raise_epoch(c, name)
    begun_before = row.state != "queued"
    values = {"state": "running", "epoch": epoch, "ended": None, "error": None}
    values |= {"began": row.began or now, "tries": row.tries + 1}
    c.execute(sa.update(t.runs).where(t.runs.c.id == id_).values(values))
    if row.order["do"] == "begin":
        for name in jobs_of(row.job, row.order):
            jobs.set_disabled(c, name, id_)
    return RunTicket(id_, row.job, epoch, begun_before), row.order


def finish(
    c: sa.Connection,
    ticket: RunTicket,
    now: datetime,
    *,
    state: str,
    result: dict[str, Any],
    error: str | None,
) -> bool:
    """Records the end of a request. False, and nothing is written: the ticket is out of date."""
    if jobs.epoch(c, ticket.job) != ticket.epoch:
        return False
    mine = sa.and_(t.runs.c.id == ticket.run, t.runs.c.state == "running")
    values = {"state": state, "ended": now, "result": result, "error": error}
    return c.execute(sa.update(t.runs).where(mine).values(values)).rowcount > 0


def mark_lost(c: sa.Connection, id_: str, now: datetime) -> bool:
    """Its mover is gone. False: it had not begun, and waits for another mover again."""
    ours = t.runs.c.id == id_
    if c.execute(sa.select(t.runs.c.state).where(ours)).scalar_one() == "queued":
        c.execute(sa.update(t.runs).where(ours).values(state="asked", mover=""))
        return False
    values = {"state": "lost", "ended": now, "error": "its mover is gone"}
    c.execute(sa.update(t.runs).where(ours).values(values))
    return True


def unfinished(c: sa.Connection, mover: str) -> dict[str, str]:
    """Id and state of the requests that a mover has to continue.

    They are open, or lost and the newest of their job.
    """
    query = sa.select(t.runs).where(_is_failover, t.runs.c.mover == mover)
    rows = c.execute(query.where(t.runs.c.state.in_((*ACTIVE, "lost")))).all()
    found = {}
    for row in rows:
        newest = c.execute(_requests(row.job)).first()
        if row.state != "lost" or (newest is not None and newest.id == row.id):
            found[row.id] = row.state
    return found


def newest_by_job(c: sa.Connection) -> dict[str, Any]:
    """The row of the newest request of each job that had one, also as a member of a group."""
    query = sa.select(t.runs).where(_is_failover).order_by(t.runs.c.queued, t.runs.c.id)
    return {name: row for row in c.execute(query) for name in jobs_of(row.job, row.order)}


def get(c: sa.Connection, id_: str) -> Any | None:
    """The row of a request."""
    return c.execute(sa.select(t.runs).where(t.runs.c.id == id_)).one_or_none()


def _requests(job: str) -> sa.Select[Any]:
    """All requests of a job, the newest first."""
    return (
        sa.select(t.runs)
        .where(_is_failover, t.runs.c.job == job)
        .order_by(t.runs.c.queued.desc(), t.runs.c.id.desc())
    )
