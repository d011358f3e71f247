"""Certificates pinned against real TLS servers on 127.0.0.2.

Not on 127.0.0.1: there pyVmomi silently stops verifying, and a test would prove nothing.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from vreplica.vsphere.connection.certificate import (
    PinnedConnection,
    fetch_certificate,
    normal_sha256,
    pinned_context,
    probe_certificate,
)
from vreplica.vsphere.errors import (
    CertificateChanged,
    CertificateUnusable,
    HostUnreachable,
    NotVSphere,
    ThumbprintInvalid,
)
from vreplica.vsphere.model import Endpoint
from vreplica.vsphere.session import connect

HOST = "127.0.0.2"


class Certificate:
    """A certificate with its key: self-signed, or signed by `issuer`."""

    def __init__(
        self,
        name: str,
        folder: Path,
        issuer: Certificate | None = None,
        *,
        ca: bool = False,
        expired: bool = False,
        weak: bool = False,
    ) -> None:
        self.key: Any = (
            rsa.generate_private_key(65537, 1024)
            if weak
            else ec.generate_private_key(ec.SECP256R1())
        )
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        start, end = now - timedelta(days=30), now + timedelta(days=-1 if expired else 30)
        signer = issuer or self
        self.x509 = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(signer.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(signer.key, hashes.SHA256())
        )
        self.der = self.x509.public_bytes(serialization.Encoding.DER)
        self.sha256 = hashlib.sha256(self.der).hexdigest()
        self.file = folder / f"{name}-{self.x509.serial_number}.pem"
        self.file.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + self.x509.public_bytes(serialization.Encoding.PEM)
        )


class Server:
    """A TLS server that keeps what it is told and answers every request with a 404.

    `certificate` may be exchanged at any time; the next connection gets the new one.
    """

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate
        self.received: list[bytes] = []
        self.handshakes = 0
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="tls-server")
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with plain, contextlib.suppress(OSError):
                plain.settimeout(5)
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.set_ciphers("DEFAULT:@SECLEVEL=0")
                context.load_cert_chain(self.certificate.file)
                with context.wrap_socket(plain, server_side=True) as secure:
                    self.handshakes += 1
                    data = secure.recv(65536)
                    if data:
                        self.received.append(data)
                        secure.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def good(tmp_path: Path) -> Certificate:
    return Certificate("vcenter", tmp_path)


@pytest.fixture
def server(good: Certificate) -> Iterator[Server]:
    server = Server(good)
    yield server
    server.stop()


def endpoint(server: Server, sha256: str) -> Endpoint:
    return Endpoint(HOST, "user@lab", "the-password", sha256, server.port)


def pinned(server: Server, certificate: Certificate) -> PinnedConnection:
    connection = PinnedConnection(
        HOST, server.port, timeout=5, context=pinned_context(certificate.der)
    )
    connection.pin = certificate.sha256
    return connection


def test_probe_shows_both_thumbprints(server: Server, good: Certificate) -> None:
    sha256, sha1 = probe_certificate(HOST, server.port)
    assert sha256.replace(":", "").lower() == good.sha256
    assert sha1 == hashlib.sha1(good.der).digest().hex(":").upper()
    assert server.received == []


@pytest.mark.parametrize("form", [str.upper, str.lower, lambda t: bytes.fromhex(t).hex(":")])
def test_the_right_pin_is_accepted_in_any_form(server: Server, good: Certificate, form) -> None:
    with pytest.raises(NotVSphere, match="404"):
        connect(endpoint(server, form(good.sha256)), timeout_s=5)
    assert b"GET /sdk/vimServiceVersions.xml" in server.received[0]


def test_a_wrong_pin_is_refused_before_anything_is_sent(server: Server, good: Certificate) -> None:
    with pytest.raises(CertificateChanged) as caught:
        connect(endpoint(server, "ab" * 32), timeout_s=5)
    assert caught.value.expected == ":".join(["AB"] * 32)
    assert caught.value.found.replace(":", "").lower() == good.sha256
    assert caught.value.expected in str(caught.value)
    assert caught.value.found in str(caught.value)
    assert server.received == []


def test_a_certificate_renewed_since_pinning_is_refused(
    server: Server, good: Certificate, tmp_path: Path
) -> None:
    server.certificate = Certificate("vcenter", tmp_path)
    with pytest.raises(CertificateChanged):
        connect(endpoint(server, good.sha256), timeout_s=5)
    assert server.received == []


def test_a_certificate_swapped_after_the_first_connection_is_refused(
    server: Server, good: Certificate, tmp_path: Path
) -> None:
    first = pinned(server, good)
    first.request("GET", "/")
    assert first.getresponse().status == 404
    first.close()
    other = Certificate("vcenter", tmp_path)
    server.certificate = other
    for _ in range(3):
        again = PinnedConnection(HOST, server.port, timeout=5, context=first._context)
        again.pin = good.sha256
        with pytest.raises(CertificateChanged) as caught:
            again.request("GET", "/")
        assert caught.value.found.replace(":", "").lower() == other.sha256
    assert len(server.received) == 1


def test_a_certificate_signed_by_the_pinned_one_is_refused(tmp_path: Path) -> None:
    authority = Certificate("authority", tmp_path, ca=True)
    child = Certificate("vcenter", tmp_path, issuer=authority)
    server = Server(child)
    try:
        with pytest.raises(CertificateChanged):
            pinned(server, authority).request("GET", "/")
    finally:
        server.stop()
    assert server.received == []


def test_a_leaf_signed_by_an_unknown_authority_is_accepted_when_pinned(tmp_path: Path) -> None:
    authority = Certificate("authority", tmp_path, ca=True)
    leaf = Certificate("vcenter", tmp_path, issuer=authority)
    server = Server(leaf)
    try:
        with pytest.raises(NotVSphere):
            connect(endpoint(server, leaf.sha256), timeout_s=5)
    finally:
        server.stop()


def test_an_expired_certificate_is_accepted_when_it_is_the_pinned_one(tmp_path: Path) -> None:
    server = Server(Certificate("vcenter", tmp_path, expired=True))
    try:
        with pytest.raises(NotVSphere):
            connect(endpoint(server, server.certificate.sha256), timeout_s=5)
    finally:
        server.stop()


def test_a_key_that_openssl_calls_too_weak_is_named_so(tmp_path: Path) -> None:
    server = Server(Certificate("vcenter", tmp_path, weak=True))
    try:
        with pytest.raises(CertificateUnusable, match=r"is the pinned one.*too weak"):
            connect(endpoint(server, server.certificate.sha256), timeout_s=5)
    finally:
        server.stop()
    assert server.received == []


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "ab" * 20, "ab" * 31 + "zz", "AB:" * 20],
    ids=["empty", "words", "sha1", "not hex", "sha1 colons"],
)
def test_what_is_no_sha256_is_refused_as_configuration(text: str) -> None:
    with pytest.raises(ThumbprintInvalid):
        normal_sha256(text)


def test_a_port_that_nobody_listens_on_is_unreachable() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(HostUnreachable, match="connection refused"):
        fetch_certificate(HOST, port, timeout_s=2)


@pytest.mark.parametrize("name", ["vcenter..example", "v" * 64 + ".example"])
def test_what_cannot_be_a_host_name_is_unreachable(name: str) -> None:
    with pytest.raises(HostUnreachable, match="this is not a host name"):
        fetch_certificate(name, 443)


def test_a_server_that_never_answers_is_unreachable_in_time() -> None:
    with (
        socket.create_server((HOST, 0)) as listener,
        pytest.raises(HostUnreachable, match=r"no answer within 0\.3 s"),
    ):
        fetch_certificate(HOST, listener.getsockname()[1], timeout_s=0.3)


def gone(*, says_goodbye: bool) -> socket.socket:
    """Connected to a peer that has reset the connection since, as a server that restarts does."""
    with socket.create_server((HOST, 0)) as listener:
        mine = socket.socket()
        mine.settimeout(5)
        mine.connect(listener.getsockname())
        peer, _ = listener.accept()
        if says_goodbye:
            peer.shutdown(socket.SHUT_WR)
            assert mine.recv(1) == b""
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    poll = select.poll()
    poll.register(mine.fileno(), 0)
    assert poll.poll(5000), "the reset has come"
    return mine


@pytest.mark.parametrize("says_goodbye", [False, True])
def test_a_server_that_is_gone_before_the_handshake_is_unreachable_and_nothing_stays_open(
    monkeypatch: pytest.MonkeyPatch, good: Certificate, says_goodbye: bool
) -> None:
    monkeypatch.setattr(
        socket, "create_connection", lambda *_, **__: gone(says_goodbye=says_goodbye)
    )
    with pytest.raises(HostUnreachable):
        fetch_certificate(HOST, 443)
    connection = PinnedConnection(HOST, 443, context=pinned_context(good.der))
    with pytest.raises(OSError, match=r"reset|not connected"):
        connection.connect()
    assert connection.sock is None or connection.sock.fileno() < 0
    gc.collect()


def test_a_server_without_tls_is_named_so() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]

        def greet() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(100)
                peer.sendall(b"220 this is a mail server\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(HostUnreachable, match="TLS failed"):
            fetch_certificate(HOST, port, timeout_s=2)
        thread.join()


def test_the_password_is_in_no_text(server: Server, good: Certificate) -> None:
    point = endpoint(server, "ab" * 32)
    assert "the-password" not in repr(point)
    with pytest.raises(CertificateChanged) as caught:
        connect(point, timeout_s=5)
    assert "the-password" not in str(caught.value) + repr(caught.value) + str(
        caught.value.to_dict()
    )
