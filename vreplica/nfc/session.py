"""An NFC session on an open channel: does the handshake, then AIO requests, several in flight.

    client                                             host
    43 PlainText, 33, 51 version 11               -->
                                                  <--  36 (accepted = 1), 51 version
    54, client name, operation name, 55, 52       -->
                                                  <--  52
    AIO: OPEN_SESSION, SET_SOCK_OPTS, SET_RES_POOL, OPEN_FILE, then IO ... CLOSE_FILE,
    CLOSE_SESSION, and a last classic message 4

One thread uses a session. A lost connection, a frame that the tables do not allow, or a reply
that is late breaks the session: the channel is closed, and HostConnection or a subclass is
raised. An error record, or a status that says no, fails that request alone. What a host still sends
for a request that has failed is dropped when it comes, and never waited for.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

from vreplica.disk_errors import DiskAccessError, HostConnection, OperationUnsupported
from vreplica.nfc import wire
from vreplica.nfc.channel import HostChannel
from vreplica.nfc.config import NfcConfig
from vreplica.nfc.errors import from_reply
from vreplica.nfc.requests import CloseFileRequest, Leftover, NfcRequest, protocol_error
from vreplica.nfc.wire import Aio, Classic
from vreplica.units import SECTOR

log = logging.getLogger(__name__)

CLIENT_NAME: Final = b"vreplica"
OPERATION: Final = b"replication"


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """Answer of OPEN_FILE. `geometry`: (cylinders, heads, sectors)."""

    handle: int
    capacity_bytes: int
    geometry: tuple[int, int, int]


class NfcSession:
    """A session of one thread. `buffer_bytes`: the most that one fragment may hold."""

    def __init__(self, channel: HostChannel, config: NfcConfig, *, buffer_bytes: int) -> None:
        self.buffer_bytes = buffer_bytes
        self.version = 0
        self._channel = channel
        self._timeouts = config.timeouts
        self._buffer_count = config.buffer_count
        self._op_id = 0
        self._leftovers: dict[int, Leftover] = {}
        self._broken = False
        self._aio = False

    # -- opening ----------------------------------------------------------------------------

    def handshake(self) -> None:
        """Exchanges the classic messages, up to the start of AIO.

        Raises HostConnection and its subclasses.
        """
        text = wire.PLAIN_TEXT
        hello = bytearray(wire.CLASSIC.pack(type=Classic.HANDSHAKE))
        start = wire.HANDSHAKE_TEXT_OFFSET
        hello[start : start + len(text)] = text
        # ESXi 7.0.3 acknowledges the session parameters only after the version.
        self._say(
            bytes(hello),
            wire.CLASSIC.pack(type=Classic.SESSION_PARAMS),
            wire.VERSION.pack(type=Classic.VERSION, version=wire.PROTOCOL_VERSION),
        )
        params = self._hear(Classic.SESSION_PARAMS_REPLY, wire.SESSION_PARAMS_REPLY)
        if params["accepted"] != 1:
            raise protocol_error(self._channel, "NFC handshake", f"session parameters: {params}")
        self.version = self._hear(Classic.VERSION, wire.VERSION)["version"]
        self._say(
            wire.CONNECTION_DATA.pack(
                type=Classic.CONNECTION_DATA,
                name_length=len(CLIENT_NAME),
                operation_length=len(OPERATION),
            ),
            CLIENT_NAME,
            OPERATION,
            wire.FEATURES.pack(type=Classic.FEATURES, features=wire.CLIENT_FEATURES),
            wire.CLASSIC.pack(type=Classic.AIO_SESSION),
        )
        self._hear(Classic.AIO_SESSION, wire.CLASSIC)
        self._aio = True

    def open_session(self) -> None:
        """Agrees on buffers. Raises DiskAccessError where the host does not give them."""
        self.call(
            self._request(
                Aio.OPEN_SESSION,
                wire.OPEN_SESSION.pack(
                    buffer_bytes=self.buffer_bytes, buffer_count=self._buffer_count
                ),
                wire.OPEN_SESSION_REPLY,
                f"opening a session with {self._buffer_count} buffers of {self.buffer_bytes}",
            )
        )
        sockets = self._request(
            Aio.SET_SOCKET_OPTIONS,
            wire.SOCKET_OPTIONS.pack(),
            None,
            "asking for socket options",
        )
        pool = self._request(
            Aio.SET_RESOURCE_POOL,
            wire.RESOURCE_POOL.pack(pool=wire.RESOURCE_POOL_DEFAULT),
            None,
            "setting the resource pool",
        )
        for wish in (sockets, pool):
            self.run([wish], 1)
            if wish.failure:  # the host keeps its own
                log.info("%s", wish.failure)

    def open_file(self, path: str, *, read_only: bool) -> OpenedFile:
        """Opens a disk by its datastore path.

        The capacity is 0 where the host does not tell it.
        """
        name = path.encode()
        flags = wire.OPEN_READ_ONLY if read_only else wire.OPEN_READ_WRITE
        payload = wire.OPEN_FILE.pack(
            path_length=len(name), file_type=wire.FILE_TYPE_DISK, flags=flags
        )
        doing = "opening" if read_only else "opening for writing"
        request = self._request(Aio.OPEN_FILE, payload, wire.OPEN_FILE_REPLY, doing, name)
        values = self.call(request).values
        capacity, sector = values["capacity_bytes"], values["sector_bytes"]
        if sector not in (0, SECTOR):
            raise OperationUnsupported(
                host=self._channel.host,
                path=path,
                doing=doing,
                reason=f"its sectors have {sector} bytes, not {SECTOR}",
            )
        if not 0 <= capacity < 1 << 63 or capacity % SECTOR:
            raise self._break(doing, f"a capacity of {capacity} bytes")
        geometry = (values["cylinders"], values["heads"], values["sectors"])
        return OpenedFile(values["handle"], capacity, geometry)

    def close_file(self, handle: int) -> None:
        """Closes the disk; the host then writes what it held back."""
        self.call(CloseFileRequest(handle, self._timeouts))

    @property
    def usable(self) -> bool:
        """False once the session is broken; then only `close` may be called."""
        return not self._broken

    def close(self) -> None:
        """Ends the session where it is whole, and closes the connection. Never raises."""
        if self._aio and not self._broken:
            with suppress(DiskAccessError):
                self.call(
                    NfcRequest(
                        Aio.CLOSE_SESSION,
                        wire.CLOSE_SESSION.pack(),
                        None,
                        doing="closing the session",
                        timeout_s=self._timeouts.close_s,
                    )
                )
                self._say(wire.CLASSIC.pack(type=Classic.SESSION_COMPLETE))
        self._broken = True
        self._channel.close()

    # -- requests ---------------------------------------------------------------------------

    def call(self, request: NfcRequest) -> NfcRequest:
        """Does one request alone. Raises its failure."""
        self.run([request], 1)
        if request.failure:
            raise request.failure
        return request

    def run(self, requests: Iterable[NfcRequest], depth: int) -> None:
        """Sends requests, at most `depth` in flight, until each is done or has failed.

        After the first error reply nothing new is sent, but replies to requests in flight are
        still taken, so that the session stays usable. Failures stay in the requests.

        Raises HostConnection where the session breaks. Requests that are neither done nor failed
        may then be sent again on another session. The request whose frame came last before the
        break does not count as done: frames have no checksum, so only the bad bytes behind it
        show that it was cut short.
        """
        waiting = deque(request for request in requests if not request.done)
        in_flight: dict[int, NfcRequest] = {}
        failed = False
        last: NfcRequest | None = None
        if self._broken:
            raise self._channel.problem(HostConnection, "using the session", "it is closed")
        try:
            while in_flight or (waiting and not failed):
                while waiting and not failed and len(in_flight) < depth:
                    request = waiting.popleft()
                    request.restart()
                    in_flight[self._op_id] = request
                    self._send(request, self._op_id)
                    self._op_id = (self._op_id + 1) % (1 << 32)
                op_id = self._receive(in_flight)
                if op_id is None:
                    continue
                last = request = in_flight[op_id]
                if request.failure:
                    failed = True
                    self._leftovers[op_id] = request.leftover()
                if request.done or request.failure:
                    del in_flight[op_id]
        except BaseException:
            # Every error, since a KeyboardInterrupt leaves requests in flight too.
            self._broken = True
            self._channel.close()
            if last:
                last.done = False
            raise

    def _request(
        self, kind: Aio, payload: bytes, reply: wire.Layout | None, doing: str, extra: bytes = b""
    ) -> NfcRequest:
        limit = self._timeouts.handshake_s
        return NfcRequest(kind, payload, reply, doing=doing, timeout_s=limit, extra=extra)

    def _send(self, request: NfcRequest, op_id: int) -> None:
        deadline = monotonic() + request.timeout_s
        for part in request.parts(op_id):
            left = max(deadline - monotonic(), 1e-3)
            self._channel.send([part], left, request.doing)

    def _receive(self, in_flight: dict[int, NfcRequest]) -> int | None:
        """Takes one frame, and returns the opId of its request; None: the frame was dropped."""
        limit = max(request.timeout_s for request in in_flight.values())
        oldest = next(iter(in_flight.values()))
        header = wire.AIO_HEADER.unpack(
            self._channel.receive(wire.AIO_HEADER.size, limit, oldest.doing)
        )
        magic, kind, size, op_id = (header[n] for n in ("magic", "type", "size", "op_id"))
        if magic != wire.AIO_MAGIC:
            raise self._break(oldest.doing, f"frame magic {magic:#010x}")
        request = in_flight.get(op_id)
        if request is None and self._drop(op_id, kind, size, limit, oldest.doing):
            return None
        if request is None:
            raise self._break(oldest.doing, f"a reply to request {op_id}, which is not in flight")
        if kind == Aio.ERROR:
            payload, text = self._receive_error(size, limit, request.doing)
            host, path = self._channel.host, self._channel.path
            request.failure = from_reply(payload, text, host=host, path=path, doing=request.doing)
            return op_id
        if kind != request.kind or not request.takes(size):
            raise self._break(request.doing, f"a reply of type {kind} with {size} bytes")
        payload = self._channel.receive(size, limit, request.doing)
        try:
            request.take(self._channel, payload)
        except ValueError as error:
            raise self._break(request.doing, str(error)) from error
        return op_id

    def _receive_error(self, size: int, limit: float, doing: str) -> tuple[bytes, bytes]:
        """Takes an error record; returns its payload, and the text that follows it uncounted."""
        if size > wire.ERROR_PAYLOAD_MAX:
            raise self._break(doing, f"an error reply of {size} bytes")
        payload = self._channel.receive(size, limit, doing)
        length = wire.uncounted_text_bytes(payload)
        if length > wire.ERROR_PAYLOAD_MAX:
            raise self._break(doing, f"an error text of {length} bytes")
        return payload, self._channel.receive(length, limit, doing)

    def _drop(self, op_id: int, kind: int, size: int, limit: float, doing: str) -> bool:
        """Reads off a frame for a request that has failed. False: no such frame is expected."""
        left = self._leftovers.get(op_id)
        if left is None or left.frames == 0 or kind not in (left.kind, Aio.ERROR):
            return False
        left.frames -= 1
        if kind == Aio.ERROR:
            self._receive_error(size, limit, doing)
            return True
        if size > wire.REPLY_PAYLOAD_MAX:
            return False
        payload = self._channel.receive(size, limit, doing)
        behind = wire.bytes_behind(kind, payload)
        left.bytes -= behind
        if left.bytes < 0:
            raise self._break(doing, f"{behind} bytes too many for request {op_id}")
        self._channel.receive(behind, limit, doing)
        return True

    # -- classic messages -------------------------------------------------------------------

    def _say(self, *messages: bytes) -> None:
        self._channel.send(messages, self._timeouts.handshake_s, "NFC handshake")

    def _hear(self, kind: Classic, layout: wire.Layout) -> dict[str, int]:
        data = self._channel.receive(layout.size, self._timeouts.handshake_s, "NFC handshake")
        values = layout.unpack(data)
        if values["type"] != kind:
            raise self._break("NFC handshake", f"message {values['type']} instead of {kind}")
        return values

    def _break(self, doing: str, reason: str) -> HostConnection:
        self._broken = True
        self._channel.close()
        return protocol_error(self._channel, doing, reason)
