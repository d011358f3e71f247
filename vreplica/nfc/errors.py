"""Errors of the NFC transport, under the names that the VDDK transport uses for the same cause.

    NfcError
    |-- DiskLocked            somebody else has the disk open: retry
    |-- DiskNotFound
    |-- DiskFull
    |-- DiskDamaged
    |-- DiskEncrypted
    |-- NfcOutOfRange
    |-- FileAccess            permissions, a running VM's disk, a read ticket used to write
    |-- Busy                  retry
    |-- HostConnection        lost, refused, silent, speaks garbage: retry
    |   |-- HostLeaving       the host shuts down, is in maintenance or not connected
    |   |-- HostTimeout
    |   `-- NfcProtocol
    |-- AuthenticationFailed
    |-- CertificateMismatch
    |-- NfcMemory             retry with less in flight
    |-- OperationUnsupported
    `-- InvalidRequest
    TicketRefused             vCenter or the host gave no NFC ticket
    AdmissionTimeout          this machine already uses what it may of that host: retry
    RuntimeDirUnusable

An AIO error reply carries a VIX code (a write on a read ticket answers 0x0b, which is
VIX_E_FILE_READ_ONLY); the numbers are those of the VDDK 8.0 Programming Guide. The layout of
the reply's payload is not published: see `decode`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import ClassVar

from vreplica.errors import ConfigError, DiskError, VSphereError


@dataclass(eq=False)
class NfcError(DiskError):
    """The host's NFC service refused or failed. `doing` says what was asked of it."""

    template = "{path} on {host}: {doing} failed: {reason}"
    remedy = "Look at hostd.log of the ESXi host at this time."
    codes: ClassVar[frozenset[int]] = frozenset()

    host: str
    path: str
    doing: str
    reason: str
    code: int = 0


class DiskLocked(NfcError):
    remedy = (
        "Another process or a powered-on VM has the disk open. Let it end; if nothing uses the "
        "disk, look for a left-over session on the host."
    )
    retryable = True
    codes = frozenset({15, 13010, 13014})


class DiskNotFound(NfcError):
    remedy = "Check the datastore and the path; after a snapshot change the disk has a new name."
    codes = frozenset({4, 25, 2000, 4000, 13003, 20001, 20002})


class DiskFull(NfcError):
    remedy = "Free space on the datastore that holds this disk, then run again."
    codes = frozenset({8, 13020})


class DiskDamaged(NfcError):
    remedy = (
        "The disk or a link of its chain is incomplete or inconsistent. Check that all files are "
        "there and whole, consolidate, or restore the missing link."
    )
    codes = frozenset(
        {9, 14005, 16000, 16003, 16006, 16008, 16010, 16011, 16018, 16019, 16024, 16029, 16030}
        | {16062, 16063, 16067, 16069}
    )


class DiskEncrypted(NfcError):
    remedy = "The disk is encrypted and the host does not hold its key."
    codes = frozenset({30, 16014, 16015, 16016, 16017, 16020})


class NfcOutOfRange(NfcError):
    remedy = "The disk is smaller than expected; read its capacity again."
    codes = frozenset({16007})


class FileAccess(NfcError):
    remedy = (
        "A running VM's disk opens only below a snapshot, and writing needs a ticket for that "
        "disk. Otherwise check the permissions of the datastore."
    )
    codes = frozenset({7, 11, 13, 16002})


class Busy(NfcError):
    remedy = "Another operation runs on the same object; it ends by itself."
    retryable = True
    codes = frozenset({29, 31, 20005})


class HostConnection(NfcError):
    remedy = (
        "Check that TCP port 902 of the ESXi host can be reached by name from here, and that the "
        "host is up and not in maintenance."
    )
    retryable = True
    codes = frozenset(
        {26, 34, 36, 3008, 14006, 14007, 14008, 14009, 14010, 14011, 16054, 18000, 18002}
    )


class HostLeaving(HostConnection):
    remedy = "The ESXi host is shutting down, in maintenance or cut off; run again when it is back."
    codes = frozenset({14014, 14015})


class HostTimeout(HostConnection):
    remedy = (
        "The host or the network hangs, or the limit is too low. Check the load of the host's "
        "storage and that no firewall drops idle connections to port 902."
    )


class NfcProtocol(HostConnection):
    """The host said something that the protocol does not know; the connection was given up."""

    remedy = (
        "If it comes again, this host speaks NFC in a way that is not known yet: report its exact "
        "version with this message, and use the VDDK transport meanwhile."
    )


class AuthenticationFailed(NfcError):
    remedy = (
        "Check user and password, and that the role has VirtualMachine.Provisioning.DiskRandomRead "
        "(or DiskRandomAccess to write). A ticket is good once and not for long; a clock that is "
        "wrong makes it expire."
    )
    codes = frozenset({35, 3014, 13006})


