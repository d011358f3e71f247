"""The bytes that a server sends, until a deadline and up to a limit, whatever the server does.

A timeout of a socket counts from the last byte: a server that sends one every few seconds would
never reach it.
"""

from __future__ import annotations

import io
import socket
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from vreplica.units import human_size

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class ReplyTooLong(ValueError):
    """The answer has more bytes than any that we ask for."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it has more than {human_size(limit)}")


class LimitedStream(io.RawIOBase):
    """What a socket receives. Raises TimeoutError and ReplyTooLong while it is read."""

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
