"""Versions of the catalog's schema: which ones this version of vreplica reads, writes and makes.

    0001  the first schema
    0002  failovers that are requested of the service; notices
    0003  indexes
    0004  when points were read, versions of movers, what commands did, a row a member of a group

Only `serve` and `catalog migrate` bring an existing catalog to NEWEST, because older movers refuse
to start on it from then on. Every other command takes it as it is, or refuses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from weakref import WeakSet

import sqlalchemy as sa

from vreplica.service.catalog.errors import CatalogTooNew, CatalogTooOld

NEWEST: Final = "0004"
"""The last migration; `migrate` makes this schema."""
USABLE_FROM: Final = "0002"
"""The oldest schema with all tables and columns that this version needs."""
_WITH_0004: Final[WeakSet[sa.Engine]] = WeakSet()
"""Engines whose database has been seen with schema 0004 or later."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSIONS = "alembic_version"


def version(c: sa.Connection) -> str | None:
    """The schema's version; None for a database without a catalog."""
    if not sa.inspect(c).has_table(_VERSIONS):
        return None
    found = c.execute(sa.text(f"SELECT version_num FROM {_VERSIONS}")).scalar()  # noqa: S608
    return None if found is None else str(found)


def has_0004(c: sa.Connection) -> bool:
    """Whether the tables of 0004 are there: vr_job_seen, vr_mover_info, vr_by_hand.

    Commands use a catalog of 0002 or 0003 as it is, without them.
    """
    if c.engine not in _WITH_0004 and (version(c) or "") >= "0004":
        _WITH_0004.add(c.engine)  # no schema is ever taken back
    return c.engine in _WITH_0004


def check_usable(found: str, place: str) -> None:
    """Raises CatalogTooNew, CatalogTooOld."""
    check_known(found, place)
    if found < USABLE_FROM:
        raise CatalogTooOld(place=place, version=found, oldest=USABLE_FROM)


def check_known(found: str, place: str) -> None:
    """Raises CatalogTooNew."""
    if found > NEWEST:
        raise CatalogTooNew(place=place, version=found, newest=NEWEST)


def migrate(c: sa.Connection) -> None:
    """Bring the schema to NEWEST, from nothing or from any older version."""
    # Alembic is slow to load, and nearly every command finds the schema as it should be.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = c
    command.upgrade(config, "head")
