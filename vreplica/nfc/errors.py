"""Errors of the NFC transport, beside those that every kind of disk shares (`disk_errors`).

    HostConnection              lost, refused, silent: a retry may help
    |-- HostTimeout
    `-- NfcProtocol             the host said something that the protocol does not know
    CertificateMismatch
    `-- HostCertificateMismatch
    TicketRefused               vCenter or the host gave no NFC ticket
    |-- TicketUnreachable       a retry may help
    `-- DiskNotOfVm
    AdmissionTimeout            this machine already uses what it may of that host: a retry may help
    RuntimeDirUnusable
    NfcConfigInvalid

An AIO error reply carries a VIX code (a write on a read ticket answers 0x0b, which is
VIX_E_FILE_READ_ONLY). The layout of the reply's payload is not published: see `decode`.
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


@dataclass(eq=False)
class HostCertificateMismatch(CertificateMismatch):
    template = "{host}: the certificate is not the {pinned_by}: expected {expected}, found {found}"
    expected: str = ""
    found: str = ""
    pinned_by: str = "one that the ticket names"


# 2 is VIX_E_OUT_OF_MEMORY; 5 is what hosts log as "NFC error 5 ... Failed to allocate".
_MEMORY_CODES = frozenset({2, 5})
_MEMORY = re.compile(r"NFC error 5\b|Failed to allocate the requested", re.IGNORECASE)
_TEXT = re.compile(rb"[\x20-\x7e]{8,}")


def class_of(code: int, text: str = "") -> type[DiskAccessError]:
    """The error class for a VIX code. The text decides where only it names the cause."""
    code &= 0xFFFF
    if code in _MEMORY_CODES or _MEMORY.search(text):
        return NfcMemory
    return BY_CODE.get(code, DiskAccessError)


def decode(payload: bytes) -> tuple[int, str]:
    """Returns (code, reason) of an AIO error reply.

    All that is known of the payload is that it holds a code. So the first word that is not 0 is
    taken as the code, and the longest run of text as the reason. Without text the reason shows
    the bytes, so that a report can teach us more.
    """
    words = struct.unpack_from(f"<{min(len(payload) // 4, 8)}I", payload)
    code = next((word for word in words if word), 0)
    texts = sorted(_TEXT.findall(payload), key=len)
    text = texts[-1].decode("ascii").strip() if texts else ""
    shown = text or f"error reply {payload[:32].hex(' ', 4) or 'without content'}"
    return code, f"{shown} (code {code})"


def from_reply(payload: bytes, *, host: str, path: str, doing: str) -> DiskAccessError:
    """Makes the error that an AIO error reply stands for."""
    code, reason = decode(payload)
    return class_of(code, reason)(host=host, path=path, doing=doing, reason=reason, code=code)


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
