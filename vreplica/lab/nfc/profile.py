"""Ways of hosts: what the NFC service of an ESXi release allows, and how it speaks.

    profile = HostProfile.of("7.0.3")
    profile = HostProfile.of("7.0.3", counted_errors=True)      # one trait of another host

Sources: the client code of OpenVixDiskLib (6.5 to 8: greeting, TLS) and of a public Rust client
(7.0.3: order of the handshake, version, error records); pyVmomi's type registry (9.0: certificate
in the ticket); protocol notes of both (8). Nobody has published how the releases differ in full, so
each trait can be set apart from the release.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Self

from vreplica.nfc.wire import BUFFER_MAX
from vreplica.units import MIB


@dataclass(frozen=True, slots=True)
class HostProfile:
    """Limits and traits of one host. The names of the fields are stored in state.db."""

    release: str = "8.0"
    memory_bytes: int = 96 * MIB
    """NFC memory for all clients: 48 MiB before ESXi 8 (VDDK 8.0 Programming Guide)."""
    connections: int = 52
    buffer_max: int = BUFFER_MAX
    """Bytes of one AIO buffer. ESXi 8 accepts 2 MiB. The limit of older hosts is not known."""
    nfc_version: int = 11
    service: str = "vpxa-nfc"
    sha256_announced: bool = True
    """The greeting says "SHA256 supported". Without it THUMBPRINT_SHA2 is answered 530."""
    legacy_tls: bool = False
    """TLS 1.2 with a key of 1024 bits: OpenSSL refuses it above SECLEVEL=1."""
    late_acknowledgement: bool = False
    """The session parameters (33) are acknowledged only after the version message (51)."""
    counted_errors: bool = True
    """The text of an error record is part of its payload. If not, the text follows a payload of 16
    bytes uncounted, and an ordinary reply of the same opId, of zeros, follows the record."""
    tells_capacity: bool = True
    """The OPEN_FILE reply has the capacity at offset 28. If not, it has 0 there."""
    shows_certificate: bool = False
    """The ticket has the whole certificate (HostServiceTicket.sslCertificate, API 9.0)."""
    compressions: tuple[int, ...] = (1, 2, 3)
    """Compression types that the host knows: zlib, FastLZ, SkipZ."""

    @classmethod
    def of(cls, release: str, **traits: Any) -> Self:
        """Makes the profile of a release, with other traits where given. Raises ValueError."""
        if release not in RELEASES:
            raise ValueError(f"no such ESXi release: {release}; known: {', '.join(RELEASES)}")
        known = {f.name for f in fields(cls)} - {"release"}
        if unknown := traits.keys() - known:
            raise ValueError(
                f"a host has no {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}"
            )
        given = {name: tuple(v) if isinstance(v, list) else v for name, v in traits.items()}
        profile = replace(cls(release=release), **{**RELEASES[release], **given})
        defaults = asdict(cls())
        for name, value in asdict(profile).items():
            if type(value) is not type(defaults[name]):
                raise ValueError(f"{name} of a host is {type(defaults[name]).__name__}: {value!r}")
        return profile


_BEFORE_8: Final = {"sha256_announced": False, "memory_bytes": 48 * MIB}
_BEFORE_7: Final = {**_BEFORE_8, "legacy_tls": True}

RELEASES: Final[dict[str, dict[str, Any]]] = {
    "6.5": _BEFORE_7,
    "6.7": _BEFORE_7,
    "7.0.3": {
        **_BEFORE_8,
        "late_acknowledgement": True,
        "nfc_version": 9,
        "counted_errors": False,
    },
    "8.0": {},
    "9.0": {"shows_certificate": True},
}
"""What a release changes of the defaults. `6.7` is 6.7.0: later updates have newer TLS."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What a client said of itself in the handshake."""

    client: str
    operation: str
    version: int
    features: int
