"""Reports a failover that stopped on its way and waits for the operator: again until one decides.

    shutting-down   the guest was asked to shut down, and may go off at any moment
    source-off ...  the VM is off at both sites
    keeping         an undo waits for the guest of the VM in service

The audit trail is the memory: a mover reports it where the last entry of that failover is old
enough, so the fleet reports it once in each interval. A failover that is in service waits as well,
but the VM runs: it is not reported.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from vreplica.service.catalog import failover_requests
from vreplica.service.catalog import tables as t
from vreplica.service.catalog.database import Catalog, Connection

WAITS: Final = "failover waits"
AGAIN_AFTER: Final = timedelta(minutes=15)
"""Somebody who was called at night answers within it, or the next one is called."""

_ON_ITS_WAY: Final = "it stopped on its way"
_OFF: Final = "the VM is off at both sites"
_WHY: Final = {
    "ready": _ON_ITS_WAY,
    "disabled": "the VM runs on, and its job is off",
    "insured": "the VM runs on, and its job is off",
    "shutting-down": "its guest was asked to shut down, and may still go off",
    "source-off": _OFF,
    "synced": _OFF,
    "fenced": _OFF,
    "booting": _ON_ITS_WAY,
    "committing": "its commit stopped on its way",
    "keeping": "its undo waits for the guest of the VM in service",
    "undoing": "its undo stopped on its way",
}
"""State of a failover that waits -> what that means."""


def remind(
    c: Connection, catalog: Catalog, mover: str, now: datetime
) -> list[tuple[str, str, dict[str, Any]]]:
    """Writes the entries that are due. Returns them as events: name, job, data."""
    happened: list[tuple[str, str, dict[str, Any]]] = []
    waiting = c.execute(sa.select(t.failovers).where(t.failovers.c.state.in_(list(_WHY)))).all()
    if not waiting:
        return []
    told, busy = _last_told(c), failover_requests.jobs_at_work(c)
    for row in waiting:
        last = told.get((row.job, row.id))
        if row.job in busy or (last is not None and now - last < AGAIN_AFTER):
            continue
        text = (
            f"{row.id} waits in {row.state} since {row.seen:%Y-%m-%d %H:%M}Z: {_WHY[row.state]}; "
            f"`vreplica-sync failover resume {row.job}` goes on, `vreplica-sync undo {row.job}` "
            "goes back (of a group: with its name)"
        )
        data = {"failover": row.id, "state": row.state, "text": text}
        catalog.add_audit_entry(c, mover, WAITS, row.job, **data)
        happened.append((WAITS, row.job, data))
    return happened


def _last_told(c: Connection) -> dict[tuple[str, str], datetime]:
    """When it was reported last, by job and failover."""
    a = t.audit.c
    query = sa.select(a.job, a.time, a.data).where(a.what == WAITS).order_by(a.n)
    return {(row.job, row.data["failover"]): row.time for row in c.execute(query)}
