"""Connections to the catalog's database, SQLite or PostgreSQL, to write or only to read.

    sqlite:///PATH                            one machine
    postgresql://USER:PASSWORD@HOST/DATABASE  several movers

A connection that only reads cannot change the database, whatever is executed on it.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from vreplica.files import create_private, make_private_folder
from vreplica.service.catalog.errors import (
    CatalogDamaged,
    CatalogUnreachable,
    CatalogUrlInvalid,
)
from vreplica.service.catalog.tables import from_json, to_json

CatalogAway = sa.exc.SQLAlchemyError
"""Raised by an open catalog when its database does not answer."""

_BUSY_TIMEOUT_S: Final = 30.0
_CONNECT_TIMEOUT_S: Final = 10
IDLE_S: Final = 10
"""PostgreSQL ends a transaction that is idle for so long. Its process may be frozen, or its
machine gone, and its locks, such as the one of planning, would stop all other movers."""


def engine_to_write(url: str) -> sa.Engine:
    """Creates the folder of an SQLite file. Raises CatalogUrlInvalid."""
    parsed = _parsed(url)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed, f"idle_in_transaction_session_timeout = '{IDLE_S}s'")
    if parsed.database and parsed.database != ":memory:":
        make_private_folder(Path(parsed.database).absolute().parent)
        with suppress(OSError):  # SQLite gives the reason
            create_private(Path(parsed.database))
    engine = sa.create_engine(
        parsed,
        poolclass=NullPool,
        connect_args={"timeout": _BUSY_TIMEOUT_S, "isolation_level": None},
        json_serializer=to_json,
        json_deserializer=from_json,
    )

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    # sqlite3 begins a transaction late and without the lock of a writer; this one has it at once.
    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def engine_to_read(url: str, *, immutable: bool = False) -> sa.Engine:
    """Creates nothing. `immutable`: SQLite takes no locks; good while no process has the file open.

    Raises CatalogUrlInvalid.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed, "default_transaction_read_only = on")
    uri = f"file:{quote(str(parsed.database))}?mode=ro{'&immutable=1' if immutable else ''}"
    engine = sa.create_engine(
        parsed,
        creator=lambda: sqlite3.connect(
            uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None
        ),
        poolclass=NullPool,
        json_deserializer=from_json,
    )

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def clock(c: sa.Connection) -> datetime:
    """The time in UTC: by the clock of PostgreSQL, or of this machine."""
    if c.dialect.name != "postgresql":
        return datetime.now(UTC)
    moment: datetime = c.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for PostgreSQL. Raises CatalogUrlInvalid."""
    parsed = _parsed(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def is_damaged(error: BaseException) -> bool:
    """True where the database has been reached and cannot read its own file."""
    # sqlite3 raises DatabaseError itself for SQLITE_CORRUPT and SQLITE_NOTADB, else a class of it.
    return type(getattr(error, "orig", None)) is sqlite3.DatabaseError


def unreachable(url: str, error: CatalogAway) -> CatalogUnreachable | CatalogDamaged:
    """An error with the database's reason, and the URL without its password."""
    place = sa.make_url(url).render_as_string(hide_password=True)
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    if is_damaged(error):
        return CatalogDamaged(f"{place}: {reason}")
    return CatalogUnreachable(place=place, reason=reason)


def _parsed(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise CatalogUrlInvalid(reason="it is not a URL") from None
    if parsed.get_backend_name() not in ("postgresql", "sqlite"):
        raise CatalogUrlInvalid(reason="it names neither PostgreSQL nor SQLite")
    return parsed


def _postgresql(parsed: sa.URL, setting: str) -> sa.Engine:
    engine = sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_S},
        json_serializer=to_json,
        json_deserializer=from_json,
    )

    # Not by the parameter `options` of a connection, which connection poolers refuse.
    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        connection.execute(f"SET {setting}")
        connection.commit()

    return engine
