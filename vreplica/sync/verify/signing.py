"""Signs reports and checks signatures: Ed25519, detached, over the file's bytes as they are.

    report.json        what `verify --report` wrote
    report.json.sig    64 bytes, also for other programs:

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out key.pub.pem
    openssl pkeyutl -verify -pubin -inkey key.pub.pem -rawin -in report.json \\
            -sigfile report.json.sig
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from vreplica.errors import ConfigError, VerifyError

SUFFIX = ".sig"


@dataclass(eq=False)
class KeyUnusable(ConfigError):
    template = "the key {path} cannot be used: {reason}"
    remedy = "{hint}"
    path: str
    reason: str
    hint: str


@dataclass(eq=False)
class FileUnreadable(ConfigError):
    template = "{path} cannot be read: {reason}"
    remedy = "Name a report that `vreplica-sync verify --report` wrote, and its signature."
    path: str
    reason: str


@dataclass(eq=False)
class SignatureWrong(VerifyError):
    template = "{path} is not what was signed with the key that belongs to {key}"
    remedy = (
        "Do not trust this report: it was changed, or signed with another key. "
        "Get it again from where it was made."
    )
    path: str
    key: str


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key to sign with, from a PEM file that only its owner can read."""
    make = f"Make one: openssl genpkey -algorithm ed25519 -out {path}"
    data = _key_bytes(path, make)
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) and mode & 0o077:
        raise KeyUnusable(
            str(path),
            f"others than its owner have access to it (mode {stat.S_IMODE(mode):04o})",
            f"Run `chmod 600 {path}`; if others may have read the key, make a new one.",
        )
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise KeyUnusable(
            str(path),
            "it is protected by a passphrase",
            f"Give one without: openssl pkey -in {path} -out plain.pem; chmod 600 plain.pem",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(str(path), "it is no private key in PEM form", make) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(str(path), "it is not an Ed25519 key", make)
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The key to check with, from a PEM file."""
    make = "Make it from the private key: openssl pkey -in key.pem -pubout -out key.pub.pem"
    data = _key_bytes(path, make)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(str(path), "it is no public key in PEM form", make) from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(str(path), "it is not an Ed25519 key", make)
    return key


def check_signature(path: Path, data: bytes, signature: Path, key: Path) -> None:
    """Raise SignatureWrong where `signature` is not that of `data`, the content of `path`."""
    public = public_key(key)
    try:
        public.verify(read_file(signature), data)
    except InvalidSignature:
        raise SignatureWrong(str(path), str(key)) from None


def read_file(path: Path) -> bytes:
    """The bytes of a report or a signature. Raises FileUnreadable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileUnreadable(str(path), error.strerror or type(error).__name__) from None


def _key_bytes(path: Path, hint: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnusable(str(path), error.strerror or type(error).__name__, hint) from None
