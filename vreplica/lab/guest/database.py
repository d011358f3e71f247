"""An application in a guest: a SQLite database whose files are on the virtual disk.

    accounts in SQLite --- app.db, app.db-wal ---> sqlite_vfs ---> virtual disk
    (a transfer is two                             (page cache,    (tracked, like every
     transactions: half                             in memory)      write of a guest)
     of it is in memory)

The database runs in WAL mode with synchronous=NORMAL, as SQLite advises: its log is synced at a
checkpoint, not at a commit. Checkpoints come before a transfer, never after one, so the last
committed transactions are in memory only.

The content of an image then shows its consistency level:
    application   the transfer is complete, the log is checkpointed and removed, `clean` is set
    filesystem    every committed transaction is there, in a log that has to be replayed; a
                  transfer may be half done
    crash         only synced or written-back pages: committed transactions are missing

The application itself is in memory: start it again after a restart of the lab.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

import apsw

from vreplica.disk import Disk
from vreplica.lab.context import VmContext
from vreplica.lab.guest.sqlite_vfs import DiskFileSystem, GuestVFS, Read, Write

_ACCOUNTS = 64
_LOG = 32
"""Transactions after which the log is checkpointed."""


class Database:
    """The open database in the files of a disk. Opening it recovers it."""

    def __init__(self, read: Read, write: Write) -> None:
        """Raises ValueError or apsw.Error where the disk has other content, or damaged content."""
        self.files = DiskFileSystem(read, write)
        self.fresh = not self.files.sizes
        self.replayed = self.files.sizes.get("app.db-wal", 0) > 0
        self._vfs = GuestVFS(self.files)
        self.sql = apsw.Connection("app.db", vfs=self._vfs.name)
        try:
            modes = ("locking_mode=exclusive", "temp_store=memory", "journal_mode=memory")
            for mode in (*modes, "journal_mode=wal", "synchronous=normal"):
                self.sql.execute(f"pragma {mode}").fetchall()
            self.sql.wal_autocheckpoint(0)
        except apsw.Error:
            self.close(lost=True)
            raise

    def value(self, query: str) -> int:
        return int(self.sql.execute(query).get)

    def checkpoint(self, mode: int) -> None:
        self.sql.wal_checkpoint(mode=mode)

    def close(self, *, lost: bool) -> None:
        """Checkpoints, removes the log and syncs all files; `lost`: does none of it."""
        self.sql.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(lost))
        self.sql.close()
        self._vfs.unregister()
        if not lost:
            self.files.sync()


class GuestApp:
    """The application of one VM. `on_event` receives the events of the guest."""

    def __init__(self, vm: VmContext, key: int = 2000, seed: int = 0) -> None:
        self.vm, self.key = vm, key
        self.acknowledged = 0
        """Transactions that SQLite reported as committed."""
        self._random = random.Random(seed)
        self._may_work = threading.Condition(threading.RLock())
        self._frozen = False
        self._logged = 0
        self._pending: int | None = None
        self._db: Database | None = None

    # -- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Opens the database, or makes it where the disk has none. SQLite recovers it."""
        with self._may_work:
            self._stop(lost=True)
            self._db = db = Database(self._read, self._write)
            if db.fresh:
                db.sql.execute("create table accounts (id integer primary key, amount integer)")
                db.sql.execute("create table state (clean integer, transactions integer)")
                rows = [(n, 1000) for n in range(_ACCOUNTS)]
                db.sql.executemany("insert into accounts values (?, ?)", rows)
                db.sql.execute("insert into state values (0, 0)")
            self.acknowledged = db.value("select transactions from state")
            db.files.sync()
        self.vm.guest_state.on_event = self.on_event

    def on_event(self, event: str) -> None:
        """Handles an event of the guest. While frozen, `work` waits for the thaw."""
        with self._may_work:
            self._frozen = event in ("freeze", "sync")
            if event == "freeze":
                self._quiesce()
            elif event == "sync" and self._db is not None:
                self._db.files.sync()
            elif event == "thaw":
                self._clean(0)
            elif event == "stop":
                self._quiesce()
                self._stop(lost=False)
            elif event == "lost":
                self._stop(lost=True)
            elif event == "start":
                self.start()
            self._may_work.notify_all()

    def _stop(self, *, lost: bool) -> None:
        db, self._db, self._pending, self._logged = self._db, None, None, 0
        if db is not None:
            db.close(lost=lost)

    # -- work -------------------------------------------------------------------------------

    def work(self, transfers: int) -> int:
        """Does transfers; the last one stays half done. Returns the committed transactions."""
        with self._may_work:
            for _ in range(transfers):
                self._may_work.wait_for(lambda: not self._frozen)
                if self._logged >= _LOG and self._db is not None:
                    self._db.checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
                    self._logged = 0
                self._credit()
                giver, taker = self._random.sample(range(_ACCOUNTS), 2)
                self._transaction("update accounts set amount = amount - 1 where id = ?", giver)
                self._pending = taker
            return self.acknowledged

    def _credit(self) -> None:
        if self._pending is not None:
            taker, self._pending = self._pending, None
            self._transaction("update accounts set amount = amount + 1 where id = ?", taker)

    def _transaction(self, statement: str, account: int) -> None:
        if self._db is None:
            raise ValueError("the application does not run")
        with self._db.sql as transaction:
            transaction.execute(statement, (account,))
            transaction.execute("update state set transactions = transactions + 1")
        self.acknowledged += 1
        self._logged += 1

    def _quiesce(self) -> None:
        """Completes the transfer, sets `clean`, checkpoints and syncs, as a VSS writer does."""
        if self._db is not None:
            self._credit()
            self._clean(1)
            self._db.checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._logged = 0
            self._db.files.sync()

    def _clean(self, value: int) -> None:
        if self._db is not None:
            self._db.sql.execute("update state set clean = ?", (value,))

    def write_back(self, share: float = 0.5) -> int:
        """Writes a share of the page cache, as a kernel does by itself. Returns the pages."""
        with self._may_work:
            return self._db.files.write_back(share, self._random) if self._db is not None else 0

    # -- the disk ---------------------------------------------------------------------------

    def _write(self, offset: int, data: bytes) -> None:
        self.vm.chains.write(self.key, offset, memoryview(data))

    def _read(self, offset: int, size: int) -> bytes:
        return bytes(self.vm.chains.read(self.key, offset, size))


