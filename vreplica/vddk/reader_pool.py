"""Reads a local disk by several threads at once, each with a handle of its own.

    thread 1 --> handle 1 --+
    thread 2 --> handle 2 --+--> disk.vmdk
    thread 3 --> handle 3 --+

Calls on one handle must not overlap, calls on several may (VDDK 8.0 Programming Guide,
"Multithreading considerations"). Reading a file waits only for the processor, so a second
processor doubles the speed.
"""

from __future__ import annotations

import logging
import resource
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vreplica.disk import Arena, Request
from vreplica.disk_errors import DiskAccessError
from vreplica.vddk.allocated_blocks import BlockQuery
from vreplica.vddk.handle import DiskHandle

log = logging.getLogger("vreplica.vddk")

READERS: Final = 3


class ReaderPool:
    """The backend of a local disk that is only read. Further handles are opened when needed."""

    parallel_reads = READERS
    pid = None

    def __init__(self, first: DiskHandle, open_another: Callable[[], DiskHandle]) -> None:
        self._first = first
        self._open_another = open_another
        self._handles = [first]
        self._wanted = READERS
        self._adding = threading.Lock()
        self._free: SimpleQueue[DiskHandle] = SimpleQueue()
        self._free.put(first)
        self.info = first.info
        self.transport_mode = first.transport_mode

    def transfer(self, write: bool, requests: Sequence[Request]) -> None:
        handle = self._take()
        try:
            handle.transfer(write, requests)
        finally:
            self._free.put(handle)

    def _take(self) -> DiskHandle:
        with suppress(Empty):
            return self._free.get_nowait()
        with self._adding:
            if len(self._handles) < self._wanted:
                self._add()
        return self._free.get()

    def _add(self) -> None:
        """Opens one more handle.

        No more are opened after one that cannot be opened, after one of another disk that has
        taken the name since, and where the process has few file descriptors left: a split disk
        has hundreds of files open, and other disks need theirs.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            opened = sum(1 for _ in Path("/proc/self/fd").iterdir())
        except OSError:  # no descriptor is left to read the folder with
            opened = limit
        if 4 * opened > limit:
            self._wanted = 0
            return
        try:
            handle = self._open_another()
        except DiskAccessError as error:
            self._wanted = 0
            log.info("%s: no further handle to read by: %s", self._first.path, error.message)
            return
        self._handles.append(handle)
        if handle.info == self.info:
            self._free.put(handle)
        else:
            self._wanted = 0
            log.warning("%s: another disk has its name now", self._first.path)

    def query_blocks(self, query: BlockQuery) -> NDArray[np.int64]:
        return self._first.query_blocks(query)

    def register(self, arena: Arena) -> None:
        self._first.register(arena)

    def flush(self) -> None:
        self._first.flush()

    def close(self) -> None:
        """Closes all handles, also where one fails."""
        with ExitStack() as stack:
            while self._handles:
                stack.callback(self._handles.pop().close)
