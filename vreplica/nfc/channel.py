"""Carries bytes to and from one host, plain or by TLS, with a deadline on every transfer.

Every failure below the protocol becomes HostConnection, HostTimeout or NfcProtocol. A deadline
covers a whole transfer, not each piece: a peer that sends one byte a minute counts as silent.
"""

from __future__ import annotations

import hashlib
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final, TypeVar

from vreplica.disk_errors import HostConnection
from vreplica.nfc.errors import HostTimeout, HostTlsTooOld, NfcProtocol

T = TypeVar("T")

_WAIT: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_KEEPALIVE_S: Final = 60
_CLOSED: Final = "the host closed the connection"
_TOO_OLD: Final = frozenset(
    {
        *("DH_KEY_TOO_SMALL", "EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"),
        *("WRONG_SIGNATURE_TYPE", "LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED"),
        *("SSLV3_ALERT_HANDSHAKE_FAILURE", "UNSUPPORTED_PROTOCOL"),
    }
)
"""OpenSSL's reasons for refusing, or being refused by, a server whose keys or ciphers are weak."""


def tls_context(*, legacy: bool = False) -> ssl.SSLContext:
    """Makes the TLS context for hosts; the caller checks the thumbprint after the handshake.

    An ESXi host's certificate is its own or VMCA's. The ticket names it by its thumbprint, which
    came over the verified connection to vCenter. `legacy`: also accepts keys of 1024 bits, as ESXi
    6.5 and 6.7.0 have them (OpenVixDiskLib).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if legacy:
        context.set_ciphers("DEFAULT:@SECLEVEL=1")
    return context


def colons(digest: bytes) -> str:
    """Writes a digest as VMware writes thumbprints: AA:BB:..."""
    return digest.hex(":").upper()


@dataclass(frozen=True, slots=True)
class Thumbprints:
    """Thumbprints of one DER certificate, in upper case with colons."""

    sha1: str
    sha256: str

    @classmethod
    def of(cls, der: bytes) -> Thumbprints:
        # vSphere's tickets name the SHA-1. Where a SHA-256 is pinned, both are checked.
        sha1 = hashlib.sha1(der, usedforsecurity=False).digest()
        return cls(colons(sha1), colons(hashlib.sha256(der).digest()))


def same_thumbprint(first: str, second: str) -> bool:
    """Compares two thumbprints in any case, with or without colons."""
    return first.replace(":", "").upper() == second.replace(":", "").upper()


class HostChannel:
    """A TCP connection whose TLS layer can be started and abandoned. Not thread-safe."""

    def __init__(self, sock: socket.socket, *, host: str, path: str) -> None:
        self.host = host
        self.path = path
        self._sock: socket.socket = sock

    @classmethod
    def connect(cls, host: str, port: int, *, path: str, timeout_s: float) -> HostChannel:
        """Connects to a host. Raises HostConnection or HostTimeout."""
        try:
            sock = socket.create_connection((host, port), timeout_s)
        except UnicodeError as error:
            doing, reason = f"connecting to port {port}", "this is not a host name"
            raise HostConnection(host=host, path=path, doing=doing, reason=reason) from error
        except OSError as error:
            kind = HostTimeout if isinstance(error, TimeoutError) else HostConnection
            unknown = isinstance(error, socket.gaierror)
            reason = "the name is not known (DNS)" if unknown else error.strerror or str(error)
            doing = f"connecting to port {port}"
            raise kind(host=host, path=path, doing=doing, reason=reason) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A paused or throttled copy must not look idle to a firewall.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_S)
        return cls(sock, host=host, path=path)

    # -- TLS --------------------------------------------------------------------------------

    def start_tls(self, timeout_s: float, *, legacy: bool = False) -> Thumbprints:
        """Does a TLS handshake, and returns the host's thumbprints.

        The caller must check them before it sends anything.
        """

        def handshake() -> bytes | None:
            self._sock.settimeout(timeout_s)
            self._sock = tls = tls_context(legacy=legacy).wrap_socket(self._sock)
            # wrap_socket may not notice that the peer has left; this does.
            return tls.getpeercert(binary_form=True)

        der = self._do("TLS handshake", timeout_s, handshake)
        if not der:
            raise self.problem(NfcProtocol, "TLS handshake", "the host showed no certificate")
        return Thumbprints.of(der)

    def abandon_tls(self) -> None:
        """Continues in the clear on the same connection, without a TLS shutdown.

        authd leaves its TLS layer like this after `200 Connect`, on both sides. Nothing is lost:
        OpenSSL reads a whole record and not a byte more (its read-ahead is off), and the host
        sends nothing before the client does.
        """
        assert isinstance(self._sock, ssl.SSLSocket)
        if self._sock.pending():
            raise self.problem(NfcProtocol, "leaving TLS", "the host said more than it should")
        # detach() gives the descriptor up without close_notify; the TLS state is freed.
        self._sock = socket.socket(fileno=self._sock.detach())

    # -- transfers --------------------------------------------------------------------------

    def send(self, parts: Sequence[bytes | memoryview], timeout_s: float, doing: str) -> None:
        """Sends all parts, in order."""

        def transfer() -> None:
            deadline = monotonic() + timeout_s
            for part in parts:
                self._send_all(memoryview(part), deadline)

        self._do(doing, timeout_s, transfer)

    def _send_all(self, view: memoryview, deadline: float) -> None:
        """Sends like sendall, and notices a host that hangs up while its receive window is full.

        sendall would wait for the deadline then, which for writes is ten minutes away.
        """
        sock = self._ready()
        while view:
            try:
                view = view[sock.send(view) :]
            except _WAIT:
                events = self._wait(select.POLLOUT | select.POLLRDHUP, deadline)
                if events & (select.POLLRDHUP | select.POLLHUP | select.POLLERR):
                    raise ConnectionResetError(_CLOSED) from None

    def receive_into(self, view: memoryview, timeout_s: float, doing: str) -> None:
        """Fills the view."""

        def transfer() -> None:
            deadline = monotonic() + timeout_s
            at, size, sock = 0, view.nbytes, self._ready()
            while at < size:
                try:
                    got = sock.recv_into(view[at:])
                except _WAIT:
                    self._wait(select.POLLIN, deadline)
                    continue
                if not got:
                    raise ConnectionResetError(_CLOSED)
                at += got

        self._do(doing, timeout_s, transfer)

    def _ready(self) -> socket.socket:
        """Returns the socket, not blocking: with a timeout it takes two more calls a record."""
        if self._sock.gettimeout() != 0:
            self._sock.settimeout(0)
        return self._sock

    def _wait(self, events: int, deadline: float) -> int:
        """Polls for events, and returns them. Raises TimeoutError at the deadline."""
        waiter = select.poll()
        waiter.register(self._sock.fileno(), events)
        found = waiter.poll(max(deadline - monotonic(), 0) * 1000)
        if not found or monotonic() >= deadline:
            raise TimeoutError
        return found[0][1]

    def receive(self, size: int, timeout_s: float, doing: str) -> bytes:
        """Receives exactly `size` bytes."""
        data = bytearray(size)
        self.receive_into(memoryview(data), timeout_s, doing)
        return bytes(data)

    def receive_line(self, limit: int, timeout_s: float, doing: str) -> str:
        """Receives a line, without its CR LF (or LF).

        Reads byte by byte, so that nothing behind the line is taken.
        """

        def transfer() -> bytes:
            deadline = monotonic() + timeout_s
            line = bytearray()
            sock = self._ready()
            while not line.endswith(b"\n"):
                try:
                    got = sock.recv(1)
                except _WAIT:
                    self._wait(select.POLLIN, deadline)
                    continue
                if not got:
                    raise ConnectionResetError(_CLOSED)
                line += got
                if len(line) > limit:
                    break
            return bytes(line)

        line = self._do(doing, timeout_s, transfer)
        if not line.endswith(b"\n"):
            raise self.problem(NfcProtocol, doing, f"a line longer than {limit} bytes")
        return line.decode("ascii", "replace").rstrip("\r\n")

    def close(self) -> None:
        with suppress(OSError):
            self._sock.close()

    # -- failures ---------------------------------------------------------------------------

    def problem(self, kind: type[HostConnection], doing: str, reason: str) -> HostConnection:
        """Makes an error about this connection."""
        return kind(host=self.host, path=self.path, doing=doing, reason=reason)

    def _do(self, doing: str, timeout_s: float, transfer: Callable[[], T]) -> T:
        try:
            return transfer()
        except TimeoutError as error:
            reason = f"no end within {timeout_s:g} s"
            raise self.problem(HostTimeout, doing, reason) from error
        except ssl.SSLEOFError as error:
            raise self.problem(HostConnection, doing, _CLOSED) from error
        except ssl.SSLError as error:
            kind = HostTlsTooOld if error.reason in _TOO_OLD else HostConnection
            raise self.problem(kind, doing, str(error)) from error
        except OSError as error:
            reason = str(error) or type(error).__name__
            raise self.problem(HostConnection, doing, reason) from error
