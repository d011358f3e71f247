"""A disk whose library runs in a helper process (child.py): the parent's side.

    engine process                                   helper process
    --------------                                   --------------
    caller's Arena  <======= mapped by both ======>  Read/Write straight into it
    any other buffer --copy--> slots (memfd)  <====> Read/Write into the slots
    requests, answers  <-- SOCK_SEQPACKET, wire.py -->
    logger vreplica.vddk  <------- stderr ---------  log lines of the library

Up to two messages are under way, so that copies to and from the slots (two halves, in turn)
happen while the helper works on the other message:

    slots    | half 0: io_depth x 1 MiB | half 1: io_depth x 1 MiB |

Whatever happens to the helper, the engine goes on: a crash or an exit is seen as end of file, a
hang by `timeout_s` for each answer (of at most 64 MiB). The helper is then killed and reaped
before the error is raised, so that it cannot write into an arena any more.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreplica.disk import Arena, Request
from vreplica.errors import VReplicaError
from vreplica.units import SECTOR
from vreplica.vddk import wire
from vreplica.vddk.binding import CallFailed, LoadFailed
from vreplica.vddk.blocks import Query
from vreplica.vddk.config import LibraryFile, VddkConfig, VddkConnection
from vreplica.vddk.errors import (
    HelperBroken,
    HelperDied,
    HelperFailed,
    HelperTimeout,
    from_call,
    from_load,
)
from vreplica.vddk.info import DiskInfo
from vreplica.vddk.process import EXIT_S, HelperProcess
from vreplica.vddk.raw import MAX_IO, cut, modes_for, open_flags
from vreplica.vddk.wire import Op, State

_AHEAD = 2
_ALIGNED_MODES = frozenset({"hotadd", "san"})
_PAGE = 4096
_DOING = {
    Op.START: "opening",
    Op.ARENA: "registering memory",
    Op.READ: "a read",
    Op.WRITE: "a write",
    Op.BLOCKS: "asking for allocated blocks",
    Op.FLUSH: "a flush",
    Op.CLOSE: "closing",
}


def open_helper(
    file: LibraryFile,
    config: VddkConfig,
    connection: VddkConnection,
    path: str,
    read_only: bool,
    single_link: bool,
) -> Helper:
    """Start a helper and open a disk in it. Raises LibraryProblem, VddkError, HelperFailed."""
    order = {
        "library": str(file.path),
        "lib_root": str(file.root),
        "major": file.major,
        "config_file": str(config.config_file.absolute()) if config.config_file else None,
        "target": asdict(connection),
        "read_only": read_only if connection.server is None else connection.read_only,
        "transport_modes": modes_for(config.transport_modes, read_only=read_only),
        "path": path,
        "flags": open_flags(read_only=read_only, single_link=single_link),
        "io_depth": config.io_depth,
    }
    process = HelperProcess(str(file.path.parent))
    return Helper(process, order, timeout_s=config.timeout_s)


@dataclass(slots=True)
class _Batch:
    """One READ or WRITE message, and the slots to copy from and to around it."""

    body: bytes
    copies: list[tuple[int, memoryview]]
    """(position in the slots, the caller's bytes)"""


class Helper:
    """An open disk in a helper process; a Backend of VddkDisk."""

    def __init__(self, process: HelperProcess, order: dict[str, Any], *, timeout_s: float) -> None:
        self.path: str = order["path"]
        self._process = process
        self._sock = process.sock
        self._timeout_s = timeout_s
        self._sock.settimeout(timeout_s)
        self._under_way: deque[Op] = deque()
        self._failure: Callable[[], HelperFailed] | None = None
        self._arenas: list[Arena] = []
        self._depth: int = max(1, order["io_depth"])
        self._closed = False
        size = 2 * self._depth * MAX_IO
        fd = os.memfd_create("vreplica-slots", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            self._slots = mmap.mmap(fd, size)
            try:
                self._send(Op.START, wire.dump({**order, "slots_size": size}), fd)
                opened = wire.load(self._receive())
            except BaseException:
                self._release(0)
                raise
        finally:
            os.close(fd)
        self.info = DiskInfo.from_plain(opened["info"])
        self.transport_mode: str = opened["transport_mode"]

    @property
    def pid(self) -> int:
        return self._process.process.pid

    # -- Backend ----------------------------------------------------------------------------

    def transfer(self, write: bool, requests: Sequence[Request]) -> None:
        with self._in_step():
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
            self._send(op, batch.body)
            waiting.append(batch)
        while waiting:
            self._finish(waiting.popleft(), write)

    def query_blocks(self, query: Query) -> NDArray[np.int64]:
        with self._in_step():
            self._send(Op.BLOCKS, wire.QUERY.pack(query.start, query.count, query.chunk))
            (size,) = wire.SIZE.unpack(self._receive())
            if not size:
                return np.empty((0, 2), np.int64)
            _, fds, _, _ = socket.recv_fds(self._sock, 1, 1)
            with os.fdopen(fds[0], "rb") as file:
                file.seek(0)
                return np.frombuffer(file.read(size), np.int64).reshape(-1, 2)

    def register(self, arena: Arena) -> None:
        if any(known is arena for known in self._arenas):
            return
        with self._in_step():
            self._send(Op.ARENA, wire.dump({"size": arena.size}), arena.fd)
            self._receive()
        self._arenas.append(arena)

    def flush(self) -> None:
        with self._in_step():
            self._send(Op.FLUSH)
            self._receive()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._failure is not None:
            return
        try:
            with self._in_step():
                self._send(Op.CLOSE)
                self._receive()
        finally:
            self._release(EXIT_S)

    # -- requests ---------------------------------------------------------------------------

    def _batches(self, requests: Sequence[Request]) -> Iterator[_Batch]:
        """Pieces in registered arenas first, many to a message; then the rest through slots."""
        direct: list[bytes] = []
        loose: list[tuple[int, int, memoryview]] = []
        for offset, view in requests:
            place = self._place(view)
            for sector, count, delta in cut(offset, view.nbytes):
                if place is not None:
                    region, position = place
                    direct.append(wire.PIECE.pack(sector, count, region, position + delta))
                else:
                    loose.append((sector, count, view[delta : delta + count * SECTOR]))
        for at in range(0, len(direct), wire.PIECES_MAX):
            yield _Batch(b"".join(direct[at : at + wire.PIECES_MAX]), [])
        rest, half = iter(loose), 0
        while group := list(islice(rest, self._depth)):
            body, copies = [], []
            for number, (sector, count, view) in enumerate(group, half * self._depth):
                position = number * MAX_IO
                body.append(wire.PIECE.pack(sector, count, wire.SLOTS, position))
                copies.append((position, view))
            yield _Batch(b"".join(body), copies)
            half = 1 - half

    def _place(self, view: memoryview) -> tuple[int, int] | None:
        """(region, position) of a view that lies in a registered arena."""
        for region, arena in enumerate(self._arenas, wire.SLOTS + 1):
            position = arena.offset_of(view)
            if position is not None:
                # These modes want buffers aligned to the disk's sectors; slots are.
                if position % _PAGE and self.transport_mode in _ALIGNED_MODES:
                    return None
                return region, position
        return None

    def _finish(self, batch: _Batch, write: bool) -> None:
        self._receive()
        if not write:
            for position, view in batch.copies:
                view[:] = memoryview(self._slots)[position : position + view.nbytes]

    def _send(self, op: Op, body: bytes = b"", fd: int | None = None) -> None:
        if self._failure is not None:
            raise self._failure()
        try:
            self._sock.send(wire.message(op, body))
            self._under_way.append(op)
            if fd is not None:
                socket.send_fds(self._sock, [b"\0"], [fd])
        except TimeoutError:
            raise self._hung(op) from None
        except OSError:
            raise self._died() from None

    def _receive(self) -> bytes:
        """The next answer. On an error every other answer under way is waited for first."""
        if self._failure is not None:
            raise self._failure()
        op = self._under_way[0]
        try:
            answer = self._sock.recv(wire.MESSAGE_MAX)
        except TimeoutError:
            raise self._hung(op) from None
        except OSError:
            answer = b""
        if not answer:
            raise self._died()
        self._under_way.popleft()
        state, body = answer[0], answer[1:]
        if state == State.DONE:
            return body
        error = self._error(state, wire.load(body))
        self._settle()
        raise error

    def _settle(self) -> None:
        """Take answers that nobody waits for any more."""
        while self._under_way:
            with suppress(Exception):
                self._receive()

    def _error(self, state: int, body: dict[str, Any]) -> Exception:
        if state == State.FAILED:
            sector = body.pop("sector")
            error = from_call(CallFailed(**body), self.path)
            return error.at(offset_bytes=None if sector is None else sector * SECTOR)
        if state == State.UNLOADABLE:
            return from_load(LoadFailed(body["path"], body["reason"], tuple(body["missing"])))
        return HelperBroken(path=self.path, reason=body["text"])

    # -- the end ----------------------------------------------------------------------------

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Where something else than an answer ends an exchange (Ctrl-C), end the helper too:
        which answer belongs to which request would not be known any more."""
        try:
            yield
        except VReplicaError:
            raise
        except BaseException:
            self._fail(partial(HelperBroken, path=self.path, reason="a request was interrupted"))
            raise

    def _hung(self, op: Op) -> HelperFailed:
        doing = _DOING[op]
        return self._fail(
            partial(HelperTimeout, path=self.path, doing=doing, timeout_s=self._timeout_s)
        )

    def _died(self) -> HelperFailed:
        status = self._release(EXIT_S)
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
        else:
            how = f"ended by itself with status {status}"
        lines = "; ".join(self._process.last)
        return self._fail(partial(HelperDied, path=self.path, how=how, last_lines=lines))

    def _fail(self, failure: Callable[[], HelperFailed]) -> HelperFailed:
        """From now on every request fails like this one."""
        self._release(0)
        self._failure = failure
        return failure()

    def _release(self, wait_s: float) -> int:
        """End the helper and give the slots back; its exit status. May be called again."""
        status = self._process.end(wait_s)
        self._slots.close()
        return status
