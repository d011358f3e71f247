"""The HTTPS endpoint of one host, with its own certificate: transfers files of guests.

    GET /guestFile?id=5&token=...     the URL of InitiateFileTransferFromGuest
    PUT /guestFile?id=5&token=...     the URL of InitiateFileTransferToGuest

A token is good once, for ten minutes. The endpoint is opened at the first transfer.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.web.https import HttpsHandler, HttpsServer

TOKEN_LIFETIME_S = 600.0


@dataclass(frozen=True)
class FileTransfer:
    """A transfer that a URL allows. `done` is called with the received file before it is moved."""

    method: str
    path: Path
    size: int
    done: Callable[[Path], None]
    until: float


class _Handler(HttpsHandler):
    server: HostHttpsServer

    def do_GET(self) -> None:
        offer = self.offer()
        if offer is None:
            self.reply(404, b"")
        elif not offer.path.is_file():
            self.reply(500, b"the file is gone")
        else:
            self.reply(200, offer.path.read_bytes(), "application/octet-stream")

    def do_PUT(self) -> None:
        offer = self.offer()
        if offer is None:
            self.close_connection = True
            self.reply(404, b"")
            return
        content = self.body()
        if len(content) != offer.size:
            self.reply(500, f"{offer.size} bytes were announced".encode())
            return
        try:
            fresh = offer.path.with_name(f"{offer.path.name}.{secrets.token_hex(4)}~")
            fresh.write_bytes(content)
            offer.done(fresh)
            fresh.replace(offer.path)
        except OSError as error:
            self.reply(500, f"{error.strerror}".encode())
            return
        self.reply(200, b"")

    def do_POST(self) -> None:
        self.close_connection = True
        self.reply(404, b"")

    def do_DELETE(self) -> None:
        self.do_POST()

    def do_HEAD(self) -> None:
        self.do_POST()

    def offer(self) -> FileTransfer | None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if parts.path != "/guestFile":
            return None
        return self.server.redeem(self.command, query.get("token", [""])[0])


class HostHttpsServer(HttpsServer):
    """The endpoint, with the transfers that are prepared."""

    def __init__(self, site: Any, certificate: ServerCertificate) -> None:
        self._transfers: dict[str, FileTransfer] = {}
        self._transfer_lock = threading.Lock()
        self._numbers = itertools.count(1)
        super().__init__(site, None, port=0, tls=certificate.tls_context(), handler=_Handler)

    def offer(
        self,
        method: str,
        path: Path,
        size: int = 0,
        done: Callable[[Path], None] = lambda path: None,
    ) -> str:
        """Prepares one transfer. Returns its URL."""
        token = secrets.token_urlsafe(16)
        with self._transfer_lock:
            self._transfers[token] = FileTransfer(
                method, path, size, done, time.monotonic() + TOKEN_LIFETIME_S
            )
        host, port = self.server_address[:2]
        return f"https://{host!s}:{port}/guestFile?id={next(self._numbers)}&token={token}"

    def redeem(self, method: str, token: str) -> FileTransfer | None:
        with self._transfer_lock:
            found = self._transfers.get(token)
            if found is None or found.method != method or found.until < time.monotonic():
                return None
            return self._transfers.pop(token)
