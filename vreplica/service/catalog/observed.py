"""Recovery points and failovers, as the destination and the journals have them.

Functions over one transaction. projection.py reads both and calls these.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from vreplica.service.catalog import schema
from vreplica.service.catalog import tables as t
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.engines import clock

PointRow = tuple[str, datetime, str, dict[str, Any]]
"""A point: id, when it was taken by its mover's clock, level, description."""


def set_points(c: sa.Connection, job: str, points: Sequence[PointRow]) -> None:
    """All recovery points of a job, in the order of the chain, as the destination has them now."""
    c.execute(sa.delete(t.points).where(t.points.c.job == job))
    rows = [_row(job, point) for point in points]
    if rows:
        c.execute(sa.insert(t.points), rows)
    newest = points[-1][1] if points else None
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(point_time=newest))
    _see(c, job)


def add_point(c: sa.Connection, job: str, point: PointRow, removed: Sequence[str]) -> int:
    """Adds the newest point and takes out the removed ones. Returns how many the job has now.

    No run has failed since it was made.
    """
    id_, taken, _, _ = point
    ours = t.points.c.job == job
    c.execute(sa.delete(t.points).where(ours, t.points.c.id.in_([*removed, id_])))
    c.execute(sa.insert(t.points).values(_row(job, point)))
    update = sa.update(t.jobs).where(t.jobs.c.name == job)
    c.execute(update.values(point_time=taken, failures=0))
    _see(c, job)
    return int(c.execute(sa.select(sa.func.count()).where(ours)).scalar_one())


def seen(c: sa.Connection) -> dict[str, datetime]:
    """When the points of each job were last read at the destination, or added by a run."""
    if not schema.has_0004(c):
        return {}
    return {row.job: row.seen for row in c.execute(sa.select(t.job_seen))}


def _see(c: sa.Connection, job: str) -> None:
    if schema.has_0004(c):
        now = clock(c)
        c.execute(sa.delete(t.job_seen).where(t.job_seen.c.job == job))
        c.execute(sa.insert(t.job_seen).values(job=job, seen=now))


def newest_points(c: sa.Connection) -> dict[str, PointRow]:
    """The newest point of each job, in the order of the chain, with the description of none."""
    point, job = t.points, t.jobs
    query = sa.select(point.c.job, point.c.id, point.c.time, point.c.level)
    ours = sa.and_(job.c.name == point.c.job, job.c.point_time == point.c.time)
    return {row.job: (row.id, row.time, row.level, {}) for row in c.execute(query.join(job, ours))}


def flagged_points(c: sa.Connection) -> dict[str, str]:
    """The id of the oldest flagged point of each job that has one."""
    query = sa.select(t.points.c.job, t.points.c.id)
    query = query.where(t.points.c.description["flagged"].as_boolean())
    found: dict[str, str] = {}
    for job, id_ in c.execute(query.order_by(t.points.c.time)):
        found.setdefault(job, id_)
    return found


def set_failover(
    c: sa.Connection, id_: str, job: str, *, state: str, facts: dict[str, Any], now: datetime
) -> None:
    """The state and the facts of a failover, read from its journal now."""
    stored = [t.failovers.c.id == id_]
    if schema.has_0004(c):  # before, the members of a group had one row
        stored.append(t.failovers.c.job == job)
    c.execute(sa.delete(t.failovers).where(*stored))
    values = {"id": id_, "job": job, "state": state, "facts": facts, "seen": now}
    c.execute(sa.insert(t.failovers).values(values))


def failover_states(c: sa.Connection, job: str | None = None) -> dict[str, str]:
    """The state of each failover, by its id, as its journal was last read; of a job or of all.

    The members of a group have failovers of one id: name the job.
    """
    query = sa.select(t.failovers.c.id, t.failovers.c.state)
    if job is not None:
        query = query.where(t.failovers.c.job == job)
    return {row.id: row.state for row in c.execute(query)}


def known_states(catalog: Catalog) -> dict[str, dict[str, str]]:
    """Job -> id of a failover -> its state, for `failover adopt`."""
    found: dict[str, dict[str, str]] = {}
    with catalog.transaction() as c:
        for row in failovers(c):
            found.setdefault(row.job, {})[row.id] = row.state
    return found


def failovers(c: sa.Connection) -> list[Any]:
    """The rows of all failovers, in the order of their ids."""
    return list(c.execute(sa.select(t.failovers).order_by(t.failovers.c.id)))


def _row(job: str, point: PointRow) -> dict[str, Any]:
    id_, taken, level, description = point
    return {"job": job, "id": id_, "time": taken, "level": level, "description": description}
