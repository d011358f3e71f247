"""The listener of one lab ESXi host, and its connections.

One thread takes connections; each connection has its own (and the session's workers). Beyond
the host's limit a connection is closed at once, as a host does that has none left.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from contextlib import suppress

from vreplica.disk_errors import DiskAccessError
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.nfc.authd import log_in
from vreplica.lab.nfc.faults import Faults
from vreplica.lab.nfc.limits import HostMemory, HostProfile
from vreplica.lab.nfc.session import AioSession
from vreplica.lab.nfc.store import Refused, Store
from vreplica.lab.nfc.tickets import TicketBook
from vreplica.lab.nfc.transfers import ProtocolBroken
from vreplica.lab.nfc.wirepeer import Peer, Silenced

__all__ = ["HostProfile", "NfcServer"]

log = logging.getLogger(__name__)

_ENDINGS = (OSError, EOFError, ProtocolBroken, Silenced, Refused, DiskAccessError)


class NfcServer:
    """Start it, use `port`, stop it. `faults`, `tickets` and `memory` may be used meanwhile."""

    def __init__(
        self,
        certificate: ServerCertificate,
        tickets: TicketBook,
        store: Store,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        profile: HostProfile | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.certificate = certificate
        self.tickets = tickets
        self.profile = profile or HostProfile()
        self.faults = faults or Faults()
        self.memory = HostMemory(self.profile.memory_bytes)
        self.connections = 0
        """Taken since the start."""
        self.logins = 0
        self.address = address
        self.port = port
        self.store = store
        self._context = certificate.tls_context()
        self._listener: socket.socket | None = None
        self._peers: dict[Peer, threading.Thread] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Listen; `port` is known when this returns."""
        self._listener = socket.create_server((self.address, self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        name = f"lab-authd-{self.port}"
        threading.Thread(
            target=self._listen, args=(self._listener,), name=name, daemon=True
        ).start()

    def stop(self) -> None:
        """End every connection and wait for their threads."""
        listener, self._listener = self._listener, None
        if listener:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop_all()

    def drop_all(self) -> None:
        """Cut every connection, as a host that goes away; new ones are still taken."""
        with self._lock:
            peers = dict(self._peers)
        for peer in peers:
            peer.cut()
        for thread in peers.values():
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
            peer = Peer(sock)
            with self._lock:
                full = len(self._peers) >= self.profile.connections
                if not full:
                    self.connections += 1
                    thread = threading.Thread(
                        target=self._serve, args=(peer,), name="lab-nfc", daemon=True
                    )
                    self._peers[peer] = thread
                    thread.start()
            if full:
                log.info("connection refused: %d are open", self.profile.connections)
                peer.close()

    def _serve(self, peer: Peer) -> None:
        try:
            peer.suffer(self.faults, "login")
            login = log_in(
                peer,
                self._context,
                self.tickets,
                sha256=self.certificate.thumbprints.sha256,
                service=self.profile.service,
            )
            if login:
                self.logins += 1
                session = AioSession(
                    peer, login.grant, self.store, self.faults, self.memory, self.profile
                )
                session.serve()
        except ssl.SSLError as error:
            log.info("TLS with a client failed: %s", error)
        except _ENDINGS as error:
            log.debug("connection over: %r", error)
        finally:
            peer.close()
            with self._lock:
                del self._peers[peer]
