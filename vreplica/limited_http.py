"""Limits one HTTP answer in time and in size, whatever its server does.

    socket ──► bytes of the wire ──► (gzip) ──► content ──► reader
               deadline, limit                  limit

A timeout of a socket counts from the last byte: a server that sends one every few seconds would
never reach it. A gzip stream of 1 MiB can hold 1 GiB. So time and bytes are counted here, and
http.client and pyVmomi see an ordinary answer that is not compressed.
"""

from __future__ import annotations

import io
import socket
import zlib
from contextlib import suppress
from http.client import HTTPResponse
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from vreplica.units import MIB, human_size

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_BYTES: Final = 32 * MIB
"""A page of a property read with 100 VMs is about 10 MiB. pyVmomi's objects take 20 times that."""

_CHUNK: Final = 16 * 1024


class ReplyTooLong(ValueError):
    """The answer has more bytes than any that we ask for."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it has more than {human_size(limit)}")


class _LimitedStream(io.RawIOBase):
    """The bytes of a socket until a deadline and up to a limit."""

    def __init__(self, sock: socket.socket, timeout_s: float, limit: int) -> None:
        self._sock, self._timeout_s = sock, timeout_s
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = monotonic() + timeout_s
        self._limit = self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        left_s = self._deadline - monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left_s)
        got = self._raw.readinto(buffer)
        self._left -= got or 0
        if self._left < 0:
            raise ReplyTooLong(self._limit)
        return got

    def close(self) -> None:
        if not self.closed:
            with suppress(OSError):  # a socket that is closed already
                self._sock.settimeout(self._timeout_s)
            self._raw.close()
        super().close()


class LimitedResponse(HTTPResponse):
    """An answer that ends within `timeout_s` and has at most `limit` bytes, also unpacked.

    Raises TimeoutError and ReplyTooLong while it is read.
    """

    def __init__(
        self,
        sock: socket.socket,
        *args: Any,
        timeout_s: float,
        limit: int = MOST_BYTES,
        **more: Any,
    ) -> None:
        super().__init__(sock, *args, **more)
        self.fp.close()
        self.fp = io.BufferedReader(_LimitedStream(sock, timeout_s, limit))
        self._limit = self._left = limit
        self._packed: Any = None

    def begin(self) -> None:
        super().begin()
        encoding = self.headers.get("Content-Encoding", "identity").lower()
        if encoding == "gzip":
            self._packed = zlib.decompressobj(zlib.MAX_WBITS + 16)
            # The reader gets it unpacked.
            del self.headers["Content-Encoding"]
        elif encoding != "identity":
            raise ValueError(f"it is packed by {encoding[:20]}, which was not asked for")

    def read(self, amt: int | None = None) -> bytes:
        if self._packed is None:
            return super().read(amt)
        parts: list[bytes] = []
        wanted = self._left + 1 if amt is None else amt
        try:
            while wanted > 0 and (part := self._unpacked(min(wanted, _CHUNK))):
                parts.append(part)
                wanted -= len(part)
        except zlib.error as error:
            raise ValueError(f"it cannot be unpacked ({error})") from None
        return b"".join(parts)

    def _unpacked(self, most: int) -> bytes:
        """At most so many bytes; none at the end."""
        while True:
            data = self._packed.unconsumed_tail or super().read(_CHUNK)
            part: bytes = self._packed.decompress(data, most) if data else self._packed.flush()
            self._left -= len(part)
            if self._left < 0:
                raise ReplyTooLong(self._limit)
            if part or not data:
                return part
