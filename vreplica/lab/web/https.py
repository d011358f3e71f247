"""The HTTPS endpoint of a site: HTTP/1.1 with keep-alive, a thread for each connection.

    GET  /sdk/vimServiceVersions.xml    the API versions (SmartConnect asks for them first)
    POST /sdk                           SOAP
    /folder/...                         files of the datastores

A request may be chunked, as Go sends it, or have a length. The TLS handshake runs in the thread of
the connection, so a client that does not finish it delays no other.
"""

from __future__ import annotations

import contextlib
import http.cookies
import logging
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from vreplica.lab.api import soap
from vreplica.lab.api.sessions import Call
from vreplica.lab.api.vmodl import MethodFault, version_ids, version_of
from vreplica.lab.site.faults import DropConnection
from vreplica.lab.site.site import Site
from vreplica.units import MIB

log = logging.getLogger("vreplica.lab.web.https")

COOKIE = "vmware_soap_session"
HANDSHAKE_S = 10.0
IDLE_S = 1200.0
BODY_MAX = 64 << 20
_PIECE = MIB


def versions_xml(newest: str) -> bytes:
    newest, *prior = version_ids(newest)
    older = "".join(f"<version>{v}</version>" for v in prior)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><namespaces version="1.0"><namespace>'
        f"<name>urn:vim25</name><version>{newest}</version>"
        f"<priorVersions>{older}</priorVersions></namespace></namespaces>"
    ).encode()


class HttpsHandler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server: HttpsServer
    wbufsize = -1

    def handle(self) -> None:
        try:
            super().handle()
        except (DropConnection, ConnectionError, ssl.SSLError, TimeoutError, OSError) as error:
            log.debug("connection of %s ended: %s", self.client_address, error)
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name upstream
        log.debug(format, *args)

    def version_string(self) -> str:
        return "vreplica-lab"

    # -- requests ---------------------------------------------------------------------------

    def do_GET(self) -> None:
        if self.path == "/sdk/vimServiceVersions.xml":
            self.reply(200, versions_xml(self.server.site.settings.api_version))
        elif self.path.startswith("/folder"):
            self.server.files.serve(self)
        elif self.path == "/":
            self.reply(200, b"<html><title>vreplica lab</title></html>", "text/html")
        else:
            self.reply(404, b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        if self.path.startswith("/folder"):
            self.server.files.serve(self)
        else:
            self.refuse(404)

    def do_DELETE(self) -> None:
        self.do_PUT()

    def do_POST(self) -> None:
        body = self.body()
        if self.path.rstrip("/") not in ("/sdk", "/sdk/vimService"):
            self.reply(404, b"")
            return
        site = self.server.site
        call = self.call()
        call.version = version_of(self.headers.get("SOAPAction", ""), site.settings.api_version)
        try:
            request = soap.parse(body, call)
            answer = soap.result_xml(
                request.method, site.answer(call, request), call.version, site.shown_text
            )
            status = 200
        except MethodFault as error:
            status, answer = 500, soap.fault_xml(error, call.version, site.shown_text)
        # The answer may show changes that came after the flush in `site.answer`.
        site.flush()
        cookie = f'{COOKIE}="{call.cookie}"; Path=/; HttpOnly; Secure' if call.cookie else None
        self.reply(status, answer, cookie=cookie)

    def call(self) -> Call:
        """The caller, by its cookie. Clients send back the whole text of Set-Cookie."""
        site = self.server.site
        jar: Any = http.cookies.SimpleCookie()
        try:
            jar.load(self.headers.get("Cookie", ""))
        except http.cookies.CookieError:
            jar = {}
        key = jar[COOKIE].value if COOKIE in jar else None
        session = site.sessions.find(key)
        agent = self.headers.get("User-Agent", "")
        call = Call(site, session, agent=agent, address=self.client_address[0])
        if session is not None:
            session.touch()
        return call

    def pieces(self) -> Iterator[bytes]:
        """The body of the request, piece by piece."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                yield from self._read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            yield from self._read(int(self.headers.get("Content-Length", 0)))

    def _read(self, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = self.rfile.read(min(size, _PIECE))
            if not piece:
                raise DropConnection
            size -= len(piece)
            yield piece

    def body(self) -> bytes:
        if int(self.headers.get("Content-Length", 0)) > BODY_MAX:
            raise DropConnection
        return b"".join(self.pieces())

    def refuse(self, status: int) -> None:
        """Answers with an error. The body is read first.

        A client that still sends it would see a broken connection in place of the answer.
        """
        for _ in self.pieces():
            pass
        self.reply(status, b"")

    def reply(
        self,
        status: int,
        body: bytes,
        kind: str = "text/xml; charset=utf-8",
        cookie: str | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        if cookie:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


class HttpsServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens once it is made. `serve` answers requests in a thread of its own."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        site: Site,
        files: Any,
        *,
        port: int | None = None,
        tls: ssl.SSLContext | None = None,
        handler: type[HttpsHandler] = HttpsHandler,
    ) -> None:
        self.site = site
        self.files = files
        self._tls = tls or site.certificate.tls_context()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((site.spec.host, site.spec.port if port is None else port), handler)

    def serve(self) -> None:
        # With the default interval, a lab would take half a second to stop.
        threading.Thread(
            target=self.serve_forever, args=(0.05,), name=f"https {self.site.name}", daemon=True
        ).start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(HANDSHAKE_S)
        try:
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secured = self._tls.wrap_socket(request, server_side=True)
        except (OSError, ssl.SSLError) as error:
            log.debug("TLS with %s failed: %s", client_address, error)
            return
        with secured:
            secured.settimeout(IDLE_S)
            with self._lock:
                self._open.add(secured)
            try:
                super().finish_request(secured, client_address)
            finally:
                with self._lock:
                    self._open.discard(secured)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.exception("connection of %s", client_address)

    def drop_connections(self) -> None:
        """Ends all connections, as a restart of vCenter does."""
        with self._lock:
            sockets = list(self._open)
        for secured in sockets:
            with contextlib.suppress(OSError):
                secured.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.drop_connections()
