"""A database inside a guest: SQLite over files that live on the virtual disk.

    accounts in SQLite --- app.db, app.db-wal ---> page cache --- write-back ---> virtual disk
    (a transfer is two                              (a folder of               (tracked, as every
     transactions: half                              the lab: lost             write of a guest)
     of it is in memory)                             with the power)

    disk   base          base + 64 KiB               base + 64 KiB + ROOM
           directory     app.db                      app.db-wal

Python's SQLite takes no VFS of one's own, so the files lie in a folder that plays the guest's
page cache, and what the guest has written back is what differs from the disk. The database
runs with synchronous=OFF, as an application does that trusts the operating system.

What an image then holds tells how it was taken:
    application   the transfer finished, the log checkpointed and gone, `clean` set
    filesystem    every committed transaction, in a log that has to be replayed; a transfer may
                  be half done
    crash         what had been written back by chance: committed transactions are missing, the
                  directory is older than the files, or the database is damaged
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vreplica.disk import Disk
from vreplica.units import KIB, MIB

if TYPE_CHECKING:
    from vreplica.lab.vm import VirtualMachine

BASE = MIB
ROOM = 8 * MIB
PAGE = 4 * KIB
NAMES = ("app.db", "app.db-wal")
_FIRST = BASE + 64 * KIB
_ACCOUNTS = 64


def place_of(name: str) -> int:
    """Where a file begins on the disk."""
    return _FIRST + NAMES.index(name) * ROOM


class GuestApp:
    """The application of one VM. Its hook is told when the guest freezes, stops or loses power."""

    def __init__(self, vm: VirtualMachine, folder: Path, key: int = 2000, seed: int = 0) -> None:
        self.vm, self.folder, self.key = vm, folder, key
        self.acknowledged = 0
        """Transactions that the application was told are committed."""
        self._random = random.Random(seed)
        self._lock = threading.RLock()
        self._written: dict[tuple[str, int], bytes] = {}
        self._pending: tuple[int, int] | None = None
        self._db: sqlite3.Connection | None = None

    # -- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the database, from the disk where it has one; SQLite then recovers it."""
        with self._lock:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._written.clear()
            fresh = not extract(self._read, self.folder)
            db = sqlite3.connect(
                self.folder / "app.db", isolation_level=None, check_same_thread=False
            )
            db.execute("pragma journal_mode=wal")
            db.execute("pragma synchronous=off")
            db.execute("pragma wal_autocheckpoint=64")
            self._db = db
            if fresh:
                db.execute("create table accounts (id integer primary key, amount integer)")
                db.execute("create table state (clean integer, transactions integer)")
                rows = [(n, 1000) for n in range(_ACCOUNTS)]
                db.executemany("insert into accounts values (?, ?)", rows)
                db.execute("insert into state values (0, 0)")
            (self.acknowledged,) = db.execute("select transactions from state").fetchone()
            self.sync()
        self.vm.guest_state.hook = self.hear

    def hear(self, event: str) -> None:
        """What happens to the guest."""
        with self._lock:
            if event == "freeze":
                self.settle()
            elif event == "sync":
                self.sync()
            elif event == "thaw":
                self._clean(0)
            elif event == "stop":
                self.settle()
                self._close()
                self.sync()
            elif event == "lost":
                self._close()
            elif event == "start":
                self.start()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    # -- work -------------------------------------------------------------------------------

    def work(self, transfers: int) -> int:
        """Move money; the last transfer stays half done. Returns committed transactions."""
        with self._lock:
            for _ in range(transfers):
                self._credit()
                giver, taker = self._random.sample(range(_ACCOUNTS), 2)
                self._transaction("update accounts set amount = amount - 1 where id = ?", giver)
                self._pending = (giver, taker)
            return self.acknowledged

    def _credit(self) -> None:
        if self._pending is not None:
            _, taker = self._pending
            self._pending = None
            self._transaction("update accounts set amount = amount + 1 where id = ?", taker)

    def _transaction(self, statement: str, account: int) -> None:
        if self._db is None:
            raise ValueError("the application does not run")
        self._db.execute("begin immediate")
        self._db.execute(statement, (account,))
        self._db.execute("update state set transactions = transactions + 1")
        self._db.execute("commit")
        self.acknowledged += 1

    def settle(self) -> None:
        """What a VSS writer or a freeze script does: finish, checkpoint, mark, flush."""
        if self._db is None:
            return
        self._credit()
        self._clean(1)
        self._db.execute("pragma wal_checkpoint(truncate)")
        self.sync()

    def _clean(self, value: int) -> None:
        if self._db is not None:
            self._db.execute("update state set clean = ?", (value,))

    # -- the disk ---------------------------------------------------------------------------

    def sync(self) -> None:
        """All of the page cache, then the directory."""
        for name, at, data in self._dirty():
            self._put(name, at, data)
        self._write_directory()

    def write_back(self, fraction: float = 0.5) -> int:
        """Some of the page cache, in any order, as a guest's kernel does by itself."""
        with self._lock:
            dirty = list(self._dirty())
            self._random.shuffle(dirty)
            chosen = dirty[: int(len(dirty) * fraction)]
            for name, at, data in chosen:
                self._put(name, at, data)
            return len(chosen)

    def _dirty(self) -> list[tuple[str, int, bytes]]:
        found = []
        for name in NAMES:
            path = self.folder / name
            content = path.read_bytes() if path.exists() else b""
            if len(content) > ROOM:
                raise ValueError(f"{name} has outgrown its {ROOM} bytes")
            for at in range(0, len(content), PAGE):
                data = content[at : at + PAGE].ljust(PAGE, b"\0")
                if self._written.get((name, at)) != data:
                    found.append((name, at, data))
        return found

    def _put(self, name: str, at: int, data: bytes) -> None:
        self.vm.chains.write(self.key, place_of(name) + at, memoryview(data))
        self._written[name, at] = data

    def _write_directory(self) -> None:
        sizes = {n: p.stat().st_size for n in NAMES if (p := self.folder / n).exists()}
        text = json.dumps(sizes).encode().ljust(PAGE, b"\0")
        self.vm.chains.write(self.key, BASE, memoryview(text))

    def _read(self, offset: int, size: int) -> bytes:
        return bytes(self.vm.chains.read(self.key, offset, size))


