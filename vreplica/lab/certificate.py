"""Self-signed certificates for the servers of a lab, as a VCSA and an ESXi host have them."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from vreplica.nfc.channel import Thumbprints

LEGACY_GROUP: Final = b"""-----BEGIN DH PARAMETERS-----
MIGHAoGBAP//////////yQ/aoiFowjTExmKLgNwc0SkCTgiKZ8x0Agu+pjsTmyJR
Sgh5jjQE3e+VGbPNOkMbMCsKbfJfFDdP4TVtbVHCReSFtXZiXn7G9ExC6aY37WsL
/1y29Aa37e44a/taiZ+lrp8kEXxLH+ZJKGZR7OZTgf//////////AgEC
-----END DH PARAMETERS-----
"""
"""The Diffie-Hellman group of 1024 bits in RFC 2409, section 6.2."""
LEGACY_CIPHERS: Final = "DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=1"
LEGACY_BITS: Final = 1024


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A certificate with its key, in one PEM file.

    A legacy one has a key of 1024 bits, and the file also holds a Diffie-Hellman group of 1024
    bits. OpenSSL refuses such a server above SECLEVEL=1, as it does ESXi 6.5 and 6.7.0.
    """

    pem: Path
    thumbprints: Thumbprints

    @classmethod
    def create(cls, pem: Path, name: str, host: str = "127.0.0.1", *, legacy: bool = False) -> Self:
        """Writes a new certificate for `name` and the address `host`. The file gets mode 0600."""
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = ec.generate_private_key(
            ec.SECP256R1()
        )
        if legacy:
            key = rsa.generate_private_key(65537, LEGACY_BITS)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [x509.DNSName(name), x509.DNSName("localhost")]
        addresses = {"127.0.0.1", "127.0.0.2"}
        try:
            addresses.add(str(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
        names += [x509.IPAddress(ipaddress.ip_address(a)) for a in sorted(addresses)]
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        encoding = serialization.Encoding.PEM
        private = key.private_bytes(
            encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pem.parent.mkdir(parents=True, exist_ok=True)
        pem.touch(mode=0o600)
        group = LEGACY_GROUP if legacy else b""
        pem.write_bytes(private + group + certificate.public_bytes(encoding))
        return cls.load(pem)

    @classmethod
    def load(cls, pem: Path) -> Self:
        certificate = x509.load_pem_x509_certificate(pem.read_bytes())
        return cls(pem, Thumbprints.of(certificate.public_bytes(serialization.Encoding.DER)))

    def tls_context(self) -> ssl.SSLContext:
        """The TLS context of a server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if LEGACY_GROUP in self.pem.read_bytes():
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(LEGACY_CIPHERS)
            context.load_dh_params(str(self.pem))
        context.load_cert_chain(self.pem)
        return context
