"""The self-signed certificate of a site's HTTPS endpoint, as an ESXi host or VCSA has one."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vreplica.lab.vmodl import now


@dataclass(frozen=True)
class Certificate:
    """A PEM file with key and certificate; thumbprints are colon separated, upper case."""

    path: Path
    sha1: str
    sha256: str

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        return context


def _colons(digest: bytes) -> str:
    return digest.hex(":").upper()


def load(path: Path) -> Certificate:
    found = x509.load_pem_x509_certificate(path.read_bytes())
    return Certificate(
        path,
        _colons(found.fingerprint(hashes.SHA1())),  # noqa: S303  VDDK pins by SHA-1
        _colons(found.fingerprint(hashes.SHA256())),
    )


def make(path: Path, name: str, host: str) -> Certificate:
    """Write key and certificate for `name` and the address `host`, mode 0600."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.DNSName(name), x509.DNSName("localhost")]
    addresses = {"127.0.0.1", "127.0.0.2"}
    try:
        addresses.add(str(ipaddress.ip_address(host)))
    except ValueError:
        names.append(x509.DNSName(host))
    names += [x509.IPAddress(ipaddress.ip_address(a)) for a in sorted(addresses)]
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return load(path)
