"""Notices: entries of the audit trail that receivers have yet to get. Over one transaction.

    audit entry --> vr_audit  n            both are written in one transaction, and the notice is
          `-------> vr_notice receiver, n  deleted when the receiver has got the event. So each
                                           event is sent at least once, whichever process is
                                           killed, and whenever.

Each receiver is notified by one mover: the one that claimed it, for as long as that has its lease.
An event that is sent twice, because a process was killed between sending and deleting, has the
same id both times.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from vreplica.notify.events import ServiceEvent
from vreplica.service.catalog import tables as t

KEPT: Final = timedelta(days=1)
"""Notices that are older are dropped: they no longer help whoever they would call."""


def claim(c: sa.Connection, receiver: str, mover: str) -> bool:
    """True where this mover notifies the receiver; it may if no other mover at work does."""
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
    """Lets another mover notify the receiver."""
    ours = (t.receivers.c.name == receiver, t.receivers.c.sender == mover)
    c.execute(sa.update(t.receivers).where(*ours).values(sender=None))


def waiting(c: sa.Connection, receiver: str, most: int) -> dict[int, ServiceEvent]:
    """The next events for a receiver by the number of their entry, the oldest first."""
    query = (
        sa.select(t.audit, t.runs.c.result)
        .join(t.notices, t.notices.c.n == t.audit.c.n)
        .outerjoin(t.runs, t.runs.c.id == t.audit.c.data["run"].as_string())
        .where(t.notices.c.receiver == receiver)
        .order_by(t.audit.c.n)
        .limit(most)
    )
    return {row.n: _event(row) for row in c.execute(query)}


def delete(c: sa.Connection, receiver: str, numbers: Sequence[int]) -> None:
    """The receiver has got these events, or never will."""
    c.execute(sa.delete(t.notices).where(_of(receiver), t.notices.c.n.in_(list(numbers))))


def drop_old(c: sa.Connection, receiver: str, now: datetime) -> int:
    """Deletes the notices that are too old. Returns how many."""
    old = sa.select(t.audit.c.n).where(t.audit.c.time < now - KEPT)
    return c.execute(sa.delete(t.notices).where(_of(receiver), t.notices.c.n.in_(old))).rowcount


def _of(receiver: str) -> sa.ColumnElement[bool]:
    return t.notices.c.receiver == receiver


def _event(row: Any) -> ServiceEvent:
    data = {**(row.result or {}), **row.data}
    id_ = f"{row.time:%Y%m%dT%H%M%S.%f}-{row.n}"
    return ServiceEvent(row.what, row.job or "", row.who, data, id=id_, time=row.time)
