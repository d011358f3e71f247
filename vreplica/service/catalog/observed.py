"""What destinations and journals say, as rows of the catalog. Functions over one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from vreplica.service.catalog import tables as t


def set_points(
    c: sa.Connection, job: str, points: Sequence[tuple[str, datetime, str, dict[str, Any]]]
) -> None:
    """A job's recovery points, in the order of the chain: these and no others.

    Each is (id, when it was taken by its mover's clock, level, description).
    """
    c.execute(sa.delete(t.points).where(t.points.c.job == job))
    rows = [
        {"job": job, "id": i, "time": m, "level": level, "description": text}
        for i, m, level, text in points
    ]
    if rows:
        c.execute(sa.insert(t.points), rows)
    newest = points[-1][1] if points else None
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


def flagged_points(c: sa.Connection) -> dict[str, str]:
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
