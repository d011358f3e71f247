"""Limits one HTTP answer in time and in size, whatever its server does.

    socket ──► bytes of the wire ──► (gzip) ──► content ──► reader
               deadline, limit                  limit

A gzip stream of 1 MiB can hold 1 GiB. So the bytes are counted before and after it, and http.client
and pyVmomi see an ordinary answer that is not compressed.
"""

from __future__ import annotations

import io
import socket
import zlib
from http.client import HTTPResponse
from typing import Any, Final

from vreplica.limited_stream import LimitedStream, ReplyTooLong
from vreplica.units import MIB

MOST_BYTES: Final = 32 * MIB
"""A page of a property read with 100 VMs is about 10 MiB. pyVmomi's objects take 20 times that."""

_CHUNK: Final = 16 * 1024


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
        self.fp = io.BufferedReader(LimitedStream(sock, timeout_s, limit))
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
