"""The disks that an NFC server serves: VMDK files through the native library, or memory.

An error is `Refused`, with the VIX code of a host's answer (VDDK 8.0 Programming Guide).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from vreplica.disk import Disk, MemoryDisk
from vreplica.disk_errors import DiskAccessError
from vreplica.vddk.disk import VddkDisk
from vreplica.vddk.errors import MetadataMissing
from vreplica.vddk.handle import DiskHandle
from vreplica.vddk.library import Library

FAIL: Final = 1
OUT_OF_MEMORY: Final = 5
"""The number that hosts log: "NFC error 5 ... Failed to allocate the requested N bytes"."""
INVALID_ARGUMENT: Final = 3
FILE_NOT_FOUND: Final = 4
FILE_READ_ONLY: Final = 11
FILE_ACCESS: Final = 13
FILE_LOCKED: Final = 15
OUT_OF_RANGE: Final = 16007
DISK_FULL: Final = 8


class Refused(Exception):
    """A request that the host answers with an error."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class StoredDisk(Protocol):
    """An open disk, for one thread at a time."""

    @property
    def disk(self) -> Disk: ...

    def metadata(self, key: str) -> str | None:
        """An entry of the disk's database without `ddb.`; None where there is none."""

    def before_write(self, offset: int, length: int) -> None:
        """Called before each write. Raises Refused where the datastore is full."""

    def close(self) -> None: ...


class DiskStore(Protocol):
    """A source of disks by their datastore paths."""

    def open(self, path: str, *, read_only: bool) -> StoredDisk:
        """Opens a disk. Raises Refused."""


# -- files ----------------------------------------------------------------------------------

Resolve = Callable[[str, bool], Path]
"""(datastore path, read only) -> file. Raises Refused: missing, in use by a running VM, ..."""

BeforeWrite = Callable[[int, int], None]
Writes = Callable[[str], BeforeWrite]
"""datastore path -> the function to call before bytes [offset, offset + length) are written."""

Opened = Callable[[str], Callable[[], None]]
"""datastore path of a disk that was opened -> the function to call when it is closed."""


class _LibraryDisk:
    def __init__(
        self,
        handle: DiskHandle,
        path: str,
        *,
        read_only: bool,
        before: BeforeWrite | None = None,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._before = before
        self._closed = closed
        self.disk: Final[Disk] = VddkDisk(handle, path, read_only=read_only)
        self._handle = handle

    def metadata(self, key: str) -> str | None:
        try:
            return self._handle.read_metadata(key)
        except MetadataMissing:
            return None

    def before_write(self, offset: int, length: int) -> None:
        if self._before is not None:
            self._before(offset, length)

    def close(self) -> None:
        try:
            self.disk.close()
        except DiskAccessError as error:
            raise Refused(error.code, error.message) from error
        finally:
            self._closed()


class LibraryStore:
    """VMDK files of the lab's datastores, opened through the native library."""

    def __init__(
        self, resolve: Resolve, writes: Writes | None = None, opened: Opened | None = None
    ) -> None:
        self._resolve = resolve
        self._opened = opened
        self._writes = writes
        self._library = Library.load()

    def open(self, path: str, *, read_only: bool) -> StoredDisk:
        file = self._resolve(path, read_only)
        try:
            handle = self._library.open(file, read_only=read_only)
        except DiskAccessError as error:
            raise Refused(error.code, error.message) from error
        before = self._writes(path) if self._writes is not None and not read_only else None
        closed = self._opened(path) if self._opened is not None else lambda: None
        return _LibraryDisk(handle, path, read_only=read_only, before=before, closed=closed)


# -- memory ---------------------------------------------------------------------------------


class _MemoryHandle:
    """An open disk in memory. The disk outlives the session."""

    def __init__(self, store: MemoryStore, path: str, *, read_only: bool) -> None:
        self.disk: Final[Disk] = store.disks[path]
        self._store = store
        self._path = path
        self._writer = not read_only

    def metadata(self, key: str) -> str | None:
        return self._store.ddb.get(self._path, {}).get(key)

    def before_write(self, offset: int, length: int) -> None:
        """Memory is never full."""

    def close(self) -> None:
        self._store.close_writer(self._path, writer=self._writer)


class MemoryStore:
    """Disks in memory, for tests of the protocol. Thread-safe."""

    def __init__(self) -> None:
        self.disks: dict[str, MemoryDisk] = {}
        self.ddb: dict[str, dict[str, str]] = {}
        self.running: set[str] = set()
        """Disks of running VMs: refused, as a host does where there is no snapshot."""
        self._writers: set[str] = set()
        self._lock = threading.Lock()

    def open(self, path: str, *, read_only: bool) -> StoredDisk:
        with self._lock:
            if path not in self.disks:
                raise Refused(FILE_NOT_FOUND, f"{path} was not found")
            if path in self.running:
                raise Refused(FILE_ACCESS, "NfcFssrvrOpen: the disk is in use by a running VM")
            if path in self._writers:
                raise Refused(FILE_LOCKED, f"{path} is locked")
            if not read_only:
                self._writers.add(path)
        return _MemoryHandle(self, path, read_only=read_only)

    def close_writer(self, path: str, *, writer: bool) -> None:
        with self._lock:
            if writer:
                self._writers.discard(path)
