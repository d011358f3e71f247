"""A host's certificate: made once, kept in files, known by its thumbprints."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vreplica.nfc.channel import Thumbprints

_MADE = datetime(2024, 1, 1)
_LIFE = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Identity:
    """Certificate and key in one PEM file."""

    pem: Path
    thumbprints: Thumbprints

    @classmethod
    def make(cls, pem: Path, name: str, address: str = "127.0.0.1") -> Self:
        """A new self-signed certificate for a host; overwrites what is there."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "vreplica lab"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(address))]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_MADE)
            .not_valid_after(_MADE + _LIFE)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(key, hashes.SHA256())
        )
        encoding = serialization.Encoding.PEM
        private = key.private_bytes(
            encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pem.touch(mode=0o600)
        pem.write_bytes(private + certificate.public_bytes(encoding))
        return cls.load(pem)

    @classmethod
    def load(cls, pem: Path) -> Self:
        certificate = x509.load_pem_x509_certificate(pem.read_bytes())
        return cls(pem, Thumbprints.of(certificate.public_bytes(serialization.Encoding.DER)))

    def context(self) -> ssl.SSLContext:
        """For the server's side."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        return context
