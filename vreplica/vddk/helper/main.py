"""Runs in the helper process: owns the library, one connection and one disk of it.

    parent ---- SOCK_SEQPACKET (messages.py) ----> main thread: Open, Read, Write, ..., Close
           <--- stderr: log lines -----------
                                               watcher thread: ends the process with the parent

Each disk has its own process, so that a crash of the library fails that disk and no other. One
thread makes all calls, so that Open, Close and QueryAllocatedBlocks come from the same thread and
calls on the handle never overlap, as the VDDK 8.0 Programming Guide asks.

`process` starts it as a new interpreter, never by fork: InitEx starts threads, which a fork would
lose. LD_LIBRARY_PATH holds the library's own folder, whose copies of libstdc++ and OpenSSL must
reach neither the parent nor programs that the library starts; it is restored as soon as the
interpreter runs. Only the standard library and the needed modules of this package are imported,
so that the start is short.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from typing import Any

from vreplica.units import SECTOR
from vreplica.vddk.binding import CallFailed, LoadFailed
from vreplica.vddk.helper import messages
from vreplica.vddk.helper.messages import AnswerState, Op
from vreplica.vddk.raw_disk import Interrupted, Piece, RawDisk
from vreplica.vddk.session import ConnectionHandle, VddkSession, run_access

PARENT_GONE_GRACE_S = 5.0
"""How long a call may still run once the parent is gone. Then the process ends during the call."""

_PR_SET_DUMPABLE = 4


class SharedRegion:
    """Shared memory of the parent, mapped into the helper."""

    def __init__(self, fd: int, size: int) -> None:
        try:
            self.map = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self.size = size
        self._held = ctypes.c_char.from_buffer(self.map)
        self.address = ctypes.addressof(self._held)

    def at(self, position: int, size: int) -> int:
        if position + size > self.size:
            raise ValueError("a piece reaches past its shared memory")
        return self.address + position

    def close(self) -> None:
        del self._held
        self.map.close()


class HelperServer:
    """Answers requests until CLOSE, or until the parent is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.parent_gone = threading.Event()
        self.regions: dict[int, SharedRegion] = {}
        self.session: VddkSession | None = None
        self.link: ConnectionHandle | None = None
        self.disk: RawDisk | None = None
        self.blocks = b""

    def serve(self) -> None:
        while True:
            try:
                request = self.sock.recv(messages.MESSAGE_MAX)
            except ConnectionResetError:
                return
            if not request or self.parent_gone.is_set():
                return
            op, body = request[0], request[1:]
            try:
                answer = messages.message(AnswerState.DONE, self.run(op, body))
            except CallFailed as failed:
                answer = messages.message(AnswerState.FAILED, messages.dump(vars(failed)))
            except LoadFailed as failed:
                answer = messages.message(AnswerState.UNLOADABLE, messages.dump(vars(failed)))
            except Interrupted:
                return
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                answer = messages.message(AnswerState.BROKEN, messages.dump({"text": text}))
            try:
                self.sock.send(answer)
                self.send_blocks()
            except (BrokenPipeError, ConnectionResetError):
                return
            if op == Op.CLOSE:
                return

    def run(self, op: int, body: bytes) -> bytes:
        if op == Op.READ or op == Op.WRITE:
            self.opened.transfer(op == Op.WRITE, self.pieces(body))
            return b""
        if op == Op.BLOCKS:
            self.blocks = self.opened.query_blocks(*messages.QUERY.unpack(body))
            return messages.SIZE.pack(len(self.blocks))
        if op == Op.FLUSH:
            self.opened.flush()
            return b""
        if op == Op.ARENA:
            self.map(**messages.load(body))
            return b""
        if op == Op.FORGET:
            self.regions.pop(messages.load(body)["region"]).close()
            return b""
        if op == Op.START:
            self.start(messages.load(body))
            return b""
        if op == Op.OPEN:
            return messages.dump(self.open(messages.load(body)))
        if op == Op.ACCESS:
            run_access(self.started, **messages.load(body))
            return b""
        if op == Op.CLOSE:
            self.close()
            return b""
        raise ValueError(f"unknown request {op}")

    @property
    def opened(self) -> RawDisk:
        if self.disk is None:
            raise ValueError("no disk is open")
        return self.disk

    def start(self, order: dict[str, Any]) -> None:
        self.session = VddkSession(**order, emit=_log)

    @property
    def started(self) -> VddkSession:
        if self.session is None:
            raise ValueError("the library is not started")
        return self.session

    def open(self, order: dict[str, Any]) -> dict[str, Any]:
        self.map(messages.SLOTS, order["slots_size"])
        self.link = ConnectionHandle(
            self.started,
            order["target"],
            read_only=order["read_only"],
            transport_modes=order["transport_modes"],
        )
        self.disk = RawDisk(self.link, order["path"], order["flags"], order["io_depth"])
        self.disk.stop = self.parent_gone.is_set
        return {"info": self.disk.info, "transport_mode": self.disk.transport_mode}

    def map(self, region: int, size: int) -> None:
        """Maps a region, whose fd comes in its own message: others need no ancillary data."""
        _, fds, _, _ = socket.recv_fds(self.sock, 1, 1)
        self.regions[region] = SharedRegion(fds[0], size)

    def pieces(self, body: bytes) -> list[Piece]:
        return [
            (start, count, self.regions[region].at(position, count * SECTOR))
            for start, count, region, position in messages.PIECE.iter_unpack(body)
        ]

    def send_blocks(self) -> None:
        if not self.blocks:
            return
        fd = os.memfd_create("vreplica-blocks", os.MFD_CLOEXEC)
        try:
            view = memoryview(self.blocks)
            while view:
                view = view[os.write(fd, view) :]
            socket.send_fds(self.sock, [b"\0"], [fd])
        finally:
            self.blocks = b""
            os.close(fd)

    def close(self) -> None:
        """Calls Close and Disconnect, both in any case. Raises the first failure."""
        disk, self.disk = self.disk, None
        link, self.link = self.link, None
        try:
            if disk is not None:
                disk.close()
        finally:
            if link is not None:
                link.close()

    def watch(self) -> None:
        """Waits in a thread until the parent is gone; then stops between two pieces."""
        poll = select.poll()
        poll.register(self.sock, 0)
        poll.poll()
        self.parent_gone.set()
        time.sleep(PARENT_GONE_GRACE_S)
        os._exit(1)


def _log(level: int, text: str) -> None:
    os.write(2, f"{level}|{text}\n".encode("utf-8", "replace"))


def main() -> None:
    """Runs the helper. argv: fd of the socket, the LD_LIBRARY_PATH to restore ("" for none)."""
    fd, library_path = int(sys.argv[1]), sys.argv[2]
    if library_path:
        os.environ["LD_LIBRARY_PATH"] = library_path
    else:
        os.environ.pop("LD_LIBRARY_PATH", None)
    # Ctrl-C and a service manager's SIGTERM are for the parent, which then closes the helper.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Passwords are in this memory, so no core file may be written, nor piped by core_pattern.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    faulthandler.enable()

    helper = HelperServer(socket.socket(fileno=fd))
    threading.Thread(target=helper.watch, name="watch-parent", daemon=True).start()
    helper.serve()
    try:
        helper.close()
        if helper.session is not None:
            helper.session.api.Exit()
    finally:
        # Without the interpreter's finalizers: threads of the library may still call back.
        os._exit(0)
