"""The authentication daemon of a host: greeting, TLS, a few commands, then the NFC service.

Replies are those of ESXi 8 as others recorded them (protocol notes of cloudbase/OpenVixDiskLib
and hystax/OpenVixDiskLib). Hosts before it do not announce SHA256, and do not know the command
for it. A used, expired or unknown ticket is refused at PROXY, since SESSION has no reply.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

from vreplica.lab.nfc.connection import ClientConnection
from vreplica.lab.nfc.profile import HostProfile
from vreplica.lab.nfc.tickets import Grant, TicketBook
from vreplica.nfc import wire

GREETING_BEFORE_8: Final = (
    "220 VMware Authentication Daemon Version 1.10: SSL Required, ServerDaemonProtocol:SOAP, "
    "MKSDisplayProtocol:VNC , VMXARGS supported, NFCSSL supported/t"
)
GREETING: Final = f"{GREETING_BEFORE_8}, SHA256 supported"
NO_LOGIN: Final = "530 Please login with USER and PASS."
HANDSHAKE_S: Final = 30.0
COMMANDS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Login:
    """A client whose ticket was accepted; `ssl`: the NFC session stays in TLS."""

    grant: Grant
    ssl: bool


def log_in(
    client: ClientConnection,
    context: ssl.SSLContext,
    tickets: TicketBook,
    *,
    sha256: str,
    profile: HostProfile,
) -> Login | None:
    """Serves the login of a client. Returns None where it is refused.

    `profile.service` is the service in the host's tickets: vpxa-nfc under vCenter, nfc on a host
    alone.
    """
    service = profile.service
    greeting = GREETING if profile.sha256_announced else GREETING_BEFORE_8
    client.send(f"{greeting}\r\n".encode())
    # A client that sends anything before TLS fails here: its bytes are not a ClientHello.
    client.start_tls(context, HANDSHAKE_S)
    session_id = ""
    for _ in range(COMMANDS_MAX):
        command, _, argument = client.receive_line(wire.AUTHD_LINE_MAX).partition(" ")
        if command == "SESSION":
            session_id = argument.strip()
        elif command == "BANNER":
            client.send(f"{greeting}\r\n".encode())
        elif command == "THUMBPRINT_SHA2" and profile.sha256_announced:
            good = argument == wire.PLAIN_TEXT.decode()
            client.send(f"200 {sha256}\r\n".encode() if good else b"501 Invalid arguments\r\n")
        elif command == "PROXY":
            secure = argument == service + wire.SSL_SERVICE_SUFFIX
            grant = tickets.redeem(session_id) if secure or argument == service else None
            if grant is None:
                client.send(f"{NO_LOGIN}\r\n".encode())
                return None
            client.send(f"200 Connect ha-nfc{'ssl' if secure else ''}\r\n".encode())
            client.abandon_tls()
            if secure:
                client.start_tls(context, HANDSHAKE_S)
            return Login(grant, secure)
        elif command in ("USER", "PASS", "XPAS"):
            client.send(b"530 Login incorrect\r\n")
        else:
            client.send(f"{NO_LOGIN}\r\n".encode())
    return None
