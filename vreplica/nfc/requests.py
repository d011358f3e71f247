"""Requests of an AIO session: each knows what it sends and which replies complete it.

A request is sent (`parts`), its replies are taken one by one (`take`), and then it is `done` or
has a `failure`. A request that is neither was lost with its connection. It may be sent again,
since reads and writes of fixed places can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from vreplica.disk_errors import DiskAccessError
from vreplica.nfc import wire
from vreplica.nfc.channel import HostChannel
from vreplica.nfc.config import NfcTimeouts
from vreplica.nfc.errors import NfcProtocol, from_status
from vreplica.nfc.wire import Aio, Layout
from vreplica.units import SECTOR

Part = bytes | memoryview


def frame(kind: Aio, op_id: int, payload: bytes) -> bytes:
    """Returns header and payload of one AIO frame."""
    header = wire.AIO_HEADER.pack(magic=wire.AIO_MAGIC, type=kind, size=len(payload), op_id=op_id)
    return header + payload


@dataclass(slots=True)
class Leftover:
    """Replies that may still come to a request that has failed: after an error record a host may
    send an ordinary reply, or the other fragments of a read. They are read and dropped."""

    kind: Aio
    frames: int
    bytes: int


class NfcRequest:
    """A request with one reply. `reply`: layout of its payload; None: only a size limit is known.

    (The replies to CLOSE_FILE, CLOSE_SESSION and the socket options hold nothing that is needed.)
    """

    handle = 0
    """The handle that a reply may repeat where others have a status of 0."""

    def __init__(
        self,
        kind: Aio,
        payload: bytes,
        reply: Layout | None,
        *,
        doing: str,
        timeout_s: float,
        extra: bytes = b"",
    ) -> None:
        self.kind: Final = kind
        self.reply: Final = reply
        self.doing: Final = doing
        self.timeout_s: Final = timeout_s
        self.values: dict[str, int] = {}
        self.extra = b""
        self.done = False
        self.failure: DiskAccessError | None = None
        self._payload = payload
        self._send_extra = extra

    def restart(self) -> None:
        """Forgets what came before the connection was lost."""
        self.failure = None

    def parts(self, op_id: int) -> Iterator[Part]:
        """Yields the bytes to send, in order."""
        yield frame(self.kind, op_id, self._payload) + self._send_extra

    def leftover(self) -> Leftover:
        """Returns the replies that may still come after this request has failed."""
        return Leftover(self.kind, 1, wire.BUFFER_MAX)

    def refused(self, channel: HostChannel, payload: bytes, status: int) -> bool:
        """True where a reply says no; then `failure` is set, and its extra is read off."""
        if status in (0, self.handle):
            return False
        behind = wire.bytes_behind(self.kind, payload)
        if behind > wire.BUFFER_MAX:
            raise ValueError(f"{behind} bytes behind a reply with status {status:#x}")
        channel.receive(behind, self.timeout_s, self.doing)
        host, path = channel.host, channel.path
        self.failure = from_status(status, host=host, path=path, doing=self.doing)
        return True

    def take(self, channel: HostChannel, payload: bytes) -> None:
        """Takes one reply and, from the channel, its extra; sets `done` with the last one.

        Sets `failure` where the reply says no. Raises ValueError for a reply that cannot be.
        """
        self.values = self.reply.unpack(payload) if self.reply else {}
        if self.refused(channel, payload, self.values.get("status", 0)):
            return
        length = self.extra_length()
        if length:
            self.extra = channel.receive(length, self.timeout_s, self.doing)
        self.done = True

    def takes(self, size: int) -> bool:
        """True where a reply's payload may have this size."""
        return size == self.reply.size if self.reply else size <= wire.REPLY_PAYLOAD_MAX

    def extra_length(self) -> int:
        """Returns the bytes that follow the reply's payload. Raises ValueError for a bad number."""
        return 0


class DdbGetRequest(NfcRequest):
    """Reads one key of the disk's database into `extra`; empty where the key is missing."""

    def __init__(self, handle: int, key: str, timeouts: NfcTimeouts) -> None:
        name = key.encode("ascii")
        super().__init__(
            Aio.DDB_GET,
            wire.DDB_GET.pack(handle=handle, key_length=len(name)),
            wire.DDB_GET_REPLY,
            doing=f"reading the key {key}",
            timeout_s=timeouts.read_s,
            extra=name,
        )
        self.handle = handle

    def extra_length(self) -> int:
        length = self.values["value_length"]
        if length > wire.DDB_VALUE_MAX:
            raise ValueError(f"a value of {length} bytes")
        return length


class AllocatedRequest(NfcRequest):
    """Asks which of `count` chunks from byte `start` are allocated; `extra` gets a bitmap."""

    def __init__(
        self, handle: int, start: int, chunk: int, count: int, timeouts: NfcTimeouts
    ) -> None:
        super().__init__(
            Aio.ALLOCATED,
            wire.ALLOCATED.pack(handle=handle, chunk_bytes=chunk, start=start, chunk_count=count),
            wire.ALLOCATED_REPLY,
            doing=f"querying allocated blocks at {start}",
            timeout_s=timeouts.read_s,
        )
        self.handle = handle
        self.start: Final = start
        self.count: Final = count

    def extra_length(self) -> int:
        if self.values["chunk_count"] != self.count:
            raise ValueError(f"a bitmap of {self.values['chunk_count']} chunks, not {self.count}")
        return wire.bitmap_bytes(self.count)


