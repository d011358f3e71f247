"""A raw file as a Disk, by pread and pwrite: the engine without a VMDK library."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vreplica.disk import Arena, Request, check_request
from vreplica.extents import Extents


class RawDisk:
    """A raw image. Holes of the file are holes of the disk."""

    round_trips = False
    parallel_reads = 1

    def __init__(self, path: Path, capacity_bytes: int | None = None) -> None:
        self.name = str(path)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if capacity_bytes is not None:
            os.ftruncate(self._fd, capacity_bytes)
        self.capacity_bytes = os.fstat(self._fd).st_size

    def read_into(self, offset: int, view: memoryview) -> None:
        check_request(offset, view.nbytes, self.capacity_bytes)
        while view:
            done = os.preadv(self._fd, [view], offset)
            view, offset = view[done:], offset + done

    def write_from(self, offset: int, view: memoryview) -> None:
        check_request(offset, view.nbytes, self.capacity_bytes)
        # ext4 takes bytes that are allocated first at twice the speed of its delayed allocation.
        os.posix_fallocate(self._fd, offset, view.nbytes)
        while view:
            done = os.pwrite(self._fd, view, offset)
            view, offset = view[done:], offset + done

    def read_many(self, requests: Sequence[Request]) -> None:
        for offset, view in requests:
            self.read_into(offset, view)

    def write_many(self, requests: Sequence[Request]) -> None:
        for offset, view in requests:
            self.write_from(offset, view)

    def allocated(self) -> Extents:
        pairs, at = [], 0
        while at < self.capacity_bytes:
            try:
                start = os.lseek(self._fd, at, os.SEEK_DATA)
            except OSError:  # ENXIO: a hole up to the end
                break
            at = os.lseek(self._fd, start, os.SEEK_HOLE)
            pairs.append((start, at))
        return Extents.from_pairs(pairs).align(512, self.capacity_bytes)

    def register(self, arena: Arena) -> None:
        """Same process: nothing to share."""

    def flush(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
