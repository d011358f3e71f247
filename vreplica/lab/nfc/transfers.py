"""The reads and writes of one session, done side by side.

    reader thread                            workers (up to WORKERS)
    +-----------------------------+  queue  +--------------------------------------+
    | frames in, writes assembled | ------> | disk (one at a time per disk), reply |
    +-----------------------------+         +--------------------------------------+

A read of more than one buffer is answered by fragments in random order, as hosts may do. A write
that is refused is read off the wire to its last fragment, and then answered once.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from vreplica.errors import DiskError
from vreplica.extents import Extents
from vreplica.lab.nfc import compression, store
from vreplica.lab.nfc.connection import ClientConnection, ReplySuppressed
from vreplica.lab.nfc.faults import NfcFaultRules
from vreplica.lab.nfc.host import HostMemory
from vreplica.lab.nfc.store import Refused, StoredDisk
from vreplica.nfc import wire
from vreplica.nfc.wire import Aio
from vreplica.units import SECTOR

WORKERS: Final = 4
KEPT: Final = 8
"""Buffers that a session keeps for reuse."""


class ProtocolViolation(Exception):
    """The client sent something for which a host ends the connection."""


@dataclass(slots=True)
class OpenFile:
    """An open disk of the session. `allocated` is as of the open."""

    stored: StoredDisk
    writable: bool
    allocated: Extents
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: set[Future[None]] = field(default_factory=set)


@dataclass(slots=True)
class _Write:
    """A write whose fragments are arriving."""

    offset: int
    data: memoryview
    missing: int
    refused: Refused | None


class _Buffers:
    """Reuses memory: new pages cost more than the copy into them."""

    def __init__(self) -> None:
        self._free: deque[bytearray] = deque(maxlen=KEPT)

    def allocate(self, size: int) -> memoryview:
        """Returns `size` bytes of any content."""
        with suppress(IndexError):
            if len(found := self._free.pop()) >= size:
                return memoryview(found)[:size]
        return memoryview(bytearray(size))

    def free(self, view: memoryview) -> None:
        assert isinstance(view.obj, bytearray)
        self._free.append(view.obj)


class Transfers:
    """Does the reads and writes of a session. `start` is called on the reader's thread."""

    def __init__(
        self,
        client: ClientConnection,
        faults: NfcFaultRules,
        memory: HostMemory,
        compressions: tuple[int, ...],
    ) -> None:
        self.buffer_bytes = 0
        self._known = (wire.PLAIN, *compressions)
        self._client = client
        self._faults = faults
        self._memory = memory
        self._writes: dict[int, _Write] = {}
        self._buffers = _Buffers()
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="lab-nfc")
        self._random = random.Random(0)

    def start(self, op_id: int, payload: bytes, files: dict[int, OpenFile]) -> None:
        """Starts the work of one IO frame. Raises Refused, ProtocolViolation."""
        values = wire.FRAGMENT.unpack(payload)
        file = files.get(values["handle"])
        if values["compression"] not in self._known:
            raise ProtocolViolation(f"compression {values['compression']}")
        if values["opcode"] == wire.OP_WRITE:
            self._receive_write(op_id, values, file)
        elif values["opcode"] == wire.OP_READ:
            self._receive_read(op_id, wire.READ.unpack(payload), file)
        else:
            raise ProtocolViolation(f"opcode {values['opcode']}")

    def wait_idle(self, file: OpenFile) -> None:
        """Waits until no request on this file is running."""
        wait(set(file.running))

    def stop(self) -> None:
        """Ends the running work, and drops incomplete writes: the connection has ended."""
        self._workers.shutdown(wait=True, cancel_futures=True)
        for write in self._writes.values():
            if not write.refused:
                self._memory.free(len(write.data))
        self._writes.clear()

    # -- receiving --------------------------------------------------------------------------

    def _receive_read(self, op_id: int, values: dict[str, int], file: OpenFile | None) -> None:
        offset, length = values["offset"], values["length"]
        if not length == values["length_again"] == values["wire_length"]:
            raise Refused(store.INVALID_ARGUMENT, "the lengths differ")
        opened = _checked(file, offset, length)
        self._memory.allocate(length)
        packed = values["compression"]
        work = lambda: self._read(opened, op_id, offset, length, packed)  # noqa: E731
        self._submit(opened, op_id, length, work)

    def _receive_write(self, op_id: int, values: dict[str, int], file: OpenFile | None) -> None:
        at, length, total = values["at"], values["length"], values["total"]
        inside = 0 < length <= self.buffer_bytes and at + length <= total
        packed, wire_length = values["compression"], values["wire_length"]
        if not inside or not (0 < wire_length <= length if packed else wire_length == length):
            raise ProtocolViolation(f"write fragment {values}")
        write = self._writes.get(op_id)
        if write is None:
            write = self._writes[op_id] = self._new_write(values, file)
        if write.refused:
            self._client.receive(wire_length)
        elif packed:
            self._unpack(write, at, length, packed, self._client.receive(wire_length))
        else:
            self._client.receive_into(write.data[at : at + length])
        write.missing -= length
        if write.missing > 0:
            return
        del self._writes[op_id]
        if write.refused or file is None:
            raise write.refused or Refused(store.INVALID_ARGUMENT)
        self._submit(file, op_id, total, lambda: self._write(file, op_id, write))

    def _unpack(self, write: _Write, at: int, length: int, packed: int, block: bytes) -> None:
        try:
            write.data[at : at + length] = compression.decompress(packed, block, length)
        except ValueError as error:
            self._memory.free(len(write.data))
            write.data = memoryview(b"")
            write.refused = Refused(store.INVALID_ARGUMENT, f"compression {packed}: {error}")

    def _new_write(self, values: dict[str, int], file: OpenFile | None) -> _Write:
        offset, total = values["offset"], values["total"]
        try:
            if not _checked(file, offset, total).writable:
                raise Refused(store.FILE_READ_ONLY, "the disk is open read-only")
            self._memory.allocate(total)
        except Refused as refused:
            return _Write(offset, memoryview(b""), total, refused)
        return _Write(offset, self._buffers.allocate(total), total, None)

    # -- working ----------------------------------------------------------------------------

    def _submit(self, file: OpenFile, op_id: int, length: int, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                self._answer(op_id, work)
            except (OSError, EOFError):
                self._client.abort()

        future = self._workers.submit(run)
        file.running.add(future)

        def over(ended: Future[None]) -> None:
            self._memory.free(length)
            file.running.discard(ended)

        future.add_done_callback(over)

    def _answer(self, op_id: int, work: Callable[[], None]) -> None:
        try:
            with suppress(ReplySuppressed):
                work()
        except Refused as refused:
            self._client.send_error(Aio.IO, op_id, refused)
        except DiskError as error:
            code = int(getattr(error, "code", store.FAIL))
            self._client.send_error(Aio.IO, op_id, Refused(code, error.message))

    def _read(self, file: OpenFile, op_id: int, offset: int, length: int, packed: int) -> None:
        fault = self._client.apply_fault(self._faults, "read", offset, length)
        pieces = [
            (at, min(self.buffer_bytes, length - at)) for at in range(0, length, self.buffer_bytes)
        ]
        self._random.shuffle(pieces)
        buffer = self._buffers.allocate(min(self.buffer_bytes, length))
        for at, size in pieces:
            data = buffer[:size]
            with file.lock:
                file.stored.disk.read_into(offset + at, data)
            sent: bytes | memoryview = data
            if packed and len(block := compression.compress(packed, data)) < size:
                sent = block
            payload = wire.FRAGMENT.pack(
                opcode=wire.OP_READ,
                compression=wire.PLAIN if sent is data else packed,
                offset=offset,
                total=length,
                at=at,
                length=size,
                wire_length=len(sent),
            )
            self._client.reply(Aio.IO, op_id, payload, sent, fault)
        self._buffers.free(buffer)

    def _write(self, file: OpenFile, op_id: int, write: _Write) -> None:
        total = len(write.data)
        fault = self._client.apply_fault(self._faults, "write", write.offset, total)
        if fault and fault.kind == "corrupt":
            write.data[total // 2] ^= 1
        if not (fault and fault.kind == "status"):
            with file.lock:
                file.stored.before_write(write.offset, total)
                file.stored.disk.write_from(write.offset, write.data)
        self._buffers.free(write.data)
        payload = wire.FRAGMENT.pack(
            opcode=wire.OP_WRITE,
            offset=write.offset,
            total=total,
            length=total,
            wire_length=total,
        )
        self._client.reply(Aio.IO, op_id, payload, fault=fault)


def _checked(file: OpenFile | None, offset: int, length: int) -> OpenFile:
    """Checks the range of a request. Raises Refused."""
    if file is None:
        raise Refused(store.INVALID_ARGUMENT, "no such handle")
    if offset % SECTOR or length % SECTOR or not length:
        raise Refused(store.INVALID_ARGUMENT, f"{length} bytes at {offset}")
    capacity = file.stored.disk.capacity_bytes
    if offset + length > capacity:
        raise Refused(store.OUT_OF_RANGE, f"{length} bytes at {offset} of {capacity}")
    return file
