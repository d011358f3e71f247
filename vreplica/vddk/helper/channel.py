"""Sends requests to a helper process, and turns its answers and its failures into errors.

Answers come in the order of the requests; several may be under way. Whatever happens to the
helper, this process goes on:

    answer with an error     raised as the library's or the helper's error; the channel stays
    end of file              HelperDied: a crash, an exit, a kill
    no answer in timeout_s   HelperTimeout: the helper is killed
    Ctrl-C in between        the helper is killed: it is not known which request the next answer
                             belongs to

After each of the last three the process is gone and reaped, so that it cannot write into shared
memory any more. Every later request fails in the same way.
"""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from vreplica.errors import VReplicaError
from vreplica.units import SECTOR
from vreplica.vddk.binding import CallFailed, LoadFailed
from vreplica.vddk.config import LibraryFile, VddkConfig
from vreplica.vddk.errors import (
    HelperBroken,
    HelperDied,
    HelperFailed,
    HelperTimeout,
    from_call,
    from_load,
)
from vreplica.vddk.helper import messages
from vreplica.vddk.helper.messages import AnswerState, Op
from vreplica.vddk.helper.process import EXIT_S, HelperProcess

_DOING = {
    Op.START: "starting the library",
    Op.OPEN: "opening",
    Op.ACCESS: "a request to the server",
    Op.ARENA: "registering memory",
    Op.FORGET: "forgetting memory",
    Op.READ: "a read",
    Op.WRITE: "a write",
    Op.BLOCKS: "asking for allocated blocks",
    Op.FLUSH: "a flush",
    Op.CLOSE: "closing",
}


def start_helper(file: LibraryFile, config: VddkConfig, path: str) -> HelperChannel:
    """Starts a helper and initialises the library in it. `path`: the subject of its errors."""
    channel = HelperChannel(HelperProcess(str(file.path.parent)), path, config.timeout_s)
    order = {
        "library": str(file.path),
        "lib_root": str(file.root),
        "major": file.major,
        "config_file": str(config.config_file.absolute()) if config.config_file else None,
    }
    try:
        channel.ask(Op.START, messages.dump(order))
    except BaseException:
        channel.end(0)
        raise
    return channel


class HelperChannel:
    """One helper and its socket. `timeout_s` is the limit for each answer."""

    def __init__(self, process: HelperProcess, path: str, timeout_s: float) -> None:
        self._process = process
        self._path = path
        self._timeout_s = timeout_s
        self._process.sock.settimeout(timeout_s)
        self._under_way: deque[Op] = deque()
        self._failure: Callable[[], HelperFailed] | None = None

    def ask(self, op: Op, body: bytes = b"", fd: int | None = None) -> bytes:
        """Sends one request, and returns its answer."""
        with self.in_step():
            self.send(op, body, fd)
            return self.receive()

    def take_memory(self, size: int) -> bytes:
        """Returns the bytes of the memory file that the helper sends after its answer."""
        if not size:
            return b""
        try:
            _, fds, _, _ = socket.recv_fds(self._process.sock, 1, 1)
        except TimeoutError:
            raise self._hung(Op.BLOCKS) from None
        except OSError:
            fds = []
        if not fds:
            raise self._died()
        with os.fdopen(fds[0], "rb") as file:
            file.seek(0)
            return file.read(size)

    def send(self, op: Op, body: bytes = b"", fd: int | None = None) -> None:
        if self._failure is not None:
            raise self._failure()
        try:
            self._process.sock.send(messages.message(op, body))
            self._under_way.append(op)
            if fd is not None:
                socket.send_fds(self._process.sock, [b"\0"], [fd])
        except TimeoutError:
            raise self._hung(op) from None
        except OSError:
            raise self._died() from None

    def receive(self) -> bytes:
        """Receives the next answer. Before an error is raised, all other answers are received."""
        if self._failure is not None:
            raise self._failure()
        op = self._under_way[0]
        try:
            answer = self._process.sock.recv(messages.MESSAGE_MAX)
        except TimeoutError:
            raise self._hung(op) from None
        except OSError:
            answer = b""
        if not answer:
            raise self._died()
        self._under_way.popleft()
        state, body = answer[0], answer[1:]
        if state == AnswerState.DONE:
            return body
        error = self._error(state, messages.load(body))
        self._drain()
        raise error

    def _drain(self) -> None:
        """Receives the answers that are still under way."""
        while self._under_way and not self.failed:
            with suppress(VReplicaError):
                self.receive()

    def _error(self, state: int, body: dict[str, Any]) -> Exception:
        if state == AnswerState.FAILED:
            sector = body.pop("sector")
            error = from_call(CallFailed(**body), self._path)
            return error.at(offset_bytes=None if sector is None else sector * SECTOR)
        if state == AnswerState.UNLOADABLE:
            return from_load(LoadFailed(body["path"], body["reason"], tuple(body["missing"])))
        return HelperBroken(path=self._path, reason=body["text"])

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """Ends the helper where Ctrl-C or another exception cuts an exchange short.

        It would not be known any more which answer belongs to which request.
        """
        try:
            yield
        except VReplicaError:
            raise
        except BaseException:
            self._fail(partial(HelperBroken, reason="a request was interrupted"))
            raise

    def _hung(self, op: Op) -> HelperFailed:
        return self._fail(partial(HelperTimeout, doing=_DOING[op], timeout_s=self._timeout_s))

    def _died(self) -> HelperFailed:
        status = self.end()
        how = f"ended by itself with status {status}"
        if status < 0:
            names = {int(s): s.name for s in signal.Signals}
            how = f"was ended by {names.get(-status, f'signal {-status}')}"
        return self._fail(partial(HelperDied, how=how))

    def _fail(self, failure: Callable[..., HelperFailed]) -> HelperFailed:
        """Ends the helper; every later request fails like this one."""
        self.end(0)
        lines = "; ".join(self._process.last)
        self._failure = partial(failure, path=self._path, last_lines=lines)
        return self._failure()

    def end(self, wait_s: float = EXIT_S) -> int:
        """Ends the helper, and returns its exit status. May be called again."""
        return self._process.end(wait_s)

    @property
    def failed(self) -> bool:
        """True once the helper has failed; it is gone then."""
        return self._failure is not None

    @property
    def pid(self) -> int:
        return self._process.process.pid
