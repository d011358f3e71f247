"""Movers: the processes that run jobs, and their leases. Functions over one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from vreplica.service.catalog import tables as t
from vreplica.service.catalog.tables import ACTIVE


@dataclass(frozen=True, slots=True)
class Mover:
    """A mover with a lease. `capacity`: runs that it takes at a time; `active`: those it has."""

    id: str
    capacity: int
    active: int

    @property
    def free(self) -> int:
        return self.capacity - self.active


def join(c: sa.Connection, mover: str, capacity: int, now: datetime, ttl: timedelta) -> None:
    """Registers a mover with a lease until now + `ttl`; also one that comes back after a crash."""
    c.execute(sa.delete(t.movers).where(t.movers.c.id == mover))
    values = {"id": mover, "capacity": capacity, "joined": now, "until": now + ttl}
    c.execute(sa.insert(t.movers).values(values))


def renew(c: sa.Connection, mover: str, now: datetime, ttl: timedelta) -> bool:
    """Renews a lease. False: another mover has removed it, and the mover has to join again."""
    query = sa.update(t.movers).where(t.movers.c.id == mover).values(until=now + ttl)
    return c.execute(query).rowcount > 0


def leave(c: sa.Connection, mover: str) -> None:
    """Removes a mover that stops."""
    c.execute(sa.delete(t.movers).where(t.movers.c.id == mover))


def registered(c: sa.Connection) -> list[Mover]:
    """All movers with a lease, and their active runs."""
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
    """The end of each mover's lease."""
    return {row.id: row.until for row in c.execute(sa.select(t.movers.c.id, t.movers.c.until))}
