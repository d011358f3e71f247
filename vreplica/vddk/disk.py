"""VddkDisk: the Disk protocol over an open VixDiskLib disk, in this process or in a helper.

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
from vreplica.disk_errors import DiskAccessError, HostConnection
from vreplica.errors import DiskClosed, ReadOnlyDisk, VReplicaError
from vreplica.extents import Extents
from vreplica.units import BLOCK, SECTOR
from vreplica.vddk import allocated_blocks
from vreplica.vddk.disk_info import VddkDiskInfo
from vreplica.vddk.errors import DiskChanged, HelperFailed
from vreplica.vddk.raw_disk import SYNC_MODES

log = logging.getLogger("vreplica.vddk")

EXTENTS_MAX = 1_000_000
"""Rows (16 bytes each) that allocated() may hold; beyond, near extents are joined."""


class DiskBackend(Protocol):
    """An open disk of the library. Raises DiskAccessError and HelperFailed. Offsets are checked."""

    @property
    def info(self) -> VddkDiskInfo: ...

    @property
    def transport_mode(self) -> str: ...

    @property
    def pid(self) -> int | None:
        """The helper process, where there is one."""

    @property
    def parallel_reads(self) -> int:
        """How many threads may call `transfer` at once."""

    def transfer(self, write: bool, requests: Sequence[Request]) -> None:
        """Run all requests, in any order; none is in flight when this returns or raises."""

    def query_blocks(self, query: allocated_blocks.BlockQuery) -> NDArray[np.int64]:
        """(n, 2) rows of offset and length, in sectors."""

    def register(self, arena: Arena) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class VddkDisk:
    """A disk of VMware's library or of the native one. Made by `open_vddk_disk`.

    `allocation_note` says after `allocated()` why the whole disk was reported, if it was.

    A disk that is only read is opened again by the call that follows a lost connection or a
    lost helper, so that a retry helps. One that is written is not: what the library had not
    yet passed on is gone, and a later flush must not say otherwise.
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
        self.transport_mode = backend.transport_mode
        self.capacity_bytes = self.info.capacity_sectors * SECTOR
        self.allocation_note: str | None = None
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
        """The process that runs the library for this disk; None where it is this one."""
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
        """Nothing is issued where one of the requests breaks the contract."""
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
            with self._noticed():
                self._backend.transfer(write, checked)

    def allocated(self) -> Extents:
        """Over the whole chain; for a disk opened with `single_link`, of that link alone (what
        is not allocated there is then not zero, but the parent's).

        Where the library cannot answer, the whole disk, and `allocation_note` says why.
        """
        self._open()
        self.allocation_note = None
        found, covered = _Union(), 0
        try:
            for query in allocated_blocks.queries(self.info.capacity_sectors):
                with self._noticed():
                    rows = self._backend.query_blocks(query)
                found.add(rows, query)
                covered = query.end
        except HostConnection:
            raise
        except DiskAccessError as error:
            self.allocation_note = error.message
            log.warning("%s: all of it counts as allocated: %s", self.name, error.message)
            return Extents.of(0, self.capacity_bytes)
        return found.result().union(Extents.of(covered * SECTOR, self.capacity_bytes))

    def register(self, arena: Arena) -> None:
        self._open()
        self._arenas = [known for known in self._arenas if known.fd >= 0 and known is not arena]
        self._arenas.append(arena)
        self._backend.register(arena)

    def flush(self) -> None:
        """Nothing is asked of the library for a disk that cannot have been written."""
        self._open()
        if not self._read_only:
            self._backend.flush()

    def close(self) -> None:
        """A failure is raised for a disk that was written, and only logged for one that was not:
        what was read from it is good."""
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
    def _noticed(self) -> Iterator[None]:
        """Remembers that the disk has to be opened again, where that is allowed."""
        try:
            yield
        except (HelperFailed, HostConnection) as error:
            self._lost = self._open_again is not None
            # A writer's helper is not started anew: what it had not flushed may be gone.
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
    """Blocks of many calls, united in bytes; near ones are joined where there are too many."""

    def __init__(self) -> None:
        self._parts: list[Extents] = []
        self._rows = 0
        self._gap = BLOCK

    def add(self, rows: NDArray[np.int64], query: allocated_blocks.BlockQuery) -> None:
        """`rows`: offset and length in sectors. What lies outside the question is left out."""
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
