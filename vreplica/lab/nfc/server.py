"""The NFC listener of one lab ESXi host, and its connections.

One thread accepts connections. Each connection has its own thread, and the workers of its session.
A connection above the host's limit is closed at once, as a host does.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections import deque
from contextlib import suppress
from typing import Final

from vreplica.disk_errors import DiskAccessError
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.nfc.authd import log_in
from vreplica.lab.nfc.connection import ClientConnection, ReplySuppressed
from vreplica.lab.nfc.faults import NfcFaultRules
from vreplica.lab.nfc.host import HostMemory, NfcHost
from vreplica.lab.nfc.profile import Announced, HostProfile
from vreplica.lab.nfc.session import AioSession
from vreplica.lab.nfc.store import DiskStore, Refused
from vreplica.lab.nfc.tickets import TicketBook
from vreplica.lab.nfc.transfers import ProtocolViolation

log = logging.getLogger(__name__)

ANNOUNCED_MAX: Final = 1000
_ENDINGS = (OSError, EOFError, ProtocolViolation, ReplySuppressed, Refused, DiskAccessError)


class NfcServer:
    """The NFC server of one host. `faults`, `tickets` and `memory` may be used while it runs."""

    def __init__(
        self,
        certificate: ServerCertificate,
        tickets: TicketBook,
        store: DiskStore,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        profile: HostProfile | None = None,
        faults: NfcFaultRules | None = None,
    ) -> None:
        self.certificate = certificate
        self.tickets = tickets
        self.profile = profile or HostProfile()
        self.faults = faults or NfcFaultRules()
        self.memory = HostMemory(self.profile.memory_bytes)
        self.connections = 0
        """Connections accepted since the start."""
        self.announced: deque[Announced] = deque(maxlen=ANNOUNCED_MAX)
        """What each client has said of itself, the latest last."""
        self.address = address
        self.port = port
        self.store = store
        self._context = certificate.tls_context()
        self._listener: socket.socket | None = None
        self._clients: dict[ClientConnection, threading.Thread] = {}
        self._lock = threading.Lock()

    def become(self, profile: HostProfile, certificate: ServerCertificate) -> None:
        """Makes it another host from the next connection on. Counts and tickets stay."""
        self.profile, self.certificate = profile, certificate
        self.memory.limit_bytes = profile.memory_bytes
        self._context = certificate.tls_context()

    def start(self) -> None:
        """Starts to listen. `port` is set then."""
        self._listener = socket.create_server((self.address, self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        name = f"lab-authd-{self.port}"
        threading.Thread(
            target=self._listen, args=(self._listener,), name=name, daemon=True
        ).start()

    def stop(self) -> None:
        """Ends all connections, and waits for their threads."""
        listener, self._listener = self._listener, None
        if listener:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop_all()

    def drop_all(self) -> None:
        """Ends all connections, as a host that fails. New ones are accepted."""
        with self._lock:
            clients = dict(self._clients)
        for client in clients:
            client.abort()
        for thread in clients.values():
            thread.join(timeout=30)

    def __enter__(self) -> NfcServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            client = ClientConnection(sock, counted_errors=self.profile.counted_errors)
            with self._lock:
                full = len(self._clients) >= self.profile.connections
                if not full:
                    self.connections += 1
                    thread = threading.Thread(
                        target=self._serve, args=(client,), name="lab-nfc", daemon=True
                    )
                    self._clients[client] = thread
                    thread.start()
            if full:
                log.info("connection refused: %d are open", self.profile.connections)
                client.close()

    def _serve(self, client: ClientConnection) -> None:
        try:
            client.apply_fault(self.faults, "login")
            login = log_in(
                client,
                self._context,
                self.tickets,
                sha256=self.certificate.thumbprints.sha256,
                profile=self.profile,
            )
            if login:
                host = NfcHost(self.store, self.faults, self.memory, self.profile, self.announced)
                AioSession(client, login.grant, host).serve()
        except ssl.SSLError as error:
            log.info("TLS with a client failed: %s", error)
        except _ENDINGS as error:
            log.debug("connection over: %r", error)
        finally:
            client.close()
            with self._lock:
                del self._clients[client]
