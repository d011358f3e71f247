"""Runs and failovers that commands carried out. Functions over one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa

from vreplica.service.catalog import schema
from vreplica.service.catalog import tables as t
from vreplica.sync.by_hand import HandEntry


def add(c: sa.Connection, entries: Iterable[HandEntry]) -> list[HandEntry]:
    """Adds the entries that are not there yet, and returns them."""
    wanted = {entry.id: entry for entry in entries}
    query = sa.select(t.by_hand.c.id).where(t.by_hand.c.id.in_(list(wanted)))
    known = set(c.execute(query).scalars())
    new = [entry for id_, entry in wanted.items() if id_ not in known]
    for entry in new:
        c.execute(sa.insert(t.by_hand).values({name: getattr(entry, name) for name in _COLUMNS}))
    return new


def latest(c: sa.Connection, names: Collection[str] = (), limit: int = 50) -> list[HandEntry]:
    """The latest entries, the newest first; of these jobs, or of all."""
    if not schema.has_0004(c):
        return []
    query = sa.select(t.by_hand).order_by(t.by_hand.c.began.desc()).limit(limit)
    if names:
        query = query.where(t.by_hand.c.job.in_(names))
    return [_entry(row) for row in c.execute(query)]


def last_by_job(c: sa.Connection) -> dict[str, HandEntry]:
    """The latest run of each job that was carried out by hand."""
    if not schema.has_0004(c):
        return {}
    b = t.by_hand
    newest = (
        sa.select(b.c.job, sa.func.max(b.c.began).label("began"))
        .where(b.c.what == "run")
        .group_by(b.c.job)
        .subquery()
    )
    same = sa.and_(b.c.job == newest.c.job, b.c.began == newest.c.began, b.c.what == "run")
    return {row.job: _entry(row) for row in c.execute(sa.select(b).join(newest, same))}


_COLUMNS = ("id", "what", "job", "state", "who", "began", "ended", "result", "error")


def _entry(row: Any) -> HandEntry:
    return HandEntry(**{name: getattr(row, name) for name in _COLUMNS})
