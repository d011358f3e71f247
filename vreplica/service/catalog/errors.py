"""Errors of opening the catalog. In each of them nothing was changed."""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.errors import ConfigError


@dataclass(eq=False)
class CatalogUnreachable(ConfigError):
    template = "cannot open the catalog at {place}: {reason}"
    remedy = (
        "Check that the database runs, that the URL is right, and that this user may create tables"
        " and a schema."
    )
    retryable = True
    place: str
    reason: str


@dataclass(eq=False)
class CatalogDamaged(ConfigError):
    """The database answers, and what it says cannot be believed."""

    template = "the catalog is damaged: {reason}"
    remedy = (
        "Nothing was changed, and no recovery point depends on it. Stop the service. Restore the "
        "database; or move it away (an SQLite file with its -wal and -shm), run `vreplica-sync "
        "catalog rebuild`, which reads points and failovers again, and start the service. The "
        "history of runs and the audit trail are lost with it."
    )
    exit_code = 1
    reason: str


@dataclass(eq=False)
class CatalogTooNew(ConfigError):
    template = (
        "the catalog at {place} has schema {version}, made by a later version of vreplica; this"
        " version knows schemas up to {newest}"
    )
    remedy = (
        "Install the later version here as well. The catalog was not changed, and its schema cannot"
        " be taken back."
    )
    place: str
    version: str
    newest: str


@dataclass(eq=False)
class CatalogTooOld(ConfigError):
    template = (
        "the catalog at {place} has schema {version}; this version of vreplica needs schema"
        " {oldest} or later"
    )
    remedy = (
        "Upgrade vreplica on all movers, then run `vreplica-sync catalog migrate`, or start the"
        " upgraded service. The catalog was not changed."
    )
    place: str
    version: str
    oldest: str


@dataclass(eq=False)
class CatalogUrlInvalid(ConfigError):
    """The message does not repeat the URL: an unquoted password may be part of it."""

    template = "cannot use the database URL of [service]: {reason}"
    remedy = (
        "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE. In the password write every character"
        " except letters, digits, - . _ and ~ as %XX."
    )
    reason: str
