"""The Disk protocol: the interface through which all code above reads and writes virtual disks.

    +-----------------------------------------------------------+
    | block 0 | block 1 |  hole   | block 3 | ...       | tail  |   capacity_bytes
    +-----------------------------------------------------------+
      allocated() covers at least every byte that is not zero;
      a hole reads as zeros and costs nothing.

The caller owns the buffers: a read fills the whole view or raises. Requests are in bytes, in
multiples of 512 (SECTOR). `read_many` and `write_many` take several requests at once, so that
a transport with round trips can keep them in flight together; they return when all are done.

Buffers that are to reach a helper process without a copy come from an `Arena`: a memory file that
source, engine and target all map.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from vreplica.errors import DiskClosed, Misaligned, OutOfRange, ReadOnlyDisk
from vreplica.extents import Extents
from vreplica.units import MIB, SECTOR

Request = tuple[int, memoryview]
"""(byte offset on the disk, bytes to fill or to write)."""


class Arena:
    """A shared memory file (memfd) that is mapped here; other processes can map it by its fd.

    `view` is writable and covers all `size` bytes. A disk may outlive an arena that it knows: once
    the arena is closed, no view lies in it any more.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.fd = os.memfd_create("vreplica-arena", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self._map = mmap.mmap(self.fd, size)
        self.view = memoryview(self._map)
        self._base = np.frombuffer(self.view, np.uint8).__array_interface__["data"][0]

    def offset_of(self, view: memoryview) -> int | None:
        """Returns the position of a view in the arena; None where it lies elsewhere."""
        if not view.nbytes or self.fd < 0:
            return None
        address = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
        offset = int(address) - int(self._base)
        return offset if 0 <= offset <= self.size - view.nbytes else None

    def close(self) -> None:
        """Closes the fd and unmaps the memory. Raises BufferError while a view is still in use.

        The memory is then freed with the last view, and disks no longer recognise the arena.
        """
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.view.release()
        self._map.close()


@runtime_checkable
class Disk(Protocol):
    """A virtual disk of fixed capacity. One thread at a time uses it; see `parallel_reads`."""

    @property
    def name(self) -> str:
        """The name for messages: a path, or `[datastore] dir/disk.vmdk`."""

    @property
    def capacity_bytes(self) -> int:
        """The capacity, a multiple of 512."""

    @property
    def round_trips(self) -> bool:
        """True where requests wait for a network, so that several should be in flight."""

    @property
    def parallel_reads(self) -> int:
        """Number of threads that may read at once; 1 where more gain nothing."""

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fills `view` with the bytes at `offset`. Raises DiskError; never returns a part."""

    def write_from(self, offset: int, view: memoryview) -> None:
        """Writes all of `view` at `offset`. The bytes are durable after `flush`."""

    def read_many(self, requests: Sequence[Request]) -> None:
        """Does all reads, in any order. Raises the first failure when none is in flight."""

    def write_many(self, requests: Sequence[Request]) -> None:
        """Does all writes, in any order; they must not overlap."""

    def allocated(self) -> Extents:
        """Returns extents that cover every byte that is not zero, over the whole chain."""

    def register(self, arena: Arena) -> None:
        """Announces that buffers will come from `arena`; a disk may use it to avoid copies."""

    def flush(self) -> None:
        """Returns when everything written so far is on stable storage."""

    def close(self) -> None:
        """Gives everything back. Closing twice is allowed; other calls then raise DiskClosed."""


def check_request(offset: int, length: int, capacity: int) -> None:
    """Raises Misaligned or OutOfRange where a request breaks the contract."""
    if offset % SECTOR or length % SECTOR:
        raise Misaligned(offset=offset, length=length, unit=SECTOR)
    if offset < 0 or length < 0 or offset + length > capacity:
        raise OutOfRange(offset=offset, length=length, capacity=capacity)


class MemoryDisk:
    """A sparse disk in memory, for tests and the lab; it records every operation.

    ops: a list of ("read" | "write" | "flush" | "allocated", offset, length). Memory is taken in
    pieces of 1 MiB as they are written, so the capacity may be 62 TiB.
    """

    _PIECE = MIB
    round_trips: bool = False
    parallel_reads: int = 1

    def __init__(
        self,
        capacity_bytes: int,
        content: bytes = b"",
        *,
        name: str = "memory",
        read_only: bool = False,
    ) -> None:
        check_request(0, capacity_bytes, capacity_bytes)
        self.name = name
        self.capacity_bytes = capacity_bytes
        self.ops: list[tuple[str, int, int]] = []
        self._pieces: dict[int, bytearray] = {}
        self._written = Extents.empty()
        self._read_only = False
        self._closed = False
        if content:
            padded = content + bytes(-len(content) % SECTOR)
            self.write_from(0, memoryview(padded))
            self.ops.clear()
        self._read_only = read_only

    def _check(self, op: str, offset: int, length: int) -> None:
        if self._closed:
            raise DiskClosed(name=self.name)
        check_request(offset, length, self.capacity_bytes)
        self.ops.append((op, offset, length))

    def read_into(self, offset: int, view: memoryview) -> None:
        view = view.cast("B")
        self._check("read", offset, view.nbytes)
        for start, end in Extents.of(offset, offset + view.nbytes).split(self._PIECE):
            target = view[start - offset : end - offset]
            piece = self._pieces.get(start // self._PIECE)
            at = start % self._PIECE
            if piece is None:
                target[:] = bytes(end - start)
            else:
                target[:] = memoryview(piece)[at : at + end - start]

    def write_from(self, offset: int, view: memoryview) -> None:
        view = view.cast("B")
        if self._read_only:
            raise ReadOnlyDisk(name=self.name)
        self._check("write", offset, view.nbytes)
        span = Extents.of(offset, offset + view.nbytes)
        for start, end in span.split(self._PIECE):
            piece = self._pieces.setdefault(start // self._PIECE, bytearray(self._PIECE))
            at = start % self._PIECE
            piece[at : at + end - start] = view[start - offset : end - offset]
        self._written = self._written.union(span)

    def read_many(self, requests: Sequence[Request]) -> None:
        for offset, view in requests:
            self.read_into(offset, view)

    def write_many(self, requests: Sequence[Request]) -> None:
        for offset, view in requests:
            self.write_from(offset, view)

    def allocated(self) -> Extents:
        self._check("allocated", 0, 0)
        return self._written

    def register(self, arena: Arena) -> None:
        """Does nothing: the disk is in this process."""
        if self._closed:
            raise DiskClosed(name=self.name)

    def flush(self) -> None:
        self._check("flush", 0, 0)

    def close(self) -> None:
        self._closed = True
