"""Errors of the NFC transport, beside those that every kind of disk shares (`disk_errors`).

    HostConnection              lost, refused, silent: a retry may help
    |-- HostTimeout
    |-- HostTlsTooOld           a retry does not help: TLS as ESXi 6.5 has it
    `-- NfcProtocol             the host said something that the protocol does not know
    CertificateMismatch
    `-- HostCertificateMismatch
    TicketRefused               vCenter or the host gave no NFC ticket
    |-- TicketUnreachable       a retry may help
    `-- DiskNotOfVm
    AdmissionTimeout            this machine already uses what it may of that host: a retry may help
    RuntimeDirUnusable
    NfcConfigInvalid

An AIO error record carries a VIX code (a write on a read ticket answers 0x0b, which is
VIX_E_FILE_READ_ONLY) and the host's words. Its layout is known from one public client only, for
ESXi 7.0.3: see `decode`. An ordinary reply says no by its status.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from vreplica.disk_errors import (
    BY_CODE,
    CertificateMismatch,
    DiskAccessError,
    HostConnection,
    NfcMemory,
)
from vreplica.errors import ConfigError, DiskError, VSphereError
from vreplica.nfc import wire


class HostTimeout(HostConnection):
    remedy = (
        "The host or the network hangs. Check the load of the host's storage, and that no firewall "
        "drops idle connections to TCP port 902. Then run again."
    )


class NfcProtocol(HostConnection):
    """The host said something that the protocol does not know; the connection was given up."""

    remedy = (
        "Run again. If it comes back, this host speaks NFC in a way that is not known yet: report "
        'its exact version with this message, and set transport = "vddk" meanwhile.'
    )


class HostTlsTooOld(HostConnection):
    """OpenSSL refuses the TLS of this host as too weak."""

    retryable = False
    remedy = (
        "ESXi 6.5 and 6.7.0 have keys that OpenSSL refuses by default. Update the host. If that is "
        "not possible, name it in the job file: `legacy_tls` of [nfc] (docs/configuration.md)."
    )


@dataclass(eq=False)
class HostCertificateMismatch(CertificateMismatch):
    template = "{host}: the certificate is not the {pinned_by}: expected {expected}, found {found}"
    expected: str = ""
    found: str = ""
    pinned_by: str = "one that the ticket names"


# 2 is VIX_E_OUT_OF_MEMORY; 5 is what hosts log as "NFC error 5 ... Failed to allocate".
_MEMORY_CODES = frozenset({2, 5})
_MEMORY = re.compile(r"NFC error 5\b|Failed to allocate the requested", re.IGNORECASE)
_TEXT = re.compile(rb"[\x20-\x7e]{4,}")
_TEXT_SHOWN = 500


def class_of(code: int, text: str = "") -> type[DiskAccessError]:
    """The error class for a VIX code. The text decides where only it names the cause."""
    code &= 0xFFFF
    if code in _MEMORY_CODES or _MEMORY.search(text):
        return NfcMemory
    return BY_CODE.get(code, DiskAccessError)


def decode(payload: bytes, text: bytes = b"") -> tuple[int, str]:
    """Returns (code, reason) of an error record. `text`: what followed its payload uncounted.

    The first word that is not 0 is taken as the code. The text is what the record counts as such;
    in a record of another layout it is the longest run of printable bytes. Without text the reason
    shows the bytes, so that a report can teach us more.
    """
    words = struct.unpack_from(f"<{min(len(payload) // 4, 8)}I", payload)
    code = next((word for word in words if word), 0)
    if not text and len(words) > 4 and words[2:4] == (0, len(payload) - wire.ERROR.size):
        text = payload[wire.ERROR.size :]
    if not text:
        text = max(_TEXT.findall(payload), key=len, default=b"")
    said = " ".join(text.decode("utf-8", "replace").replace("\0", " ").split())
    said = "".join(c if c.isprintable() else "?" for c in said)[:_TEXT_SHOWN]
    shown = said or f"error reply {payload[:32].hex(' ', 4) or 'without content'}"
    return code, f"{shown} (code {code})"


def from_reply(
    payload: bytes, text: bytes = b"", *, host: str, path: str, doing: str
) -> DiskAccessError:
    """Makes the error that an error record stands for."""
    code, reason = decode(payload, text)
    return class_of(code, reason)(host=host, path=path, doing=doing, reason=reason, code=code)


def from_status(status: int, *, host: str, path: str, doing: str) -> DiskAccessError:
    """Makes the error that the status of an ordinary reply stands for."""
    code = status & 0xFFFFFFFF or status >> 32
    reason = f"the host answered with status {status:#x} (code {code})"
    return class_of(code)(host=host, path=path, doing=doing, reason=reason, code=code)


# -- before there is a connection -----------------------------------------------------------


@dataclass(eq=False)
class TicketRefused(VSphereError):
    template = "no NFC ticket for {vm} ({purpose}): {fault}: {reason}"
    remedy = (
        "Check that the account may read the VM's disks (VirtualMachine.Provisioning."
        "DiskRandomRead, or DiskRandomAccess to write) and that the VM's host is connected: "
        "`vreplica-sync check` tries both."
    )
    vm: str
    purpose: str
    fault: str
    reason: str


@dataclass(eq=False)
class TicketUnreachable(TicketRefused):
    remedy = (
        "Check that vCenter (or the host) answers on TCP port 443, then give the same command "
        "again."
    )
    retryable = True


@dataclass(eq=False)
class DiskNotOfVm(TicketRefused):
    remedy = (
        "Run again: a snapshot gives a disk a new file name, and every run reads the names first."
    )


@dataclass(eq=False)
class AdmissionTimeout(DiskError):
    template = "{host}: no {what} became free within {timeout_s:g} s; {limit} are in use here"
    remedy = (
        "Other replications on this machine use that host. Run fewer at once, or raise "
        "`in_flight_mib` or `open_disks` in [nfc] of the job file if the host has room (its NFC "
        "memory is 48 MiB, 96 MiB from ESXi 8)."
    )
    retryable = True
    host: str
    what: str
    limit: int
    timeout_s: float


@dataclass(eq=False)
class RuntimeDirUnusable(ConfigError):
    template = "{path} cannot hold the locks that share ESXi hosts between replications: {reason}"
    remedy = (
        "Set VREPLICA_RUNTIME_DIR to a directory that only this user may write to (`chmod 700`)."
    )
    path: str
    reason: str


@dataclass(eq=False)
class NfcConfigInvalid(ConfigError):
    template = "NFC setting {setting}: {reason}"
    remedy = "docs/configuration.md lists the settings of [nfc] and their limits."
    setting: str
    reason: str