# -- looking at an image --------------------------------------------------------------------


def reader(disk: Disk) -> Callable[[int, int], bytes]:
    """The way to read an image for `extract`."""

    def read(offset: int, size: int) -> bytes:
        buffer = bytearray(size)
        disk.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    return read


def extract(read: Callable[[int, int], bytes], folder: Path) -> bool:
    """Copy the files out of an image; False where it has none."""
    text = read(BASE, PAGE).rstrip(b"\0")
    if not text:
        return False
    for name, size in json.loads(text).items():
        whole = -(-size // PAGE) * PAGE
        content = read(place_of(name), whole)[:size] if size else b""
        (folder / name).write_bytes(content)
    return True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What opening the database of an image shows."""

    opens: bool
    transactions: int
    clean: bool
    whole: bool
    """No transfer is half done."""
    replayed: bool
    """There was a log to replay."""

    def level(self, acknowledged: int) -> str:
        """ "application", "filesystem" or "crash", given what the application had committed."""
        if not self.opens or self.transactions < acknowledged:
            return "crash"
        return "application" if self.clean and self.whole and not self.replayed else "filesystem"


def judge(read: Callable[[int, int], bytes], folder: Path) -> Verdict:
    """Open the database that an image holds, as its application would after a boot."""
    broken = Verdict(opens=False, transactions=0, clean=False, whole=False, replayed=False)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if not extract(read, folder):
            return broken
    except ValueError:
        return broken
    log = folder / "app.db-wal"
    replayed = log.exists() and log.stat().st_size > 0
    db = sqlite3.connect(folder / "app.db")
    try:
        (good,) = db.execute("pragma integrity_check").fetchone()
        if good != "ok":
            return broken
        clean, transactions = db.execute("select clean, transactions from state").fetchone()
        (total,) = db.execute("select sum(amount) from accounts").fetchone()
    except sqlite3.DatabaseError:
        return broken
    finally:
        db.close()
    return Verdict(True, transactions, bool(clean), total == _ACCOUNTS * 1000, replayed)
