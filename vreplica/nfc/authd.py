"""Opens an NFC channel with a ticket, through the host's authentication daemon on port 902.

    host                                client
    220 VMware Authentication ...  -->
                                   <->  TLS handshake, certificate checked
                                   <--  SESSION <ticket>            (no reply)
                                   <--  BANNER
    220 VMware Authentication ...  -->
                                   <--  THUMBPRINT_SHA2 PlainText   (*)
    200 <SHA-256>                  -->
                                   <--  PROXY vpxa-nfc | vpxa-nfcssl
    200 Connect ha-nfc[ssl]        -->
         both sides abandon TLS; nbdssl makes a second TLS handshake on the same connection

(*) Only where the banner says "SHA256 supported". ESXi 6.5 to 7 do not, and answer it 530; there
the second certificate must be the first one.

Source: protocol notes and code of cloudbase/OpenVixDiskLib and hystax/OpenVixDiskLib.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from vreplica.disk_errors import AuthenticationFailed
from vreplica.nfc import wire
from vreplica.nfc.channel import HostChannel, Thumbprints, same_thumbprint
from vreplica.nfc.config import NfcConfig, NfcMode
from vreplica.nfc.errors import HostCertificateMismatch, NfcProtocol

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NfcTicket:
    """Permission to open disks of one VM, once, at one host.

    thumbprint_sha1: empty where the ticket names none. certificate_sha256: of the certificate that
    the ticket holds, from API 9.0 on. What there is of them is checked, and a pinned SHA-256.
    """

    host: str
    port: int
    service: str
    thumbprint_sha1: str
    session_id: str = field(repr=False)
    certificate_sha256: str = ""


def probe(host: str, port: int = wire.AUTHD_PORT, *, timeout_s: float = 5.0) -> str:
    """Connects to authd and returns its greeting, without logging in.

    Raises HostConnection (refused, no route), HostTimeout (a firewall drops packets) or
    NfcProtocol (another program listens there).
    """
    channel = HostChannel.connect(host, port, path=f"port {port}", timeout_s=timeout_s)
    try:
        return _greeting(channel, timeout_s)
    finally:
        channel.close()


def connect(ticket: NfcTicket, config: NfcConfig, *, path: str) -> HostChannel:
    """Returns a channel on which the NFC handshake can start.

    Raises HostConnection and its subclasses, HostCertificateMismatch, AuthenticationFailed.
    """
    limits = config.timeouts
    channel = HostChannel.connect(ticket.host, ticket.port, path=path, timeout_s=limits.connect_s)
    try:
        _greeting(channel, limits.handshake_s)
        legacy = ticket.host.lower() in {name.lower() for name in config.legacy_tls}
        found = channel.start_tls(limits.handshake_s, legacy=legacy)
        _check_certificate(channel, found, ticket, config)
        announced = _log_in(channel, ticket, config.mode, limits.handshake_s)
        channel.abandon_tls()
        if config.mode == "nbdssl":
            again = channel.start_tls(limits.handshake_s, legacy=legacy)
            if again != found and not same_thumbprint(again.sha256, announced):
                # The announced thumbprint came over the checked connection, so it counts too.
                raise _mismatch(channel, "first certificate", found.sha256, again.sha256)
    except BaseException:
        channel.close()
        raise
    return channel


def _greeting(channel: HostChannel, timeout_s: float) -> str:
    line = channel.receive_line(wire.AUTHD_LINE_MAX, timeout_s, "greeting")
    if not line.startswith(wire.AUTHD_GREETING):
        reason = f"this is not VMware's authentication daemon: {line[:80]!r}"
        raise channel.problem(NfcProtocol, "greeting", reason)
    return line


def _check_certificate(
    channel: HostChannel, found: Thumbprints, ticket: NfcTicket, config: NfcConfig
) -> None:
    pins = {name.lower(): pin for name, pin in config.pinned_sha256.items()}
    pinned = pins.get(ticket.host.lower())
    if pinned and not same_thumbprint(found.sha256, pinned):
        raise _mismatch(channel, "pinned one", pinned, found.sha256)
    holds = ticket.certificate_sha256
    if holds and not same_thumbprint(found.sha256, holds):
        raise _mismatch(channel, "one that the ticket holds", holds, found.sha256)
    if ticket.thumbprint_sha1 and not same_thumbprint(found.sha1, ticket.thumbprint_sha1):
        by = "one that the ticket names"
        raise _mismatch(channel, by, ticket.thumbprint_sha1, found.sha1)
    if not (pinned or holds or ticket.thumbprint_sha1):
        raise _mismatch(channel, "one that the ticket names", "(the ticket has none)", found.sha1)


def _mismatch(channel: HostChannel, by: str, expected: str, found: str) -> HostCertificateMismatch:
    return HostCertificateMismatch(
        host=channel.host,
        path=channel.path,
        doing="checking the certificate",
        reason="another certificate",
        expected=expected,
        found=found,
        pinned_by=by,
    )


def _log_in(channel: HostChannel, ticket: NfcTicket, mode: NfcMode, timeout_s: float) -> str:
    """Presents the ticket, asks for the NFC service, returns the SHA-256 that authd announces.

    Empty: it announces none.
    """

    def say(line: str) -> None:
        channel.send([f"{line}\r\n".encode("ascii")], timeout_s, "login to authd")

    def ask(line: str, expected: str) -> str:
        say(line)
        reply = channel.receive_line(wire.AUTHD_LINE_MAX, timeout_s, f"authd {line.split()[0]}")
        if not reply.startswith(expected):
            raise AuthenticationFailed(
                host=channel.host,
                path=channel.path,
                doing=f"authd {line.split()[0]}",
                reason=f"{reply[:120]!r}; the ticket may be spent or too old",
            )
        return reply.removeprefix(expected).strip()

    if not all(
        word.isascii() and word.isprintable() for word in (ticket.session_id, ticket.service)
    ):
        raise channel.problem(NfcProtocol, "login to authd", "the ticket is not plain text")
    service = ticket.service
    if mode == "nbdssl":
        service += wire.SSL_SERVICE_SUFFIX
    say(f"SESSION {ticket.session_id}")
    # The banner comes through the checked TLS, which the first greeting does not.
    announced = ""
    if wire.SHA256_SUPPORTED in ask(wire.BANNER, wire.AUTHD_GREETING):
        announced = ask(wire.THUMBPRINT, wire.AUTHD_OK)
    endpoint = ask(f"PROXY {service}", wire.AUTHD_OK)
    log.debug("%s: %s as %s", channel.host, endpoint, mode)
    return announced