# -- inspection of an image -----------------------------------------------------------------


def disk_reader(disk: Disk) -> Callable[[int, int], bytes]:
    """Reads a disk, for `inspect_image`."""

    def read(offset: int, size: int) -> bytes:
        buffer = bytearray(size)
        disk.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    return read


@dataclass(frozen=True, slots=True)
class ImageState:
    """The state of the database in an image."""

    opens: bool
    transactions: int
    clean: bool
    whole: bool
    """No transfer is half done."""
    replayed: bool
    """The log had to be replayed."""

    def level(self, acknowledged: int) -> str:
        """Returns "application", "filesystem" or "crash".

        `acknowledged`: transactions that were committed when the image was taken.
        """
        if not self.opens or self.transactions < acknowledged:
            return "crash"
        return "application" if self.clean and self.whole and not self.replayed else "filesystem"


def inspect_image(read: Read) -> ImageState:
    """Opens the database in an image as the application does after a boot.

    The image is only read: the writes of the recovery stay in the page cache.
    """
    broken = ImageState(opens=False, transactions=0, clean=False, whole=False, replayed=False)
    try:
        db = Database(read, lambda offset, data: None)
    except (ValueError, apsw.Error):
        return broken
    try:
        if db.fresh or db.sql.execute("pragma integrity_check").get != "ok":
            return broken
        return ImageState(
            opens=True,
            transactions=db.value("select transactions from state"),
            clean=bool(db.value("select clean from state")),
            whole=db.value("select sum(amount) from accounts") == _ACCOUNTS * 1000,
            replayed=db.replayed,
        )
    except apsw.Error:
        return broken
    finally:
        db.close(lost=True)
