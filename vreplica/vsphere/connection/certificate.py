"""Certificates: looked at, compared, pinned.

    fetch_certificate ──► SHA-256 == pin ? ──no──► CertificateChanged, nothing was sent
                               │ yes
                               ▼
               pinned_context(that certificate) ──► every connection of the session

pyVmomi's own `thumbprint=` is never used: on localhost it is ignored, with an own context it
switches verification off after the first success (observed with pyVmomi 9.1.1). Instead the one
certificate is the only trusted root of the context (VERIFY_X509_PARTIAL_CHAIN lets a leaf be
one), so OpenSSL itself refuses any other, on the first connection and on every later one.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from contextlib import closing
from http.client import HTTPSConnection
from typing import Final

from vreplica.vsphere.errors import (
    CertificateChanged,
    CertificateUnusable,
    HostUnreachable,
    ThumbprintInvalid,
)

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (OpenSSL x509_vfy.h). Who pins a certificate trusts this very one;
that it ran out last night must not keep anybody from failing over."""


def colons(digest: bytes) -> str:
    """`b"\\xab\\x01"` -> `AB:01`, as vSphere and VDDK write thumbprints."""
    return digest.hex(":").upper()


def normal_sha256(text: str) -> str:
    """A SHA-256 thumbprint in any case, with or without colons, as `AA:BB:...`."""
    digits = re.sub(r"[:\s-]", "", text).removeprefix("sha256").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ThumbprintInvalid(text)
    return colons(bytes.fromhex(digits))


def sha256_of(der: bytes) -> str:
    return colons(hashlib.sha256(der).digest())


def sha1_of(der: bytes) -> str:
    """VDDK identifies servers by SHA-1; it is an identifier here, the pin is SHA-256."""
    return colons(hashlib.sha1(der, usedforsecurity=False).digest())


def fetch_certificate(host: str, port: int = 443, *, timeout_s: float = 30) -> bytes:
    """The DER form of the certificate a server shows. Nothing is sent to it.

    Raises HostUnreachable, also where something else than TLS answers.
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
    """(SHA-256, SHA-1) thumbprints of a server's certificate, for the first set-up."""
    der = fetch_certificate(host, port)
    return sha256_of(der), sha1_of(der)


def require_pin(host: str, der: bytes, pin: str) -> None:
    """Raise CertificateChanged unless `der` is the certificate with SHA-256 `pin`."""
    expected, found = normal_sha256(pin), sha256_of(der)
    if expected != found:
        raise CertificateChanged(host, expected, found)


def pinned_context(der: bytes) -> ssl.SSLContext:
    """A client context that accepts this one certificate and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The pin says more than a name would: VMware's certificates often lack the name one uses.
    context.check_hostname = False
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(der))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags |= NO_CHECK_TIME
    return context


def reason_of(error: BaseException, timeout_s: float) -> str:
    """A connection error in a few words, without errno noise."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, socket.gaierror):
        return "the name is not known (DNS)"
    if isinstance(error, UnicodeError):
        return "that is no host name"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


class PinnedConnection(HTTPSConnection):
    """An HTTPS connection that holds its peer to the pin and has two timeouts.

    `pin` and `reply_timeout_s` are set by a subclass made for one session: pyVmomi makes its
    connections itself and passes nothing on but host, port, timeout and context.
    """

    pin: str = ""
    reply_timeout_s: float = 300.0

    def connect(self) -> None:
        """Connect within `timeout`; afterwards an answer may take `reply_timeout_s`."""
        try:
            super().connect()
        except ssl.SSLCertVerificationError as error:
            shown = fetch_certificate(self.host, self.port, timeout_s=self.timeout or 30)
            require_pin(self.host, shown, self.pin)
            # A pin does not make a key longer: OpenSSL's security level stays in force.
            raise CertificateUnusable(self.host, error.verify_message) from error
        # The chain was verified; a certificate issued *by* the pinned one would pass that too.
        try:
            require_pin(self.host, self.sock.getpeercert(True) or b"", self.pin)
        except (CertificateChanged, OSError):
            # OSError: the peer was gone before the handshake, which wrap_socket takes for none.
            self.close()
            raise
        self.sock.settimeout(self.reply_timeout_s)
