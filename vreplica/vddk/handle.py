"""An open disk of a library that runs in this process, with Python signatures."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vreplica.disk import Arena, Request
from vreplica.units import SECTOR
from vreplica.vddk.allocated_blocks import BlockQuery
from vreplica.vddk.binding import CallFailed
from vreplica.vddk.disk_info import VddkDiskInfo
from vreplica.vddk.errors import from_call
from vreplica.vddk.raw_disk import Piece, RawDisk, cut
from vreplica.vddk.session import ConnectionHandle


@contextmanager
def as_disk_error(path: str) -> Iterator[None]:
    """Raises a CallFailed as a DiskAccessError about `path`."""
    try:
        yield
    except CallFailed as failed:
        error = from_call(failed, path)
        if failed.sector is not None:
            error.at(offset_bytes=failed.sector * SECTOR)
        raise error from None


class DiskHandle:
    """An open disk in this process, from `Library.open`; also the backend of a VddkDisk.

    info: from GetInfo at open.
    """

    def __init__(
        self, raw: RawDisk, path: str, own: ConnectionHandle | None, open_close: threading.Lock
    ) -> None:
        self.path = path
        self.raw = raw
        self.info = VddkDiskInfo.from_plain(raw.info)
        self.transport_mode = raw.transport_mode
        self.pid = None
        self.parallel_reads = 1
        self._own = own
        self._open_close = open_close
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def capacity_bytes(self) -> int:
        return self.info.capacity_sectors * SECTOR

    def read_into(self, offset: int, view: memoryview) -> None:
        """`offset` and size in bytes, multiples of 512. The library checks the range."""
        self.transfer(False, [(offset, view)])

    def write_from(self, offset: int, view: memoryview) -> None:
        self.transfer(True, [(offset, view)])

    def transfer(self, write: bool, requests: Sequence[Request]) -> None:
        pieces: list[Piece] = []
        for offset, view in requests:
            if view.readonly and not write:
                raise TypeError("cannot read into read-only memory")
            for sector, count, delta in cut(offset, view.nbytes):
                pieces.append((sector, count, address_of(view) + delta))
        with self._lock, as_disk_error(self.path):
            self.raw.transfer(write, pieces)

    def query_blocks(self, query: BlockQuery) -> NDArray[np.int64]:
        with self._lock, as_disk_error(self.path):
            found = self.raw.query_blocks(query.start, query.count, query.chunk)
        return np.frombuffer(found, np.int64).reshape(-1, 2)

    def register(self, arena: Arena) -> None:
        """Does nothing: the library reads and writes any memory of this process."""

    def flush(self) -> None:
        with self._lock, as_disk_error(self.path):
            self.raw.flush()

    def metadata(self) -> dict[str, str]:
        with self._lock, as_disk_error(self.path):
            return {key: self.raw.read_metadata(key) for key in self.raw.metadata_keys()}

    def read_metadata(self, key: str) -> str:
        """Raises MetadataMissing."""
        with self._lock, as_disk_error(self.path):
            return self.raw.read_metadata(key)

    def write_metadata(self, key: str, value: str) -> None:
        """Sets an entry of the disk's database. An entry can be emptied, not deleted."""
        with self._lock, as_disk_error(self.path):
            self.raw.write_metadata(key, value)

    def refresh(self) -> None:
        """Reads `info` again, after the chain has changed."""
        with self._lock, as_disk_error(self.path):
            self.raw.refresh()
        self.info = VddkDiskInfo.from_plain(self.raw.info)

    def give_up(self) -> None:
        """Gives the library's handle up: another DiskHandle has it now."""
        self.raw.handle = None

    def close(self) -> None:
        own, self._own = self._own, None
        with self._lock, self._open_close, as_disk_error(self.path):
            try:
                self.raw.close()
            finally:
                if own is not None:
                    own.close()


def address_of(view: memoryview) -> int:
    """Returns the address of a view's bytes; the view must be contiguous and not empty."""
    if view.readonly:  # which ctypes does not take
        return int(np.frombuffer(view, np.uint8).ctypes.data)
    return ctypes.addressof(ctypes.c_char.from_buffer(view))
