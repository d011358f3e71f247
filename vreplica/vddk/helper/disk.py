"""A disk whose library runs in a helper process (main.py): the parent's side.

    this process                                     helper process
    --------------                                   --------------
    caller's Arena  <======= mapped by both ======>  Read/Write straight into it
    any other buffer --copy--> slots (memfd)  <====> Read/Write into the slots
    requests, answers  <-- SOCK_SEQPACKET, messages.py -->
    logger vreplica.vddk  <------- stderr ---------  log lines of the library

Up to two messages are under way, so that copies to and from the slots (two halves, in turn)
happen while the helper works on the other message:

    slots    | half 0: io_depth x 1 MiB | half 1: io_depth x 1 MiB |
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreplica.disk import Arena, Request
from vreplica.units import SECTOR
from vreplica.vddk.allocated_blocks import BlockQuery
from vreplica.vddk.config import LibraryFile, VddkConfig, VddkConnection
from vreplica.vddk.disk_info import VddkDiskInfo
from vreplica.vddk.helper import messages
from vreplica.vddk.helper.channel import HelperChannel, start_helper
from vreplica.vddk.helper.messages import Op
from vreplica.vddk.raw_disk import MAX_IO, cut, modes_for, open_flags

_AHEAD = 2
_ALIGNED_MODES = frozenset({"hotadd", "san"})
_PAGE = 4096


def open_in_helper(
    file: LibraryFile,
    config: VddkConfig,
    connection: VddkConnection,
    path: str,
    *,
    read_only: bool,
    single_link: bool,
) -> HelperDisk:
    """Starts a helper and opens a disk in it.

    Raises LibraryProblem, DiskAccessError, HelperFailed.
    """
    channel = start_helper(file, config, path)
    order = {
        "target": asdict(connection),
        "read_only": read_only if connection.server is None else connection.read_only,
        "transport_modes": modes_for(config.transport_modes, read_only=read_only),
        "path": path,
        "flags": open_flags(read_only=read_only, single_link=single_link),
    }
    return HelperDisk(channel, order, io_depth=config.io_depth)


@dataclass(slots=True)
class _Batch:
    """One READ or WRITE message, and the copies from or to slots that belong to it."""

    body: bytes
    copies: list[tuple[int, memoryview]]
    """(position in the slots, the caller's bytes)"""


class HelperDisk:
    """An open disk in a helper process; the backend of a VddkDisk."""

    parallel_reads = 1

    def __init__(self, channel: HelperChannel, order: dict[str, Any], *, io_depth: int) -> None:
        self._channel = channel
        self._arenas: dict[int, Arena] = {}
        self._regions = count(messages.SLOTS + 1)
        self._depth = max(1, io_depth)
        self._closed = False
        size = 2 * self._depth * MAX_IO
        fd = os.memfd_create("vreplica-slots", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            self._slots = mmap.mmap(fd, size)
            opening = {**order, "slots_size": size, "io_depth": io_depth}
            opened = messages.load(channel.ask(Op.OPEN, messages.dump(opening), fd))
        except BaseException:
            channel.end()
            raise
        finally:
            os.close(fd)
        self.info = VddkDiskInfo.from_plain(opened["info"])
        self.transport_mode: str = opened["transport_mode"]

    @property
    def pid(self) -> int:
        return self._channel.pid

    # -- Backend ----------------------------------------------------------------------------

    def transfer(self, write: bool, requests: Sequence[Request]) -> None:
        with self._channel.in_step():
            self._transfer(write, requests)

    def _transfer(self, write: bool, requests: Sequence[Request]) -> None:
        op = Op.WRITE if write else Op.READ
        waiting: deque[_Batch] = deque()
        for batch in self._batches(requests):
            if len(waiting) == _AHEAD:
                self._finish(waiting.popleft(), write)
            if write:
                for position, view in batch.copies:
                    self._slots[position : position + view.nbytes] = view
            self._channel.send(op, batch.body)
            waiting.append(batch)
        while waiting:
            self._finish(waiting.popleft(), write)

    def query_blocks(self, query: BlockQuery) -> NDArray[np.int64]:
        body = messages.QUERY.pack(query.start, query.count, query.chunk)
        with self._channel.in_step():
            (size,) = messages.SIZE.unpack(self._channel.ask(Op.BLOCKS, body))
            found = self._channel.take_memory(size)
        return np.frombuffer(found, np.int64).reshape(-1, 2)

    def register(self, arena: Arena) -> None:
        """Makes the helper map the arena too, and unmap arenas that were closed since."""
        for region in [r for r, known in self._arenas.items() if known.fd < 0]:
            self._channel.ask(Op.FORGET, messages.dump({"region": region}))
            del self._arenas[region]
        if any(known is arena for known in self._arenas.values()):
            return
        region = next(self._regions)
        self._channel.ask(Op.ARENA, messages.dump({"region": region, "size": arena.size}), arena.fd)
        self._arenas[region] = arena

    def flush(self) -> None:
        self._channel.ask(Op.FLUSH)

    def close(self) -> None:
        """Closes the disk and ends the helper. Does nothing where the helper has failed."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._channel.failed:
                self._channel.ask(Op.CLOSE)
        finally:
            self._channel.end()
            self._slots.close()

    # -- requests ---------------------------------------------------------------------------

    def _batches(self, requests: Sequence[Request]) -> Iterator[_Batch]:
        """Yields messages: first pieces in registered arenas, many to a message; then by slots."""
        direct: list[bytes] = []
        loose: list[tuple[int, int, memoryview]] = []
        for offset, view in requests:
            place = self._place(view)
            for sector, sectors, delta in cut(offset, view.nbytes):
                if place is not None:
                    region, position = place
                    direct.append(messages.PIECE.pack(sector, sectors, region, position + delta))
                else:
                    loose.append((sector, sectors, view[delta : delta + sectors * SECTOR]))
        for at in range(0, len(direct), messages.PIECES_MAX):
            yield _Batch(b"".join(direct[at : at + messages.PIECES_MAX]), [])
        rest, half = iter(loose), 0
        while group := list(islice(rest, self._depth)):
            body, copies = [], []
            for number, (sector, sectors, view) in enumerate(group, half * self._depth):
                position = number * MAX_IO
                body.append(messages.PIECE.pack(sector, sectors, messages.SLOTS, position))
                copies.append((position, view))
            yield _Batch(b"".join(body), copies)
            half = 1 - half

    def _place(self, view: memoryview) -> tuple[int, int] | None:
        """Returns (region, position) of a view in a registered arena; None where it is in none."""
        for region, arena in self._arenas.items():
            position = arena.offset_of(view)
            if position is not None:
                # These modes need buffers that are aligned to the disk's sectors, as slots are.
                if position % _PAGE and self.transport_mode in _ALIGNED_MODES:
                    return None
                return region, position
        return None

    def _finish(self, batch: _Batch, write: bool) -> None:
        self._channel.receive()
        if not write:
            for position, view in batch.copies:
                view[:] = memoryview(self._slots)[position : position + view.nbytes]
