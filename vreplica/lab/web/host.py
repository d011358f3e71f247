"""The HTTPS endpoint of one host, under its own certificate: files of guests.

    GET /guestFile?id=5&token=...     what InitiateFileTransferFromGuest names
    PUT /guestFile?id=5&token=...     what InitiateFileTransferToGuest names

A token is good once and for ten minutes. The endpoint is opened when the first file travels.
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
from vreplica.lab.web.https import Handler, Server

TOKEN_S = 600.0


@dataclass(frozen=True)
class Offer:
    method: str
    path: Path
    size: int
    done: Callable[[Path], None]
    until: float


class _Handler(Handler):
    server: HostWeb

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

    def offer(self) -> Offer | None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if parts.path != "/guestFile":
            return None
        return self.server.take(self.command, query.get("token", [""])[0])


class HostWeb(Server):
    def __init__(self, site: Any, certificate: ServerCertificate) -> None:
        self._offers: dict[str, Offer] = {}
        self._offer_lock = threading.Lock()
        self._numbers = itertools.count(1)
        super().__init__(site, None, port=0, tls=certificate.tls_context(), handler=_Handler)

    def offer(
        self,
        method: str,
        path: Path,
        size: int = 0,
        done: Callable[[Path], None] = lambda path: None,
    ) -> str:
        """A URL for one transfer."""
        token = secrets.token_urlsafe(16)
        with self._offer_lock:
            self._offers[token] = Offer(method, path, size, done, time.monotonic() + TOKEN_S)
        host, port = self.server_address[:2]
        return f"https://{host!s}:{port}/guestFile?id={next(self._numbers)}&token={token}"

    def take(self, method: str, token: str) -> Offer | None:
        with self._offer_lock:
            found = self._offers.get(token)
            if found is None or found.method != method or found.until < time.monotonic():
                return None
            return self._offers.pop(token)