class CloseFileRequest(NfcRequest):
    """Closes the disk. Hosts answer with the handle, with zeros, or with a status."""

    def __init__(self, handle: int, timeouts: NfcTimeouts) -> None:
        payload = wire.HANDLE.pack(handle=handle)
        super().__init__(Aio.CLOSE_FILE, payload, None, doing="closing", timeout_s=timeouts.close_s)
        self.handle = handle

    def take(self, channel: HostChannel, payload: bytes) -> None:
        status = int.from_bytes(payload[: wire.HANDLE.size], "little")
        self.done = not self.refused(channel, payload, status)


class TransferRequest(NfcRequest):
    """A read or write of `view` at byte `offset` of the disk."""

    doing_word: ClassVar[str]

    def __init__(
        self, handle: int, offset: int, view: memoryview, buffer: int, timeout_s: float
    ) -> None:
        super().__init__(
            Aio.IO,
            b"",
            wire.FRAGMENT,
            doing=f"{self.doing_word} {view.nbytes} bytes at {offset}",
            timeout_s=timeout_s,
        )
        self.handle = handle
        self.offset: Final = offset
        self.view: Final = view
        self._buffer = buffer

    def _check(self, values: dict[str, int], **expected: int) -> None:
        for name, value in expected.items():
            if values[name] != value:
                raise ValueError(f"{name} is {values[name]}, not {value}")


class ReadRequest(TransferRequest):
    """Reads with one request; fragments of at most one buffer answer it, in any order."""

    doing_word = "reading"

    def __init__(
        self, handle: int, offset: int, view: memoryview, buffer: int, timeouts: NfcTimeouts
    ) -> None:
        super().__init__(handle, offset, view, buffer, timeouts.read_s)
        self._got: list[tuple[int, int]] = []
        self._missing = view.nbytes

    def restart(self) -> None:
        super().restart()
        self._got, self._missing = [], self.view.nbytes

    def leftover(self) -> Leftover:
        total = self.view.nbytes
        return Leftover(self.kind, total // SECTOR + 1, total)

    def parts(self, op_id: int) -> Iterator[Part]:
        length = self.view.nbytes
        payload = wire.READ.pack(
            handle=self.handle,
            opcode=wire.OP_READ,
            compression=wire.PLAIN,
            offset=self.offset,
            length=length,
            length_again=length,
            wire_length=length,
        )
        yield frame(Aio.IO, op_id, payload)

    def take(self, channel: HostChannel, payload: bytes) -> None:
        values = wire.FRAGMENT.unpack(payload)
        if self.refused(channel, payload, values["handle"]):
            return
        at, length = values["at"], values["length"]
        self._check(
            values,
            opcode=wire.OP_READ,
            compression=wire.PLAIN,
            offset=self.offset,
            total=self.view.nbytes,
            wire_length=length,
        )
        end = at + length
        if not 0 < length <= self._buffer or end > self.view.nbytes:
            raise ValueError(f"a fragment of {length} bytes at {at} of {self.view.nbytes}")
        if any(at < seen_end and start < end for start, seen_end in self._got):
            raise ValueError(f"the fragment at {at} came twice")
        channel.receive_into(self.view[at:end], self.timeout_s, self.doing)
        self._got.append((at, end))
        self._missing -= length
        self.done = self._missing == 0


class WriteRequest(TransferRequest):
    """Writes fragments of at most one buffer each, under one opId; a single reply answers."""

    doing_word = "writing"

    def __init__(
        self, handle: int, offset: int, view: memoryview, buffer: int, timeouts: NfcTimeouts
    ) -> None:
        super().__init__(handle, offset, view, buffer, timeouts.write_s)

    def parts(self, op_id: int) -> Iterator[Part]:
        total = self.view.nbytes
        for at in range(0, total, self._buffer):
            length = min(self._buffer, total - at)
            payload = wire.FRAGMENT.pack(
                handle=self.handle,
                opcode=wire.OP_WRITE,
                compression=wire.PLAIN,
                offset=self.offset,
                total=total,
                at=at,
                length=length,
                wire_length=length,
            )
            yield frame(Aio.IO, op_id, payload)
            yield self.view[at : at + length]

    def take(self, channel: HostChannel, payload: bytes) -> None:
        values = wire.FRAGMENT.unpack(payload)
        if self.refused(channel, payload, values["handle"]):
            return
        self._check(values, opcode=wire.OP_WRITE, total=self.view.nbytes)
        self.done = True


def protocol_error(channel: HostChannel, doing: str, reason: str) -> NfcProtocol:
    """Makes the error for a reply that the tables do not allow."""
    return NfcProtocol(host=channel.host, path=channel.path, doing=doing, reason=reason)
