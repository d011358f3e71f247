"""The host's authentication daemon: greeting, TLS, a few commands, then the NFC service.

Replies are those of ESXi 8 as others recorded them (protocol notes of cloudbase/OpenVixDiskLib
and hystax/OpenVixDiskLib). A ticket that is spent, expired or unknown shows only at PROXY, since
SESSION has no reply of its own.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

from vreplica.lab.nfc.tickets import Grant, TicketBook
from vreplica.lab.nfc.wirepeer import Peer
from vreplica.nfc import wire

GREETING: Final = (
    "220 VMware Authentication Daemon Version 1.10: SSL Required, ServerDaemonProtocol:SOAP, "
    "MKSDisplayProtocol:VNC , VMXARGS supported, NFCSSL supported/t, SHA256 supported"
)
NO_LOGIN: Final = "530 Please login with USER and PASS."
HANDSHAKE_S: Final = 30.0
COMMANDS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Login:
    grant: Grant
    ssl: bool


def log_in(
    peer: Peer, context: ssl.SSLContext, tickets: TicketBook, *, sha256: str, service: str
) -> Login | None:
    """Serve the login; the peer is ready for NFC when this returns a Login, else it is refused.

    `service` is what tickets of this host name: vpxa-nfc under vCenter, nfc on a bare host.
    """
    peer.send(f"{GREETING}\r\n".encode())
    # A client that speaks before TLS is cut off: its bytes are no ClientHello.
    peer.start_tls(context, HANDSHAKE_S)
    session_id = ""
    for _ in range(COMMANDS_MAX):
        command, _, argument = peer.receive_line(wire.AUTHD_LINE_MAX).partition(" ")
        if command == "SESSION":
            session_id = argument.strip()
        elif command == "BANNER":
            peer.send(f"{GREETING}\r\n".encode())
        elif command == "THUMBPRINT_SHA2":
            good = argument == wire.PLAIN_TEXT.decode()
            peer.send(f"200 {sha256}\r\n".encode() if good else b"501 Invalid arguments\r\n")
        elif command == "PROXY":
            secure = argument == service + wire.SSL_SERVICE_SUFFIX
            grant = tickets.redeem(session_id) if secure or argument == service else None
            if grant is None:
                peer.send(f"{NO_LOGIN}\r\n".encode())
                return None
            peer.send(f"200 Connect ha-nfc{'ssl' if secure else ''}\r\n".encode())
            peer.abandon_tls()
            if secure:
                peer.start_tls(context, HANDSHAKE_S)
            return Login(grant, secure)
        elif command in ("USER", "PASS", "XPAS"):
            peer.send(b"530 Login incorrect\r\n")
        else:
            peer.send(f"{NO_LOGIN}\r\n".encode())
    return None
