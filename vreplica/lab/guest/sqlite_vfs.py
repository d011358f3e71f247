"""A guest's files on its virtual disk, behind a page cache; and SQLite's way to them, a VFS.

    SQLite --- xRead, xWrite ---> page cache --- xSync, write-back, sync ---> virtual disk
                                  (memory: lost with the power)

    disk   base          base + 64 KiB               base + 64 KiB + ROOM
           directory     app.db                      app.db-wal

    directory   one page of JSON, {"app.db": 8192, "app.db-wal": 4152}: sizes in bytes

As in a kernel: what is written is in the cache until somebody asks for it to be on the disk, and
the size that the disk knows of a file follows with the file's own sync, not with a write-back.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import apsw

from vreplica.units import KIB, MIB, round_down, round_up

BASE = MIB
ROOM = 8 * MIB
PAGE = 4 * KIB
NAMES = ("app.db", "app.db-wal")

Read = Callable[[int, int], bytes]
Write = Callable[[int, bytes], None]


def place_of(name: str) -> int:
    """Where a file begins on the disk."""
    return BASE + 64 * KIB + NAMES.index(name) * ROOM


class Files:
    """The files of one guest. `read(offset, size)` and `write(offset, data)` reach the disk.

    Raises ValueError where something else is at the directory's place.
    """

    def __init__(self, read: Read, write: Write) -> None:
        self._read, self._write = read, write
        self._pages: dict[tuple[str, int], bytearray] = {}
        self._dirty: set[tuple[str, int]] = set()
        text = read(BASE, PAGE).rstrip(b"\0")
        self._on_disk: dict[str, int] = json.loads(text) if text else {}
        if not isinstance(self._on_disk, dict) or not self._on_disk.keys() <= set(NAMES):
            raise ValueError("the disk holds something else than the application's files")
        self.sizes = dict(self._on_disk)

    # -- what a program sees ----------------------------------------------------------------

    def read(self, name: str, offset: int, amount: int) -> bytes:
        """What is there: fewer bytes at the end of the file, none past it."""
        end = min(offset + amount, self.sizes[name])
        first = round_down(offset, PAGE)
        pages = b"".join(self._page(name, at) for at in range(first, end, PAGE))
        return pages[offset - first : max(end, offset) - first]

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Raises apsw.FullError where the file outgrows its room."""
        end = offset + len(data)
        if end > self.sizes[name]:
            self.resize(name, end)
        for at in range(round_down(offset, PAGE), end, PAGE):
            low, high = max(at, offset), min(at + PAGE, end)
            self._page(name, at)[low - at : high - at] = data[low - offset : high - offset]
            self._dirty.add((name, at))

    def resize(self, name: str, size: int) -> None:
        """Cut a file off, or let it grow with zeros; one that is not there is made."""
        if size > ROOM:
            raise apsw.FullError(f"{name} has outgrown its {ROOM} bytes")
        old = self.sizes.get(name, 0)
        low, high = sorted((old, size))
        if low % PAGE:
            at = round_down(low, PAGE)
            self._page(name, at)[low - at :] = bytes(at + PAGE - low)
            self._dirty.add((name, at))
        for at in range(round_up(low, PAGE), high, PAGE):
            if size > old:
                self._pages[name, at] = bytearray(PAGE)
                self._dirty.add((name, at))
            else:
                self._pages.pop((name, at), None)
                self._dirty.discard((name, at))
        self.sizes[name] = size

    def delete(self, name: str) -> None:
        self.resize(name, 0)
        del self.sizes[name]

    def _page(self, name: str, at: int) -> bytearray:
        if (name, at) not in self._pages:
            self._pages[name, at] = bytearray(self._read(place_of(name) + at, PAGE))
        return self._pages[name, at]

    # -- what reaches the disk --------------------------------------------------------------

    def sync(self, *names: str) -> None:
        """These files with their sizes, or everything."""
        for page in sorted(self._dirty):
            if not names or page[0] in names:
                self._put(page)
        wanted = {n: s for n, s in self.sizes.items() if not names or n in names}
        after = {**(self._on_disk if names else {}), **wanted}
        if after != self._on_disk:
            self._write(BASE, json.dumps(after).encode().ljust(PAGE, b"\0"))
            self._on_disk = after

    def write_back(self, share: float, chance: random.Random) -> int:
        """Some of the cache, in any order, as a guest's kernel does by itself; returns pages."""
        pages = sorted(self._dirty)
        chosen = chance.sample(pages, int(len(pages) * share))
        for page in chosen:
            self._put(page)
        return len(chosen)

    def _put(self, page: tuple[str, int]) -> None:
        name, at = page
        self._write(place_of(name) + at, bytes(self._pages[page]))
        self._dirty.discard(page)


class GuestVFS(apsw.VFS):
    """`apsw.Connection("app.db", vfs=vfs.name)`: one program that has the files to itself.

    There is no shared memory, so a database in WAL mode needs locking_mode=exclusive; and no
    place for a rollback journal or temporary files, which have to be in memory.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self.name = f"guest-{id(self)}"
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path not in NAMES:
            raise apsw.CantOpenError(f"no place on the disk for {path}")
        if path not in self.files.sizes:
            self.files.resize(path, 0)
        flags[1] = flags[0]
        return _File(self.files, path)

    def xAccess(self, pathname: str, flags: int) -> bool:
        return pathname in self.files.sizes

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.files.delete(filename)

    def xFullPathname(self, name: str) -> str:
        return name


class _File:
    """A file that SQLite has open."""

    def __init__(self, files: Files, name: str) -> None:
        self.files, self.name = files, name

    def xRead(self, amount: int, offset: int) -> bytes:
        return self.files.read(self.name, offset, amount)

    def xWrite(self, data: bytes, offset: int) -> None:
        self.files.write(self.name, offset, data)

    def xTruncate(self, newsize: int) -> None:
        self.files.resize(self.name, newsize)

    def xSync(self, flags: int) -> None:
        self.files.sync(self.name)

    def xFileSize(self) -> int:
        return self.files.sizes[self.name]

    def xLock(self, level: int) -> None:
        """Nobody else is there."""

    def xUnlock(self, level: int) -> None:
        """As for xLock."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return PAGE

    def xDeviceCharacteristics(self) -> int:
        return 0

    def xClose(self) -> None:
        """The cache outlives it."""
