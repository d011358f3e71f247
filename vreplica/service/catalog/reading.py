"""Reads the catalog for commands that only look: nothing is created, migrated or locked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from vreplica.service.catalog import schema
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.engines import (
    CatalogAway,
    engine_to_read,
    sqlite_file,
    unreachable,
)

T = TypeVar("T")

_TRIES: Final = 5
"""Of reading an SQLite file without locks, while a process that writes it comes and goes."""


def consult(url: str, read: Callable[[Catalog], T]) -> T | None:
    """Calls `read` and returns its result. None where no catalog has been made yet.

    Raises CatalogUrlInvalid, CatalogUnreachable, CatalogTooNew, CatalogTooOld.

    SQLite opens a file with a write-ahead log only together with that log and its index, and would
    leave both behind. Where there is no log, no process has the file open: it is read without, and
    read again where a writer has come in between.
    """
    file = sqlite_file(url)
    if file is None:
        return _read(url, read)
    for _ in range(_TRIES):
        before = _stamp(file)
        if before is None:
            return None
        if _log(file).exists():
            break
        try:
            found = _read(url, read, immutable=True)
        except Exception:
            if _stamp(file) == before:
                raise
            continue
        if _stamp(file) == before and not _log(file).exists():
            return found
    return _read(url, read)


def _read(url: str, read: Callable[[Catalog], T], *, immutable: bool = False) -> T | None:
    catalog = Catalog(engine_to_read(url, immutable=immutable))
    try:
        with catalog.transaction() as c:
            found = schema.version(c)
        if found is None:
            return None
        schema.check_usable(found, catalog.place)
        return read(catalog)
    except CatalogAway as error:
        raise unreachable(url, error) from None
    finally:
        catalog.close()


def _log(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Changes with the file's content; None where there is no file."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
