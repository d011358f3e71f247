"""Movers: the processes that run jobs, and their leases. Functions over one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from vreplica.service.catalog import schema
from vreplica.service.catalog import tables as t
from vreplica.service.catalog.tables import ACTIVE
from vreplica.version import __version__


@dataclass(frozen=True, slots=True)
class Mover:
    """A mover with a lease until `until`.

    `capacity`: runs that it takes at a time; `active`: those it has.
    """

    id: str
    capacity: int
    active: int
    until: datetime | None = None
    version: str | None = None
    """None: of a version that does not say."""
    lease_s: float | None = None

    @property
    def renewed(self) -> datetime | None:
        """When it last renewed its lease; None: not known."""
        if self.until is None or self.lease_s is None:
            return None
        return self.until - timedelta(seconds=self.lease_s)

    def at_work(self, now: datetime) -> bool:
        """Its lease is valid."""
        return self.until is not None and self.until > now

    @property
    def free(self) -> int:
        return self.capacity - self.active


def join(c: sa.Connection, mover: str, capacity: int, now: datetime, ttl: timedelta) -> None:
    """Registers a mover with a lease until now + `ttl`; also one that comes back after a crash."""
    c.execute(sa.delete(t.movers).where(t.movers.c.id == mover))
    values = {"id": mover, "capacity": capacity, "joined": now, "until": now + ttl}
    c.execute(sa.insert(t.movers).values(values))
    if schema.has_0004(c):
        c.execute(sa.delete(t.mover_info).where(t.mover_info.c.mover == mover))
        info = {"mover": mover, "version": __version__, "lease_s": ttl.total_seconds()}
        c.execute(sa.insert(t.mover_info).values(info))


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
    columns = [t.movers.c.id, t.movers.c.capacity, sa.func.coalesce(active.c.n, 0)]
    columns.append(t.movers.c.until)
    source = t.movers.outerjoin(active, active.c.mover == t.movers.c.id)
    if schema.has_0004(c):
        columns += [t.mover_info.c.version, t.mover_info.c.lease_s]
        source = source.outerjoin(t.mover_info, t.mover_info.c.mover == t.movers.c.id)
    query = sa.select(*columns).select_from(source).order_by(t.movers.c.id)
    return [Mover(*row) for row in c.execute(query)]


def leases(c: sa.Connection) -> dict[str, datetime]:
    """The end of each mover's lease."""
    return {row.id: row.until for row in c.execute(sa.select(t.movers.c.id, t.movers.c.until))}
