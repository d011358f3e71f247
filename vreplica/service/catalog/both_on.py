"""Reports that both VMs of a job are on: once, by whichever mover looks first, until it is over.

The audit trail is the memory: the last of the two entries of a job says whether it was reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from vreplica.notify.events import OnEvent
from vreplica.service.catalog import tables as t
from vreplica.service.catalog.database import Catalog, Connection

BOTH_ON: Final = "both VMs on"
OVER: Final = "both VMs on: over"


@dataclass(slots=True)
class BothOnReporter:
    """Remembers what was reported, so that the trail is read at the start and at changes only."""

    catalog: Catalog
    mover: str
    on_event: OnEvent
    _known: set[str] | None = None

    def __call__(self, found: Mapping[str, str | None]) -> None:
        """`found`: jobs whose two sites were read, with both VMs by name where both are on."""
        happened: list[tuple[str, str, dict[str, Any]]] = []
        with self.catalog.transaction() as c:
            if self._known is None:
                self._known = _reported(c)
            for job, both in found.items():
                on = both is not None
                if on is (job in self._known):
                    continue
                # Another mover may have reported it meanwhile.
                if on is not _is_reported(c, job):
                    what = BOTH_ON if on else OVER
                    data: dict[str, Any] = {"text": both} if on else {}
                    self.catalog.add_audit_entry(c, self.mover, what, job, **data)
                    happened.append((what, job, data))
                (self._known.add if on else self._known.discard)(job)
        for what, job, data in happened:
            self.on_event(what, job, data)


def _reported(c: Connection) -> set[str]:
    """The jobs whose both VMs were on, as it was reported last."""
    a = t.audit.c
    last = sa.select(sa.func.max(a.n)).where(a.what.in_((BOTH_ON, OVER))).group_by(a.job)
    query = sa.select(a.job).where(a.n.in_(last), a.what == BOTH_ON)
    return set(c.execute(query).scalars())


def _is_reported(c: Connection, job: str) -> bool:
    a = t.audit.c
    query = sa.select(a.what).where(a.job == job, a.what.in_((BOTH_ON, OVER)))
    return bool(c.execute(query.order_by(a.n.desc()).limit(1)).scalar() == BOTH_ON)
