"""The state of a site in SQLite: a row for each managed object. It survives a kill.

    objects(moid, class, body)      body: JSON of the object's plain attributes
    loose(path)                     files that are made or removed now (vm.orphan_files)
    meta(key, value)                counters and site settings
    events(key, body)               the event list, only ever added to

Values are as api/encoding.py says. Changed rows are written before an answer leaves and before a
task ends. With WAL and synchronous=NORMAL, a committed row survives the death of the process; it
may be lost when the machine loses power (SQLite, "PRAGMA synchronous").
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vreplica.files import create_private
from vreplica.lab.api.encoding import ReferenceResolver, decode, encode
from vreplica.lab.api.managed import Managed, ObjectRegistry

_SCHEMA = """
create table if not exists objects (moid text primary key, class text, body text);
create table if not exists events (key integer primary key, body text);
create table if not exists loose (path text primary key);
create table if not exists meta (key text primary key, value text);
"""


def number_of(moid: str) -> int:
    """`vm-1015` -> 1015, so objects sort in the order of their making. 0: no number."""
    tail = moid.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


class StateDb:
    """The database of one site."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._events: list[tuple[int, Any]] = []
        create_private(path)  # it has the sessions of whoever is logged in
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def flush(self, registry: ObjectRegistry, meta: dict[str, Any] | None = None) -> None:
        """Writes what changed since the last flush. Returns once it is committed."""
        # The lock comes first: where another thread has taken the changes to write them, this
        # one must wait until that thread has committed.
        with self._lock:
            if not (registry.dirty or registry.gone or meta or self._events):
                return
            with registry.changed:
                dirty, registry.dirty = registry.dirty, set()
                gone, registry.gone = registry.gone, set()
                events, self._events = self._events, []
                rows = [(i._moId, type(i).__name__, i.stored_state()) for i in dirty]
            encoded = [(m, c, json.dumps(encode(s))) for m, c, s in rows]
            self._db.execute("begin immediate")
            self._db.executemany("replace into objects values (?, ?, ?)", encoded)
            self._db.executemany("delete from objects where moid = ?", [(m,) for m in gone])
            bodies = [(key, json.dumps(encode(event))) for key, event in events]
            self._db.executemany("replace into events values (?, ?)", bodies)
            if meta:
                pairs = [(k, json.dumps(v)) for k, v in meta.items()]
                self._db.executemany("replace into meta values (?, ?)", pairs)
            self._db.execute("commit")

    def add_event(self, key: int, event: Any) -> None:
        """Adds an event, which the next flush writes."""
        self._events.append((key, event))

    def events(self, site: Any, most: int) -> list[Any]:
        """The last `most` events, oldest first."""
        with self._lock:
            found = self._db.execute("select body from events order by key desc limit ?", (most,))
            bodies = [body for (body,) in found]
        references = ReferenceResolver(site.objects)
        return [decode(json.loads(body), references) for body in reversed(bodies)]

    def meta(self) -> dict[str, Any]:
        with self._lock:
            return {k: json.loads(v) for k, v in self._db.execute("select key, value from meta")}

    def add_orphan_files(self, paths: Iterable[str]) -> None:
        with self._lock:
            self._db.executemany("replace into loose values (?)", [(p,) for p in paths])

    def remove_orphan_files(self, paths: Iterable[str]) -> None:
        with self._lock:
            self._db.executemany("delete from loose where path = ?", [(p,) for p in paths])

    def orphan_files(self) -> set[str]:
        with self._lock:
            return {path for (path,) in self._db.execute("select path from loose")}

    def load(self, site: Any, registry: ObjectRegistry) -> int:
        """Reads all objects: makes each one, then fills it, so references find their objects."""
        with self._lock:
            rows = list(self._db.execute("select moid, class, body from objects"))
        made = [(Managed._by_name[name](site, moid), body) for moid, name, body in rows]
        registry.objects.update({item._moId: item for item, _ in made})
        references = ReferenceResolver(registry.objects)
        for item, body in made:
            for name, value in json.loads(body).items():
                item.__dict__[name] = decode(value, references)
        made.sort(key=lambda pair: number_of(pair[0]._moId))
        for item, _ in made:
            item.loaded()
        return len(made)
