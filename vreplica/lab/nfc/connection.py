"""The connection of a client, at the host's side: receives and sends whole frames, applies faults.

The end of the connection is raised as EOFError. One thread receives, several may send. An OpenSSL
connection serves one thread at a time, so with TLS the receiver waits for bytes without the lock
and reads them under it. The receiving thread closes the descriptor, as the last step: closed
earlier, its number could belong to the next client while a sender still writes to it.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from contextlib import suppress
from time import sleep
from typing import Final

from vreplica.lab.nfc.faults import NfcFaultRule, NfcFaultRules, Operation
from vreplica.lab.nfc.store import Refused
from vreplica.nfc import wire
from vreplica.nfc.wire import Aio
from vreplica.units import KIB

IDLE_S: Final = 3600.0
"""How long a client may be silent between two requests."""
STUCK_S: Final = 60.0
"""A client that reads no reply for this long is treated as gone."""


REPLY_BYTES: Final[dict[int, int]] = {
    Aio.OPEN_SESSION: wire.OPEN_SESSION_REPLY.size,
    Aio.CLOSE_SESSION: wire.CLOSE_SESSION.size,
    Aio.OPEN_FILE: wire.OPEN_FILE_REPLY.size,
    Aio.CLOSE_FILE: wire.HANDLE.size,
    Aio.IO: wire.FRAGMENT.size,
    Aio.DDB_GET: wire.DDB_GET_REPLY.size,
    Aio.ALLOCATED: wire.ALLOCATED_REPLY.size,
}
"""Payload of an ordinary reply, by the type of its request."""


class ReplySuppressed(Exception):
    """A fault rule suppresses the reply."""


class ClientConnection:
    """A connected client."""

    def __init__(self, sock: socket.socket, *, counted_errors: bool = True) -> None:
        """`counted_errors`: see `profile.HostProfile`."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(IDLE_S)
        self._sock = sock
        self._counted_errors = counted_errors
        self._lock = threading.Lock()

    def start_tls(self, context: ssl.SSLContext, timeout_s: float) -> None:
        self._sock.settimeout(timeout_s)
        self._sock = context.wrap_socket(self._sock, server_side=True)
        self._sock.settimeout(IDLE_S)

    def abandon_tls(self) -> None:
        """Leaves TLS without a TLS shutdown. The connection continues in plain text."""
        self._sock = socket.socket(fileno=self._sock.detach())
        self._sock.settimeout(IDLE_S)

    def receive_into(self, view: memoryview) -> None:
        sock, at = self._sock, 0
        if not isinstance(sock, ssl.SSLSocket):
            while at < view.nbytes:
                got = sock.recv_into(view[at:])
                if not got:
                    raise EOFError
                at += got
            return
        waiter = select.poll()
        waiter.register(sock.fileno(), select.POLLIN)
        while True:
            at += self._receive_records(sock, view[at:])
            if at == view.nbytes:
                return
            if not waiter.poll(IDLE_S * 1000):
                raise TimeoutError

    def _receive_records(self, sock: ssl.SSLSocket, view: memoryview) -> int:
        """Reads the records that have arrived, at most the view, without waiting."""
        at = 0
        with self._lock:
            sock.settimeout(0)
            try:
                while at < view.nbytes:
                    got = sock.recv_into(view[at:])
                    if not got:
                        raise EOFError
                    at += got
            except ssl.SSLWantReadError:
                pass
            finally:
                sock.settimeout(STUCK_S)
        return at

    def receive(self, size: int) -> bytes:
        data = bytearray(size)
        self.receive_into(memoryview(data))
        return bytes(data)

    def receive_line(self, limit: int) -> str:
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self.receive(1)
            if len(line) > limit:
                raise EOFError
        return line.decode("ascii", "replace").rstrip("\r\n")

    def send(self, *parts: bytes | memoryview) -> None:
        with self._lock:
            for part in parts:
                self._sock.sendall(part)

    # -- AIO frames -------------------------------------------------------------------------

    def reply(
        self,
        kind: int,
        op_id: int,
        payload: bytes,
        extra: bytes | memoryview = b"",
        fault: NfcFaultRule | None = None,
    ) -> None:
        """Sends one reply, damaged as the fault rule says."""
        if fault and fault.kind == "status":
            payload = struct.pack("<Q", fault.code) + payload[8:]
        header = _header(kind, op_id, payload)
        if fault and fault.kind == "truncate":
            whole = header + payload + extra
            with self._lock:  # nothing of another reply may follow
                self._sock.sendall(whole[: len(whole) // 2])
                self.abort()
            raise EOFError
        if fault and fault.kind == "corrupt" and extra:
            spoiled = bytearray(extra)
            spoiled[len(spoiled) // 2] ^= 1
            extra = bytes(spoiled)
        self.send(header + payload, extra)

    def send_error(self, kind: int, op_id: int, refused: Refused) -> None:
        """Sends an error record for a request of type `kind`, in this host's form.

        The record is u64 code, u32 0, u32 length of the text, and the text. One public client
        (for ESXi 7.0.3) has it so, with the text uncounted and an ordinary reply behind it.
        """
        text = refused.text.encode()[:KIB]
        record = struct.pack("<QII", refused.code, 0, len(text))
        if self._counted_errors:
            self.reply(Aio.ERROR, op_id, record + text)
        else:
            empty = bytes(REPLY_BYTES.get(kind, 0))
            again = _header(kind, op_id, empty) + empty
            self.send(_header(Aio.ERROR, op_id, record) + record + text, again)

    def apply_fault(
        self, faults: NfcFaultRules, operation: Operation, offset: int = 0, length: int = 0
    ) -> NfcFaultRule | None:
        """Applies the fault rule that matches a request. Returns the rule, for `reply`.

        Raises Refused, ReplySuppressed or EOFError where no normal reply is to be sent.
        """
        fault = faults.strike(operation, offset, length)
        match fault.kind if fault else None:
            case "slow" if fault:
                sleep(fault.delay_s)
            case "error" if fault:
                raise Refused(fault.code, fault.text)
            case "hang":
                raise ReplySuppressed
            case "drop":
                self.abort()
                raise EOFError
            case "garbage":
                with self._lock:
                    self._sock.sendall(faults.noise(64 * KIB))
                    self.abort()
                raise EOFError
        return fault

    # -- the end ----------------------------------------------------------------------------

    def abort(self) -> None:
        """Ends the connection, from any thread. Threads that wait on it wake up."""
        with suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the descriptor. No other thread may use the connection any more."""
        with suppress(OSError):
            self._sock.close()


def _header(kind: int, op_id: int, payload: bytes) -> bytes:
    return wire.AIO_HEADER.pack(magic=wire.AIO_MAGIC, type=kind, size=len(payload), op_id=op_id)
