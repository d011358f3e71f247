"""Login to the host: what is said, what is checked, and what goes wrong."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from vreplica import disk_errors
from vreplica.disk import MemoryDisk
from vreplica.lab.certificate import ServerCertificate
from vreplica.lab.nfc import TicketBook
from vreplica.lab.nfc.authd import GREETING
from vreplica.lab.nfc.standalone import StandaloneHost
from vreplica.nfc import authd, errors
from vreplica.nfc.authd import NfcTicket, probe
from vreplica.nfc.channel import HostChannel
from vreplica.nfc.config import NfcMode
from vreplica.nfc.open import open_nfc_disk

PATH = "[ds1] a/a.vmdk"
SCRIPT_S = 10.0


@pytest.fixture
def host(tmp_path: Path) -> Iterator[StandaloneHost]:
    with StandaloneHost(tmp_path) as solo:
        solo.store.disks[PATH] = MemoryDisk(1 << 20)
        yield solo


class Scripted:
    """A host that does what a function says with its one connection."""

    def __init__(self, script: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(script,))
        self._thread.start()

    def _run(self, script: Callable[[socket.socket], None]) -> None:
        client, _ = self._listener.accept()
        client.settimeout(SCRIPT_S)
        try:
            script(client)
        except OSError:
            pass
        finally:
            client.close()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join()


def ticket_to(host: StandaloneHost, port: int) -> NfcTicket:
    return replace(host.ticket(read_only=True), port=port)


# -- probe ------------------------------------------------------------------------------------


def test_probe_tells_what_authd_says(host: StandaloneHost) -> None:
    assert probe("127.0.0.1", host.server.port) == GREETING


def test_probe_of_a_closed_port_is_a_connection_error_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(disk_errors.HostConnection) as caught:
        probe("127.0.0.1", port, timeout_s=2)
    assert str(port) in str(caught.value)
    assert "902" in caught.value.remedy


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", errors.NfcProtocol),
        (b"x" * 100_000, errors.NfcProtocol),
        (b"", disk_errors.HostConnection),
    ],
)
def test_probe_of_something_else(says: bytes, kind: type[disk_errors.HostConnection]) -> None:
    with Scripted(lambda client: client.sendall(says)) as other, pytest.raises(kind):
        probe("127.0.0.1", other.port, timeout_s=2)


@pytest.mark.parametrize("drip", [b"", b"2"])
def test_a_silent_or_dripping_greeter_is_given_up_in_time(drip: bytes) -> None:
    done = threading.Event()

    def script(client: socket.socket) -> None:
        while not done.wait(0.1):
            client.sendall(drip)

    with Scripted(script) as other:
        start = monotonic()
        with pytest.raises(errors.HostTimeout):
            probe("127.0.0.1", other.port, timeout_s=0.4)
        assert monotonic() - start < 2
        done.set()


def test_a_host_that_resets_before_the_handshake_is_a_connection_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        channel = HostChannel.connect("127.0.0.1", port, path="p", timeout_s=5)
        peer, _ = listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    with suppress(disk_errors.HostConnection):
        while True:
            channel.send([b"x"], 5, "waiting for the reset")
    with pytest.raises(disk_errors.HostConnection, match="TLS handshake"):
        channel.start_tls(5)
    channel.close()


# -- certificates -----------------------------------------------------------------------------


def test_a_certificate_that_the_ticket_does_not_name_is_refused(host: StandaloneHost) -> None:
    good = host.ticket(read_only=True)
    other = replace(good, thumbprint_sha1="AA:" * 19 + "AA")
    with pytest.raises(errors.HostCertificateMismatch) as caught:
        authd.connect(other, host.config(), path=PATH)
    assert "AA:AA" in str(caught.value)
    assert host.server.certificate.thumbprints.sha1 in str(caught.value)
    # The ticket was not shown to whoever that was: it is still good.
    authd.connect(good, host.config(), path=PATH).close()


def test_a_pinned_certificate_is_checked_as_well(host: StandaloneHost) -> None:
    sha256 = host.server.certificate.thumbprints.sha256
    pinned = host.config(pinned_sha256={"127.0.0.1": sha256.replace(":", "").lower()})
    authd.connect(host.ticket(read_only=True), pinned, path=PATH).close()
    other = host.config(pinned_sha256={"127.0.0.1": "00" * 32})
    with pytest.raises(errors.HostCertificateMismatch) as caught:
        authd.connect(host.ticket(read_only=True), other, path=PATH)
    assert "pinned" in str(caught.value)


def test_a_pin_holds_however_its_host_is_spelled(host: StandaloneHost) -> None:
    ticket = replace(host.ticket(read_only=True), host="localhost")
    other = host.config(pinned_sha256={"LocalHost": "00" * 32})
    with pytest.raises(errors.HostCertificateMismatch, match="pinned"):
        authd.connect(ticket, other, path=PATH)


def test_a_ticket_without_thumbprint_needs_a_pinned_certificate(host: StandaloneHost) -> None:
    bare = replace(host.ticket(read_only=True), thumbprint_sha1="")
    with pytest.raises(errors.HostCertificateMismatch):
        authd.connect(bare, host.config(), path=PATH)
    sha256 = host.server.certificate.thumbprints.sha256
    pinned = host.config(pinned_sha256={"127.0.0.1": sha256})
    authd.connect(bare, pinned, path=PATH).close()


@pytest.mark.parametrize("announce_it", [True, False])
def test_the_second_tls_shows_a_certificate_that_the_first_vouches_for(
    host: StandaloneHost, tmp_path: Path, announce_it: bool
) -> None:
    first = host.server.certificate
    second = ServerCertificate.create(tmp_path / "second.pem", "esx01.lab")
    announced = (second if announce_it else first).thumbprints.sha256

    def script(client: socket.socket) -> None:
        client.sendall(f"{GREETING}\r\n".encode())
        tls = first.tls_context().wrap_socket(client, server_side=True)
        lines = tls.makefile("rb")
        lines.readline(), lines.readline()
        tls.sendall(f"{GREETING}\r\n".encode())
        lines.readline()
        tls.sendall(f"200 {announced}\r\n".encode())
        lines.readline()
        tls.sendall(b"200 Connect ha-nfcssl\r\n")
        plain = socket.socket(fileno=tls.detach())
        plain.settimeout(SCRIPT_S)
        with second.tls_context().wrap_socket(plain, server_side=True) as again:
            again.recv(1)

    with Scripted(script) as other:
        ticket = ticket_to(host, other.port)
        if announce_it:
            authd.connect(ticket, host.config(), path=PATH).close()
        else:
            with pytest.raises(errors.HostCertificateMismatch):
                authd.connect(ticket, host.config(), path=PATH)


# -- tickets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["nbd", "nbdssl"])
def test_a_ticket_is_good_once(host: StandaloneHost, mode: NfcMode) -> None:
    ticket = host.ticket(read_only=True)
    config = host.config(mode=mode)
    authd.connect(ticket, config, path=PATH).close()
    with pytest.raises(disk_errors.AuthenticationFailed) as caught:
        authd.connect(ticket, config, path=PATH)
    assert ticket.session_id not in str(caught.value)
    assert ticket.session_id not in repr(ticket)


def test_an_expired_ticket_is_replaced_by_a_new_one(host: StandaloneHost) -> None:
    host.server.tickets.lifetime_s = -1
    stale = host.ticket(read_only=True)
    host.server.tickets.lifetime_s = 60
    fresh = host.ticket
    given = []

    class FirstStale(StandaloneHost):
        def ticket(self, *, read_only: bool) -> NfcTicket:
            given.append(1)
            return stale if len(given) == 1 else fresh(read_only=read_only)

    host.__class__ = FirstStale
    open_nfc_disk(host, path=PATH, config=host.config()).close()
    assert len(given) == 2


def test_a_host_that_refuses_every_ticket_is_an_authentication_error(host: StandaloneHost) -> None:
    host.server.tickets = TicketBook(lifetime_s=-1)
    with pytest.raises(disk_errors.AuthenticationFailed) as caught:
        open_nfc_disk(host, path=PATH, config=host.config())
    assert "530" in str(caught.value)


@pytest.mark.parametrize("word", ["a b\r\nUSER root", "\u00e9"])
def test_a_ticket_that_would_smuggle_a_command_is_not_sent(host: StandaloneHost, word: str) -> None:
    smuggler = replace(host.ticket(read_only=True), session_id=word)
    with pytest.raises(errors.NfcProtocol):
        authd.connect(smuggler, host.config(), path=PATH)


def test_the_host_cuts_off_who_speaks_before_tls(host: StandaloneHost) -> None:
    with socket.create_connection(("127.0.0.1", host.server.port), 5) as raw:
        raw.recv(1024)
        raw.sendall(b"SESSION 1\r\n")
        # At most a TLS alert comes before the end.
        with suppress(ConnectionResetError):
            while data := raw.recv(1024):
                assert data[0] == 0x15


def test_authd_refuses_passwords_and_unknown_commands(host: StandaloneHost) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", host.server.port), 5) as raw:
        raw.recv(1024)
        with context.wrap_socket(raw) as tls:
            for line, reply in (
                (b"USER root", b"530 Login incorrect\r\n"),
                (b"CONNECT_VPXA 1", b"530 Please login with USER and PASS.\r\n"),
                (b"THUMBPRINT_SHA2 AA:BB", b"501 Invalid arguments\r\n"),
                (b"PROXY vpxa-nfc", b"530 Please login with USER and PASS.\r\n"),
            ):
                tls.sendall(line + b"\r\n")
                assert tls.recv(1024) == reply
