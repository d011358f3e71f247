"""One dialogue with a mail server: it ends in time and takes little memory, whatever comes."""

from __future__ import annotations

import io
import smtplib
import socket
import ssl
from time import monotonic
from typing import Any, Final

from vreplica.limited_stream import LimitedStream
from vreplica.units import MIB

MOST_BYTES: Final = MIB
"""A server's answers are short lines, one for each recipient."""


class Dialogue(smtplib.SMTP):
    """`timeout_s` limits all of it: every address of the host, TLS, each answer and each command.

    tls: from the first byte. Raises TimeoutError and ReplyTooLong besides what smtplib raises.
    """

    def __init__(
        self, host: str, port: int, *, timeout_s: float, tls: ssl.SSLContext | None
    ) -> None:
        self._deadline = monotonic() + timeout_s
        self._tls = tls
        super().__init__(host, port, timeout=timeout_s)

    def _left_s(self) -> float:
        left_s = self._deadline - monotonic()
        if left_s <= 0:
            self.close()
            raise TimeoutError("timed out")
        return left_s

    def _get_socket(self, host: str, port: int, _timeout: float) -> socket.socket:
        sock = self._first_that_answers(host, port)
        try:
            sock.settimeout(self._left_s())
            return self._tls.wrap_socket(sock, server_hostname=host) if self._tls else sock
        except BaseException:
            sock.close()
            raise

    def _first_that_answers(self, host: str, port: int) -> socket.socket:
        problem: OSError | None = None
        for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                return socket.create_connection((str(address[0]), port), self._left_s())
            except OSError as error:
                self._left_s()
                problem = error
        raise problem or OSError("it has no address")

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = io.BufferedReader(LimitedStream(self.sock, self._left_s(), MOST_BYTES))
        try:
            return super().getreply()
        except smtplib.SMTPServerDisconnected:
            self._left_s()  # smtplib gives this reason to a time that is over, too
            raise

    def send(self, s: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(self._left_s())
        super().send(s)
