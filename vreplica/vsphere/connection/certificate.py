"""Fetches certificates, compares them with a pin, and makes TLS contexts that accept only them.

    fetch_certificate ──► SHA-256 == pin ? ──no──► CertificateChanged, nothing was sent
                               │ yes
                               ▼
               pinned_context(that certificate) ──► every connection of the session

pyVmomi's own `thumbprint=` is never used: on localhost it is ignored, and with an own context it
switches verification off after the first success (observed with pyVmomi 9.1.1). Instead the
pinned certificate is the only trusted root of the context (VERIFY_X509_PARTIAL_CHAIN lets a leaf
be a root). So OpenSSL itself refuses any other, on the first connection and on every later one.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from contextlib import closing
from http.client import HTTPResponse, HTTPSConnection
from typing import Any, Final

from vreplica.limited_http import LimitedResponse
from vreplica.vsphere.errors import (
    CertificateChanged,
    CertificateUnusable,
    HostUnreachable,
    ThumbprintInvalid,
)

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (OpenSSL x509_vfy.h). A pin trusts this very certificate; one that
expired last night must not prevent a failover."""


def colons(digest: bytes) -> str:
    """Writes a digest as vSphere and VDDK write thumbprints: `b"\\xab\\x01"` -> `AB:01`."""
    return digest.hex(":").upper()


def normal_sha256(text: str) -> str:
    """Writes a SHA-256 thumbprint, in any case and with or without colons, as `AA:BB:...`.

    Raises ThumbprintInvalid.
    """
    digits = re.sub(r"[:\s-]", "", text).removeprefix("sha256").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ThumbprintInvalid(text)
    return colons(bytes.fromhex(digits))


def sha256_of(der: bytes) -> str:
    """Returns the SHA-256 thumbprint of a certificate, the one that is pinned."""
    return colons(hashlib.sha256(der).digest())


def sha1_of(der: bytes) -> str:
    """Returns the SHA-1 thumbprint, by which VDDK names servers. The pin is SHA-256."""
    return colons(hashlib.sha1(der, usedforsecurity=False).digest())


def fetch_certificate(host: str, port: int = 443, *, timeout_s: float = 30) -> bytes:
    """Returns the certificate that a server shows, as DER. Nothing is sent to the server.

    Raises HostUnreachable, also where the server does not speak TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            closing(socket.create_connection((host, port), timeout=timeout_s)) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            der = secure.getpeercert(binary_form=True)
    except (OSError, UnicodeError) as error:
        raise HostUnreachable(host, port, reason_of(error, timeout_s)) from error
    if not der:
        raise HostUnreachable(host, port, "it shows no certificate")
    return der


def probe_certificate(host: str, port: int = 443) -> tuple[str, str]:
    """Returns the (SHA-256, SHA-1) thumbprints of a server's certificate, for the first set-up."""
    der = fetch_certificate(host, port)
    return sha256_of(der), sha1_of(der)


def require_pin(host: str, der: bytes, pin: str) -> None:
    """Raises CertificateChanged unless `der` is the certificate with SHA-256 `pin`."""
    expected, found = normal_sha256(pin), sha256_of(der)
    if expected != found:
        raise CertificateChanged(host, expected, found)


def pinned_context(der: bytes) -> ssl.SSLContext:
    """Makes a client context that accepts this one certificate and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The pin proves more than a name: VMware's certificates often lack the name that is used.
    context.check_hostname = False
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(der))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags |= NO_CHECK_TIME
    return context


def reason_of(error: BaseException, timeout_s: float) -> str:
    """Says a connection error in a few words, without errno numbers."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, socket.gaierror):
        return "the name is not known (DNS)"
    if isinstance(error, UnicodeError):
        return "this is not a host name"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


class PinnedConnection(HTTPSConnection):
    """An HTTPS connection that accepts only the pinned peer, and limits its answers.

    A subclass that is made for one session sets `pin` and `reply_timeout_s`: pyVmomi makes its
    connections itself, and passes on only host, port, timeout and context.
    """

    pin: str = ""
    reply_timeout_s: float = 300.0

    def connect(self) -> None:
        """Connects within `timeout`; afterwards a whole answer may take `reply_timeout_s`."""
        try:
            super().connect()
        except ssl.SSLCertVerificationError as error:
            shown = fetch_certificate(self.host, self.port, timeout_s=self.timeout or 30)
            require_pin(self.host, shown, self.pin)
            # The pin fits, so OpenSSL's security level refuses it: the key is too short, say.
            raise CertificateUnusable(self.host, error.verify_message) from error
        # The chain was verified; a certificate issued *by* the pinned one would pass that too.
        try:
            require_pin(self.host, self.sock.getpeercert(True) or b"", self.pin)
        except (CertificateChanged, OSError):
            # OSError: the peer left before the handshake, and wrap_socket did not notice.
            self.close()
            raise
        self.sock.settimeout(self.reply_timeout_s)

    def response_class(self, *args: Any, **more: Any) -> HTTPResponse:  # type: ignore[override]
        """Makes the answer: limited in time and in size."""
        return LimitedResponse(*args, timeout_s=self.reply_timeout_s, **more)
