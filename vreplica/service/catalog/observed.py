"""Recovery points and failovers, as the destination and the journals have them.

Functions over one transaction. projection.py reads both and calls these.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from vreplica.service.catalog import tables as t

PointRow = tuple[str, datetime, str, dict[str, Any]]
"""A point: id, when it was taken by its mover's clock, level, description."""


def set_points(c: sa.Connection, job: str, points: Sequence[PointRow]) -> None:
    """All recovery points of a job, in the order of the chain."""
    c.execute(sa.delete(t.points).where(t.points.c.job == job))
    rows = [_row(job, point) for point in points]
    if rows:
        c.execute(sa.insert(t.points), rows)
    newest = points[-1][1] if points else None
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(point_time=newest))


def add_point(c: sa.Connection, job: str, point: PointRow, removed: Sequence[str]) -> int:
    """Adds the newest point and takes out the removed ones. Returns how many the job has now."""
    id_, taken, _, _ = point
    ours = t.points.c.job == job
    c.execute(sa.delete(t.points).where(ours, t.points.c.id.in_([*removed, id_])))
    c.execute(sa.insert(t.points).values(_row(job, point)))
    c.execute(sa.update(t.jobs).where(t.jobs.c.name == job).values(point_time=taken))
    return int(c.execute(sa.select(sa.func.count()).where(ours)).scalar_one())


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
    c.execute(sa.delete(t.failovers).where(t.failovers.c.id == id_))
    values = {"id": id_, "job": job, "state": state, "facts": facts, "seen": now}
    c.execute(sa.insert(t.failovers).values(values))


def failover_states(c: sa.Connection) -> dict[str, str]:
    """The state of each failover, by its id, as its journal was last read."""
    query = sa.select(t.failovers.c.id, t.failovers.c.state)
    return {row.id: row.state for row in c.execute(query)}


def _row(job: str, point: PointRow) -> dict[str, Any]:
    id_, taken, level, description = point
    return {"job": job, "id": id_, "time": taken, "level": level, "description": description}
