"""The Disk protocol over an open VixDiskLib disk, in this process or in a helper.

VddkDisk      checks, allocated extents              (here)
  |
DiskBackend --> handle.DiskHandle       the library runs in this process
            --> reader_pool.ReaderPool  so it does, for a local disk that is only read
            --> helper.disk.HelperDisk  the library runs in a process of its own
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vreplica.disk import Arena, Request, check_request
from vreplica.disk_errors import DiskAccessError, HostConnection, OperationUnsupported
from vreplica.errors import DiskClosed, ReadOnlyDisk, VReplicaError
from vreplica.extents import Extents
from vreplica.units import BLOCK, SECTOR
from vreplica.vddk import allocated_blocks
from vreplica.vddk.disk_info import VddkDiskInfo
from vreplica.vddk.errors import DiskChanged, HelperFailed
from vreplica.vddk.raw_disk import SYNC_MODES

log = logging.getLogger("vreplica.vddk")

EXTENTS_MAX = 1_000_000
"""Rows (16 bytes each) that allocated() may hold; with more, near extents are joined."""


class DiskBackend(Protocol):
    """An open disk of the library. Raises DiskAccessError and HelperFailed. Offsets are checked."""

    @property
    def info(self) -> VddkDiskInfo: ...

    @property
    def transport_mode(self) -> str: ...

    @property
    def pid(self) -> int | None:
        """The id of the helper process; None where the library runs in this one."""

    @property
    def parallel_reads(self) -> int:
        """Number of threads that may call `transfer` at once."""

    def transfer(self, write: bool, requests: Sequence[Request]) -> None:
        """Does all requests, in any order; none is in flight when this returns or raises."""

    def query_blocks(self, query: allocated_blocks.BlockQuery) -> NDArray[np.int64]:
        """Returns (n, 2) rows of offset and length, in sectors."""

    def register(self, arena: Arena) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class VddkDisk:
    """A disk of VMware's library or of the native one, made by `open_vddk_disk`.

    After a lost connection or a lost helper, the next call opens a disk again that is only read,
    so that a retry helps. A disk that is written is not opened again: what the library had not
    passed on is lost, and a later flush must not hide that.
    """

    def __init__(
        self,
        backend: DiskBackend,
        name: str,
        *,
        read_only: bool,
        reopen: Callable[[], DiskBackend] | None = None,
    ) -> None:
        self._open_again = reopen if read_only else None
        self._lost = False
        self._arenas: list[Arena] = []
        self.name = name
        self.info = backend.info
        if (size := self.info.logical_sector_size) not in (None, 0, SECTOR):
            reason = f"its sectors have {size} bytes, not {SECTOR}"
            backend.close()
            raise OperationUnsupported(path=name, doing="opening", reason=reason)
        self.transport_mode = backend.transport_mode
        self.capacity_bytes = self.info.capacity_sectors * SECTOR
        self._backend = backend
        self._read_only = read_only
        self._closed = False

    @property
    def round_trips(self) -> bool:
        return self.transport_mode not in SYNC_MODES

    @property
    def parallel_reads(self) -> int:
        return self._backend.parallel_reads

    @property
    def helper_pid(self) -> int | None:
        """The id of the process that runs the library for this disk; None for this process."""
        return self._backend.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_into(self, offset: int, view: memoryview) -> None:
        self.read_many([(offset, view)])

    def write_from(self, offset: int, view: memoryview) -> None:
        self.write_many([(offset, view)])

    def read_many(self, requests: Sequence[Request]) -> None:
        self._transfer(False, requests)

    def write_many(self, requests: Sequence[Request]) -> None:
        self._transfer(True, requests)

    def _transfer(self, write: bool, requests: Sequence[Request]) -> None:
        """Does all requests, or none where one of them breaks the contract."""
        self._open()
        if write and self._read_only:
            raise ReadOnlyDisk(name=self.name)
        checked = []
        for offset, view in requests:
            if not write and view.readonly:
                raise TypeError("cannot read into read-only memory")
            check_request(offset, view.nbytes, self.capacity_bytes)
            if view.nbytes:
                checked.append((offset, view.cast("B")))
        if checked:
            with self._marking_loss():
                self._backend.transfer(write, checked)

    def allocated(self) -> Extents:
        """Returns the allocated extents of the whole chain.

        For a disk opened with `single_link`, of that link alone: bytes that are not allocated
        there are not zero, but the parent's. Where the library cannot answer, the whole disk is
        returned, and the log says why.
        """
        self._open()
        found, covered = _Union(), 0
        try:
            for query in allocated_blocks.queries(self.info.capacity_sectors):
                with self._marking_loss():
                    rows = self._backend.query_blocks(query)
                found.add(rows, query)
                covered = query.end
        except HostConnection:
            raise
        except DiskAccessError as error:
            log.warning("%s: all of it counts as allocated: %s", self.name, error.message)
            return Extents.of(0, self.capacity_bytes)
        return found.result().union(Extents.of(covered * SECTOR, self.capacity_bytes))

    def register(self, arena: Arena) -> None:
        self._open()
        self._arenas = [known for known in self._arenas if known.fd >= 0 and known is not arena]
        self._arenas.append(arena)
        self._backend.register(arena)

    def flush(self) -> None:
        """Flushes a disk that may have been written; does nothing for one that is only read."""
        self._open()
        if not self._read_only:
            self._backend.flush()

    def close(self) -> None:
        """Closes the disk. Raises a failure for a disk that may have been written.

        For a disk that is only read, a failure is only logged: what was read is good.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._backend.close()
        except VReplicaError as error:
            if not self._read_only:
                raise
            log.warning("%s: closing it failed: %s", self.name, error.message)

    def _open(self) -> None:
        if self._closed:
            raise DiskClosed(name=self.name)
        if self._lost and self._open_again is not None:
            self._reopen(self._open_again)

    @contextmanager
    def _marking_loss(self) -> Iterator[None]:
        """Marks the disk to be opened again after a loss, where that is allowed."""
        try:
            yield
        except (HelperFailed, HostConnection) as error:
            self._lost = self._open_again is not None
            # A writer's helper is not started again: what it had not flushed may be lost.
            error.in_place = self._lost or not isinstance(error, HelperFailed)
            raise

    def _reopen(self, open_again: Callable[[], DiskBackend]) -> None:
        log.warning("%s: opening it again", self.name)
        with suppress(VReplicaError):
            self._backend.close()
        backend = open_again()
        now = backend.info.capacity_sectors * SECTOR
        if now != self.capacity_bytes:
            backend.close()
            raise DiskChanged(path=self.name, before=self.capacity_bytes, now=now)
        self._backend, self._lost = backend, False
        self.info, self.transport_mode = backend.info, backend.transport_mode
        for arena in self._arenas:
            if arena.fd >= 0:
                backend.register(arena)


class _Union:
    """Unites the blocks of many calls, in bytes; joins near ones where there are too many."""

    def __init__(self) -> None:
        self._parts: list[Extents] = []
        self._rows = 0
        self._gap = BLOCK

    def add(self, rows: NDArray[np.int64], query: allocated_blocks.BlockQuery) -> None:
        """Adds blocks. rows: offset and length in sectors. Parts outside the query are left out."""
        ends = np.stack((rows[:, 0], rows[:, 0] + rows[:, 1]), axis=1)
        part = Extents.from_array(np.clip(ends, query.start, query.end) * SECTOR)
        self._parts.append(part)
        self._rows += len(part)
        if self._rows > EXTENTS_MAX:
            joined = self.result()
            while len(joined) > EXTENTS_MAX // 2:
                joined, self._gap = joined.coalesce(self._gap), self._gap * 2
            self._parts, self._rows = [joined], len(joined)

    def result(self) -> Extents:
        return Extents.empty().union(*self._parts)
