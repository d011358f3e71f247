"""The catalog: what is known of jobs, runs, points and failovers, in SQLite or PostgreSQL.

It can be lost: what matters stands on the destinations (recovery points describe themselves)
and in the failovers' journals, and `rebuild` reads it back from there. So `run` and `failover`
work without it; the service keeps it, and needs `pip install 'vreplica[service]'`.

One clock: the database's, so that movers whose clocks differ agree about who is late.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.pool import NullPool

from vreplica.errors import ConfigError
from vreplica.service.catalog import jobs
from vreplica.service.catalog import tables as t

Connection = sa.Connection
CatalogAway = sa.exc.SQLAlchemyError
"""What a catalog that was opened raises when its database is away."""
AGAIN_S = 0.5
"""Between two tries of a database that is away."""
T = TypeVar("T")

log = logging.getLogger("vreplica.service")

_MIGRATIONS = Path(__file__).parent / "migrations"
_PLANNING = 0x76726570
"""The number of the advisory lock under which one mover plans ("vrep")."""
_BUSY_TIMEOUT_S = 30.0
_IDLE_S = 10
"""In a transaction: the database ends one whose process was frozen, or whose machine is gone, and
with it what it holds, such as the planning of all."""


@dataclass(eq=False)
class CatalogUnreachable(ConfigError):
    template = "the catalog at {place} cannot be opened: {reason}"
    remedy = "Is the database running, the URL right, and may this user make tables and a schema?"
    retryable = True
    place: str
    reason: str


@dataclass(eq=False)
class CatalogTooNew(ConfigError):
    template = "the catalog at {place} was made by a later version of vreplica ({version})"
    remedy = "Use that version on every mover; a catalog is never taken back."
    place: str
    version: str


@dataclass(eq=False)
class CatalogUrlInvalid(ConfigError):
    """Nothing of the URL is repeated: its password may be what is not quoted."""

    template = "the database URL of [service] cannot be used: {reason}"
    remedy = (
        "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE; of the password's characters all but"
        " letters, digits, - . _ and ~ as %XX."
    )
    reason: str


class Catalog:
    """One database. Thread-safe: every call takes a connection of its own."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.place = engine.url.render_as_string(hide_password=True)
        self.receivers: Mapping[str, frozenset[str]] = {}
        """Who wants to be told which entries of the audit trail."""

    @classmethod
    def open(cls, url: str) -> Self:
        """Open, and bring the schema up to this version. Raises CatalogUrlInvalid,
        CatalogUnreachable, CatalogTooNew.

        `url`: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/DATABASE`.
        """
        catalog = cls(_engine(url))
        try:
            catalog._migrate()
        except CatalogAway as error:
            catalog.close()
            raise unreachable(url, error) from None
        return catalog

    def close(self) -> None:
        self.engine.dispose()

    def _migrate(self) -> None:
        config = AlembicConfig()
        config.set_main_option("script_location", str(_MIGRATIONS))
        with self.transaction() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_PLANNING + 1)))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError:
                version = connection.execute(sa.text("SELECT version_num FROM alembic_version"))
                found = str(version.scalar())
                known = [s.revision for s in ScriptDirectory.from_config(config).walk_revisions()]
                if found in known:
                    raise
                raise CatalogTooNew(place=self.place, version=found) from None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction that writes; it commits at the end, or nothing of it happened."""
        with self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def planning(self) -> Iterator[sa.Connection | None]:
        """A transaction that one mover at a time is in; None where another one is."""
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                lock = sa.func.pg_try_advisory_xact_lock(_PLANNING)
                if not connection.execute(sa.select(lock)).scalar():
                    yield None
                    return
            yield connection

    def now(self, connection: sa.Connection | None = None) -> datetime:
        """The database's clock, in UTC."""
        if self.engine.dialect.name != "postgresql":
            return datetime.now(UTC)
        query = sa.select(sa.func.clock_timestamp())
        if connection is not None:
            moment = connection.execute(query).scalar_one()
        else:
            with self.engine.connect() as own:
                moment = own.execute(query).scalar_one()
        return moment.astimezone(UTC)  # type: ignore[no-any-return]

    def patiently(self, call: Callable[..., T], *args: Any) -> T:
        """`call`, again and again until the database answers."""
        while True:
            try:
                return call(*args)
            except CatalogAway as error:
                log.warning("the catalog is away, trying again: %s", error)
                time.sleep(AGAIN_S)

    # -- what people ask and decide -----------------------------------------------------------

    def pause(self, job: str, who: str, *, paused: bool) -> bool:
        """Stop planning a job, or plan it again from now on. False where it is so already."""
        with self.transaction() as c:
            now = self.now(c)
            jobs.register(c, [job], now)
            values: dict[str, Any] = {"paused": paused}
            if not paused:
                values["since"] = now
            query = sa.update(t.jobs).where(t.jobs.c.name == job, t.jobs.c.paused != paused)
            changed = c.execute(query.values(values)).rowcount > 0
            if changed:
                self.note(c, who, "job paused" if paused else "job resumed", job)
        return changed

    def note(
        self, connection: sa.Connection, who: str, what: str, job: str | None = None, **data: Any
    ) -> None:
        """An entry of the audit trail, in the caller's transaction; with a notice for each
        receiver that wants it, which stays until it has been told."""
        values = {"time": self.now(connection), "who": who, "what": what, "job": job, "data": data}
        entry = sa.insert(t.audit).values(values).returning(t.audit.c.n)
        n = connection.execute(entry).scalar_one()
        rows = [{"receiver": r, "n": n} for r, wanted in self.receivers.items() if what in wanted]
        if rows:
            connection.execute(sa.insert(t.notices), rows)

    def read(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        """Rows as dicts."""
        with self.engine.connect() as c:
            return [dict(row) for row in c.execute(query).mappings()]

    def history(self, names: Collection[str] = (), limit: int = 50) -> list[dict[str, Any]]:
        """The latest runs, newest first; of these jobs, or of all."""
        query = sa.select(t.runs).order_by(t.runs.c.queued.desc()).limit(limit)
        return self.read(query.where(t.runs.c.job.in_(names)) if names else query)

    def trail(self, job: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The latest entries of the audit trail, newest first."""
        query = sa.select(t.audit).order_by(t.audit.c.n.desc()).limit(limit)
        return self.read(query.where(t.audit.c.job == job) if job else query)


def unreachable(url: str, error: CatalogAway) -> CatalogUnreachable:
    """What `error` says, without the URL's password."""
    place = sa.make_url(url).render_as_string(hide_password=True)
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return CatalogUnreachable(place=place, reason=reason)


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise CatalogUrlInvalid(reason="it is no URL") from None
    if parsed.get_backend_name() not in ("postgresql", "sqlite"):
        raise CatalogUrlInvalid(reason="it names neither PostgreSQL nor SQLite")
    if parsed.get_backend_name() == "postgresql":
        engine = sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10},
            json_serializer=t.to_json,
        )

        @sa.event.listens_for(engine, "connect")
        def _impatient(connection: Any, _: Any) -> None:
            connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_S}s'")
            connection.commit()

        return engine
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sa.create_engine(
        parsed,
        poolclass=NullPool,
        connect_args={"timeout": _BUSY_TIMEOUT_S, "isolation_level": None},
        json_serializer=t.to_json,
    )

    # The driver's own transactions begin late and without the lock; these begin with it.
    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