@dataclass(eq=False)
class CertificateMismatch(NfcError):
    template = "{host}: the certificate is not the {pinned_by}: expected {expected}, found {found}"
    remedy = (
        "If the host's certificate was renewed on purpose, pin the new one (and reconnect the host "
        "in vCenter, which hands out the old thumbprint until then); otherwise find out who "
        "answers at this address."
    )
    expected: str = ""
    found: str = ""
    pinned_by: str = "one that the ticket names"


class NfcMemory(NfcError):
    remedy = "The host's NFC service is out of memory: lower the depth or the disks at once."
    retryable = True
    # 2 is VIX_E_OUT_OF_MEMORY; 5 is what hosts log as "NFC error 5 ... Failed to allocate".
    codes = frozenset({2, 5})


class OperationUnsupported(NfcError):
    remedy = "This host or this kind of disk cannot do it."
    codes = frozenset({6, 20, 1001, 16013, 16022, 16066, 16068, 18001})


class InvalidRequest(NfcError):
    remedy = "The host refused an argument; the message says of which request."
    codes = frozenset({3, 22, 24, 27, 44, 1000, 16001, 16061})


_BY_CODE = {
    code: cls
    for cls in (
        *(DiskLocked, DiskNotFound, DiskFull, DiskDamaged, DiskEncrypted, NfcOutOfRange),
        *(FileAccess, Busy, HostConnection, HostLeaving, AuthenticationFailed, NfcMemory),
        *(OperationUnsupported, InvalidRequest),
    )
    for code in cls.codes
}

_MEMORY = re.compile(r"NFC error 5\b|Failed to allocate the requested", re.IGNORECASE)
_TEXT = re.compile(rb"[\x20-\x7e]{8,}")


def class_of(code: int, text: str = "") -> type[NfcError]:
    """The error class for a VIX code; the text decides where the host says it only there."""
    return NfcMemory if _MEMORY.search(text) else _BY_CODE.get(code & 0xFFFF, NfcError)


def decode(payload: bytes) -> tuple[int, str]:
    """(code, reason) of an AIO error reply.

    What is known of the payload is only that a code is in it. So the first word that is not 0
    is taken for the code and the longest run of text for the words; without text the reason
    shows the bytes, so that a report of them tells more than we know today.
    """
    words = struct.unpack_from(f"<{min(len(payload) // 4, 8)}I", payload)
    code = next((word for word in words if word), 0)
    texts = sorted(_TEXT.findall(payload), key=len)
    text = texts[-1].decode("ascii").strip() if texts else ""
    shown = text or f"error reply {payload[:32].hex(' ', 4) or 'without content'}"
    return code, f"{shown} (code {code})"


def from_reply(payload: bytes, *, host: str, path: str, doing: str) -> NfcError:
    """The error that an AIO error reply stands for."""
    code, reason = decode(payload)
    return class_of(code, reason)(host=host, path=path, doing=doing, reason=reason, code=code)


# -- before there is a connection -----------------------------------------------------------


@dataclass(eq=False)
class TicketRefused(VSphereError):
    template = "no NFC ticket for {vm} ({purpose}): {fault}: {reason}"
    remedy = (
        "Check that the account may read the VM's disks (VirtualMachine.Provisioning."
        "DiskRandomRead, or DiskRandomAccess to write) and that its host is connected."
    )
    vm: str
    purpose: str
    fault: str
    reason: str


@dataclass(eq=False)
class TicketUnreachable(TicketRefused):
    remedy = "Check that vCenter (or the host) answers on port 443; the next try asks again."
    retryable = True


@dataclass(eq=False)
class DiskNotOfVm(TicketRefused):
    remedy = "Check the disk's path; after a snapshot change it has a new name."


@dataclass(eq=False)
class AdmissionTimeout(DiskError):
    template = "{host}: no {what} became free within {timeout_s:g} s; {limit} are in use here"
    remedy = (
        "Other replications on this machine use that host. Run fewer at once, or raise the limit "
        "if the host can bear it (its NFC memory is 48 MiB, 96 MiB from ESXi 8)."
    )
    retryable = True
    host: str
    what: str
    limit: int
    timeout_s: float


@dataclass(eq=False)
class RuntimeDirUnusable(ConfigError):
    template = "{path} cannot hold the locks that share ESXi hosts between replications: {reason}"
    remedy = "Set VREPLICA_RUNTIME_DIR to a directory that belongs to this user alone."
    path: str
    reason: str


@dataclass(eq=False)
class NfcConfigInvalid(ConfigError):
    template = "NFC setting {setting}: {reason}"
    remedy = "See docs/transports.md for the settings and their limits."
    setting: str
    reason: str
