"""Which receivers have still to be told of which entries of the audit trail. Over one transaction.

    note() --> vr_audit  n            a notice is written with its entry, in one transaction,
           `-> vr_notice receiver, n  and taken away when the receiver has been told: so each is
                                      told at least once, whoever is killed when

One mover tells each receiver: the one that claimed it, for as long as it has its lease. What is
sent twice all the same (killed between sending and taking note) has the same id both times.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from vreplica.notify.events import Event
from vreplica.service.catalog import tables as t

KEPT: Final = timedelta(days=1)
"""Older ones are of no use to anybody who is called by them."""


def claim(c: sa.Connection, receiver: str, mover: str) -> bool:
    """Is it this mover that tells the receiver? It is where nobody else who lives does."""
    ours = t.receivers.c.name == receiver
    row = c.execute(sa.select(t.receivers.c.sender).where(ours)).one_or_none()
    if row is not None and row.sender == mover:
        return True
    alive = sa.select(t.movers.c.id)
    if row is None:
        c.execute(sa.insert(t.receivers).values(name=receiver, sender=mover))
        return True
    free = sa.or_(t.receivers.c.sender.is_(None), t.receivers.c.sender.not_in(alive))
    taken = sa.update(t.receivers).where(ours, free).values(sender=mover)
    return c.execute(taken).rowcount > 0


def release(c: sa.Connection, receiver: str, mover: str) -> None:
    """Somebody else may tell it."""
    ours = (t.receivers.c.name == receiver, t.receivers.c.sender == mover)
    c.execute(sa.update(t.receivers).where(*ours).values(sender=None))


def waiting(c: sa.Connection, receiver: str, most: int) -> dict[int, Event]:
    """What it is to be told next, oldest first, by number."""
    query = (
        sa.select(t.audit, t.runs.c.result)
        .join(t.notices, t.notices.c.n == t.audit.c.n)
        .outerjoin(t.runs, t.runs.c.id == t.audit.c.data["run"].as_string())
        .where(t.notices.c.receiver == receiver)
        .order_by(t.audit.c.n)
        .limit(most)
    )
    return {row.n: _event(row) for row in c.execute(query)}


def done(c: sa.Connection, receiver: str, told: Sequence[int]) -> None:
    """It has been told, or never will be."""
    c.execute(sa.delete(t.notices).where(_of(receiver), t.notices.c.n.in_(list(told))))


def drop_old(c: sa.Connection, receiver: str, now: datetime) -> int:
    """How many were too old to be told any more."""
    old = sa.select(t.audit.c.n).where(t.audit.c.time < now - KEPT)
    return c.execute(sa.delete(t.notices).where(_of(receiver), t.notices.c.n.in_(old))).rowcount


def _of(receiver: str) -> sa.ColumnElement[bool]:
    return t.notices.c.receiver == receiver


def _event(row: Any) -> Event:
    data = {**(row.result or {}), **row.data}
    id_ = f"{row.time:%Y%m%dT%H%M%S.%f}-{row.n}"
    return Event(row.what, row.job or "", row.who, data, id=id_, time=row.time)
