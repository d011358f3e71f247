"""A small file system on a virtual disk, with a page cache, and a VFS for SQLite on top.

    SQLite --- xRead, xWrite ---> page cache --- xSync, write-back, sync ---> virtual disk
                                  (memory: lost with the power)

    disk   base          base + 64 KiB               base + 64 KiB + ROOM
           directory     app.db                      app.db-wal

    directory   one page of JSON, {"app.db": 8192, "app.db-wal": 4152}: sizes in bytes

As in a kernel, written data is in the cache until it is synced or written back. The size of a file
on the disk changes only when the file is synced, not when pages are written back.
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
    """The offset of a file on the disk."""
    return BASE + 64 * KIB + NAMES.index(name) * ROOM


class DiskFileSystem:
    """The files on one disk, which `read(offset, size)` and `write(offset, data)` access.

    Raises ValueError where the disk has no directory but other content in its place.
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

    # -- calls of a program -----------------------------------------------------------------

    def read(self, name: str, offset: int, amount: int) -> bytes:
        """Reads a file: fewer bytes at its end, none after it."""
        end = min(offset + amount, self.sizes[name])
        first = round_down(offset, PAGE)
        pages = b"".join(self._page(name, at) for at in range(first, end, PAGE))
        return pages[offset - first : max(end, offset) - first]

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Writes to a file. Raises apsw.FullError where it needs more than ROOM bytes."""
        end = offset + len(data)
        if end > self.sizes[name]:
            self.resize(name, end)
        for at in range(round_down(offset, PAGE), end, PAGE):
            low, high = max(at, offset), min(at + PAGE, end)
            self._page(name, at)[low - at : high - at] = data[low - offset : high - offset]
            self._dirty.add((name, at))

    def resize(self, name: str, size: int) -> None:
        """Cuts a file, or extends it with zeros. A missing file is made."""
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

    # -- writes to the disk -----------------------------------------------------------------

    def sync(self, *names: str) -> None:
        """Writes these files with their sizes to the disk, or all files."""
        for page in sorted(self._dirty):
            if not names or page[0] in names:
                self._put(page)
        wanted = {n: s for n, s in self.sizes.items() if not names or n in names}
        after = {**(self._on_disk if names else {}), **wanted}
        if after != self._on_disk:
            self._write(BASE, json.dumps(after).encode().ljust(PAGE, b"\0"))
            self._on_disk = after

    def write_back(self, share: float, chance: random.Random) -> int:
        """Writes a share of the cache in random order. Returns the number of pages."""
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
    """The VFS for one connection: `apsw.Connection("app.db", vfs=vfs.name)`.

    It has no shared memory, so WAL mode needs locking_mode=exclusive. It has no place for a
    rollback journal and temporary files, so these have to be in memory.
    """

    def __init__(self, files: DiskFileSystem) -> None:
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
    """A file that SQLite has opened."""

    def __init__(self, files: DiskFileSystem, name: str) -> None:
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
        """Does nothing: there is only one connection."""

    def xUnlock(self, level: int) -> None:
        """Does nothing, as xLock."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return PAGE

    def xDeviceCharacteristics(self) -> int:
        return 0

    def xClose(self) -> None:
        """Does nothing: the cache stays."""
