"""The catalog: jobs, runs, points and failovers as far as they are known, in SQL.

The catalog may be lost. Recovery points describe themselves at the destination, failovers are
recorded in their journals, and `catalog rebuild` reads both again. So `run` and `failover` work
without it; the service needs it, and `pip install 'vreplica[service]'`.

Times are those of the database's clock, so that movers with different clocks agree.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Self, TypeVar

import sqlalchemy as sa

from vreplica.service.catalog import by_hand, jobs, movers, schema
from vreplica.service.catalog import tables as t
from vreplica.service.catalog.engines import (
    CatalogAway,
    clock,
    engine_to_write,
    is_damaged,
    unreachable,
)
from vreplica.service.catalog.errors import CatalogDamaged

Connection = sa.Connection
RETRY_S: Final = 0.5
"""Between two tries of a database that does not answer."""
_PLANNING: Final = 0x76726570
"""Number of PostgreSQL's advisory lock under which one mover plans ("vrep")."""
_HISTORY: Final = (
    *(t.runs.c[name] for name in ("id", "kind", "job", "state", "mover", "epoch", "due")),
    *(t.runs.c[name] for name in ("queued", "began", "ended", "tries", "result", "error")),
    t.runs.c.order.label("request"),
    t.runs.c.holds.label("resources"),
)
T = TypeVar("T")

log = logging.getLogger("vreplica.service")


class Catalog:
    """The catalog in one database. Thread-safe: every call takes a connection of its own."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.place = engine.url.render_as_string(hide_password=True)
        self.receivers: Mapping[str, frozenset[str]] = {}
        """The events that each receiver wants; `add_audit_entry` writes notices for them."""
        self.found_schema: str | None = None
        """The schema that `open` found; None: there was no catalog."""

    @classmethod
    def open(cls, url: str, *, migrate: bool = False) -> Self:
        """Open the catalog to write; make one where the database has none.

        `migrate`: bring the schema of an older catalog up to date. Without it such a catalog is
        used as it is, or refused.

        Raises CatalogUrlInvalid, CatalogUnreachable, CatalogTooNew, CatalogTooOld.
        """
        catalog = cls(engine_to_write(url))
        try:
            catalog._prepare(migrate=migrate)
        except CatalogAway as error:
            catalog.close()
            raise unreachable(url, error) from None
        except BaseException:
            catalog.close()
            raise
        return catalog

    def close(self) -> None:
        self.engine.dispose()

    def _prepare(self, *, migrate: bool) -> None:
        with self.transaction() as c:
            if self.engine.dialect.name == "postgresql":
                c.execute(sa.select(sa.func.pg_advisory_xact_lock(_PLANNING + 1)))
            found = self.found_schema = schema.version(c)
            if found is not None:
                schema.check_known(found, self.place)
            if found is None or (migrate and found != schema.NEWEST):
                schema.migrate(c)
            else:
                schema.check_usable(found, self.place)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction: committed at the end, or rolled back when the block raises."""
        with self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def planning(self) -> Iterator[sa.Connection | None]:
        """The transaction of planning, for one mover at a time; None while another one plans."""
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                lock = sa.func.pg_try_advisory_xact_lock(_PLANNING)
                if not connection.execute(sa.select(lock)).scalar():
                    yield None
                    return
            yield connection

    def now(self, connection: sa.Connection | None = None) -> datetime:
        """As `clock`."""
        if connection is not None:
            return clock(connection)
        with self.engine.connect() as own:
            return clock(own)

    def retry_while_away(self, call: Callable[..., T], *args: Any) -> T:
        """Calls until the database answers, and returns the result."""
        while True:
            try:
                return call(*args)
            except CatalogAway as error:
                if is_damaged(error):
                    raise CatalogDamaged(f"{self.place}: {error}") from None
                log.warning("the catalog does not answer, trying again: %s", error)
                time.sleep(RETRY_S)

    def pause(self, job: str, who: str, *, paused: bool) -> bool:
        """Pauses the schedule of a job, or resumes it from now on. False: it was so already."""
        with self.transaction() as c:
            now = self.now(c)
            jobs.register(c, [job], now)
            changed = jobs.set_paused(c, job, now, paused=paused)
            if changed:
                self.add_audit_entry(c, who, "job paused" if paused else "job resumed", job)
        return changed

    def add_audit_entry(
        self,
        connection: sa.Connection,
        who: str,
        what: str,
        job: str | None = None,
        *,
        time: datetime | None = None,
        **data: Any,
    ) -> None:
        """Adds an entry to the audit trail, and a notice for each receiver that wants it.

        `time`: None for now.
        """
        time = time or self.now(connection)
        values = {"time": time, "who": who, "what": what, "job": job, "data": data}
        entry = sa.insert(t.audit).values(values).returning(t.audit.c.n)
        n = connection.execute(entry).scalar_one()
        rows = [{"receiver": r, "n": n} for r, wanted in self.receivers.items() if what in wanted]
        if rows:
            connection.execute(sa.insert(t.notices), rows)

    def read(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        """The rows of a query as dicts."""
        with self.engine.connect() as c:
            return [dict(row) for row in c.execute(query).mappings()]

    def history(self, names: Collection[str] = (), limit: int = 50) -> list[dict[str, Any]]:
        """The latest runs and failovers, the newest first; of these jobs, or of all.

        `request`: of a failover, see failover_requests. `resources`: occupied by the run.
        `who`: the user and machine of what a command carried out; None: the service.
        """
        query = sa.select(*_HISTORY).order_by(t.runs.c.queued.desc()).limit(limit)
        if names:
            query = query.where(t.runs.c.job.in_(names))
        rows = [{**row, "who": None} for row in self.read(query)]
        with self.transaction() as c:
            rows += [entry.as_history() for entry in by_hand.latest(c, names, limit)]
        return sorted(rows, key=lambda row: row["queued"], reverse=True)[:limit]

    def as_of(self, c: sa.Connection) -> datetime | None:
        """The latest time at which a mover or a command wrote to the catalog, as far as known."""
        times = [m.renewed for m in movers.registered(c)]
        columns = [t.audit.c.time, t.runs.c.queued, t.runs.c.ended, t.failovers.c.seen]
        if schema.has_0004(c):
            columns += [t.job_seen.c.seen, t.by_hand.c.ended]
        times += [c.execute(sa.select(sa.func.max(column))).scalar() for column in columns]
        return max((time for time in times if time is not None), default=None)

    def audit_trail(self, *names: str, limit: int = 100) -> list[dict[str, Any]]:
        """The latest entries of the audit trail, the newest first; of these jobs, or of all."""
        query = sa.select(t.audit).order_by(t.audit.c.n.desc()).limit(limit)
        return self.read(query.where(t.audit.c.job.in_(names)) if names else query)
