"""Errors of VixDiskLib by what they mean, each with what an operator should do.

`from_call` turns an answer of the library (call, code, text, log lines) into the right class:

    VddkError
    |-- DiskLocked            somebody else has the disk open
    |-- DiskNotFound
    |-- DiskFull
    |-- DiskDamaged           broken, incomplete or inconsistent chain
    |-- DiskEncrypted
    |-- VddkOutOfRange
    |-- FileAccess            permissions, read-only files
    |-- FileExists
    |-- Busy                  retry
    |-- HostConnection        retry
    |   `-- HostLeaving       host shuts down or enters maintenance
    |-- AuthenticationFailed
    |-- CertificateMismatch
    |-- NfcMemory             retry with less in flight
    |-- LicenseRefused
    |-- OperationUnsupported
    |-- MetadataMissing
    `-- InvalidRequest
    LibraryProblem            the library cannot be found, loaded or initialised
    HelperFailed              the helper process crashed, hung or did not start

Codes: VDDK 8.0 Programming Guide and the constants in VMware's open source safekeeping.
Passwords and session cookies are taken out of log lines before they get here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar

from vreplica.errors import ConfigError, DiskError
from vreplica.vddk.binding import CallFailed, LoadFailed


@dataclass(eq=False)
class VddkError(DiskError):
    """A call of the library failed. `code` is VIX_ERROR_CODE, `detail` what it logged."""

    template = "{path}: VixDiskLib_{call} failed: {text} (code {code}){log}"
    remedy = "Look at the library's own log for what led to it."
    codes: ClassVar[frozenset[int]] = frozenset()

    call: str
    code: int
    text: str
    path: str
    detail: str = ""

    @property
    def message(self) -> str:
        log = f"; the library said: {self.detail}" if self.detail else ""
        return self.template.format_map({**self._values(), "log": log})


class DiskLocked(VddkError):
    remedy = (
        "Another process or a powered-on VM has the disk open. Let it end; if nothing uses the "
        "disk, look for a left-over session on the host."
    )
    retryable = True
    codes = frozenset({15, 13010, 13014})


class DiskNotFound(VddkError):
    remedy = "Check the datastore and the path; after a snapshot change the disk has a new name."
    codes = frozenset({4, 25, 2000, 4000, 13003, 20001, 20002})


class DiskFull(VddkError):
    remedy = "Free space on the datastore that holds this disk, then run again."
    codes = frozenset({8, 13020})


class DiskDamaged(VddkError):
    remedy = (
        "The disk or a link of its chain is incomplete or inconsistent. Check that all files are "
        "there and whole, consolidate, or restore the missing link."
    )
    codes = frozenset(
        {9, 14005, 16000, 16003, 16006, 16008, 16010, 16011, 16018, 16019, 16024, 16029, 16030}
        | {16062, 16063, 16067, 16069}
    )


class DiskEncrypted(VddkError):
    remedy = "The disk is encrypted; VDDK needs a crypto-enabled connection and its key."
    codes = frozenset({30, 16014, 16015, 16016, 16017, 16020})


class VddkOutOfRange(VddkError):
    remedy = "The disk is smaller than expected; read its capacity again."
    codes = frozenset({16007})


class FileAccess(VddkError):
    remedy = "Check the permissions of the files, and that their file system is writable."
    codes = frozenset({7, 11, 13, 16002})


class FileExists(VddkError):
    remedy = "Choose another name or remove the existing file."
    codes = frozenset({12, 23, 41, 13004})


class Busy(VddkError):
    remedy = "Another operation runs on the same object; it ends by itself."
    retryable = True
    codes = frozenset({5, 29, 31, 20005})


class HostConnection(VddkError):
    remedy = (
        "Check that vCenter (443) and every ESXi host (902) can be reached by name from here, "
        "and that the host is not in maintenance."
    )
    retryable = True
    codes = frozenset(
        {26, 34, 36, 3008, 14006, 14007, 14008, 14009, 14010, 14011, 16054, 18000, 18002}
        | {30001, 30003, 30005, 30006, 30007, 30022, 30028, 30035}
    )


class HostLeaving(HostConnection):
    remedy = "The ESXi host is shutting down or entering maintenance; run again when it is back."
    codes = frozenset({14014, 14015})


class AuthenticationFailed(VddkError):
    remedy = (
        "Check user and password, and that the role has VirtualMachine.Provisioning.DiskRandomRead "
        "(or DiskRandomAccess to write) and Global.DisableMethods."
    )
    codes = frozenset({35, 3014, 13006})


class CertificateMismatch(VddkError):
    remedy = (
        "The server's certificate is not the one that is pinned. If it was renewed on purpose, "
        "pin the new SHA-1 thumbprint; otherwise find out who answers at this address."
    )


class NfcMemory(VddkError):
    remedy = "The host's NFC service is out of memory: lower io_depth or the disks at once."
    retryable = True
    shrink_requests = True


class LicenseRefused(VddkError):
    remedy = "The host's licence does not allow the storage API; free ESXi does not have it."
    codes = frozenset({32, 16064})


class OperationUnsupported(VddkError):
    remedy = "This library or this kind of disk cannot do it."
    codes = frozenset({6, 20, 1001, 16013, 16022, 16066, 16068, 18001, 26000})


class MetadataMissing(VddkError):
    remedy = "The disk has no such entry."
    codes = frozenset({16052})


class InvalidRequest(VddkError):
    remedy = "The library refused an argument; the message says which call."
    codes = frozenset({3, 22, 24, 27, 44, 1000, 16001, 16061})


_BY_CODE = {
    code: cls
    for cls in (
        *(DiskLocked, DiskNotFound, DiskFull, DiskDamaged, DiskEncrypted, VddkOutOfRange),
        *(FileAccess, FileExists, Busy, HostConnection, HostLeaving, AuthenticationFailed),
        *(LicenseRefused, OperationUnsupported, MetadataMissing, InvalidRequest),
    )
    for code in cls.codes
}

_FAIL = 1
_THUMBPRINT = re.compile(r"thumb ?print|certificate", re.IGNORECASE)
_NFC_MEMORY = re.compile(r"NFC error 5\b|Failed to allocate the requested", re.IGNORECASE)


def class_of(code: int, detail: str = "") -> type[VddkError]:
    """The error class for a code; the log decides where VDDK only says VIX_E_FAIL."""
    if _NFC_MEMORY.search(detail):
        return NfcMemory
    # A wrong thumbprint comes out of Open as VIX_E_FAIL; only the log line tells (RHBZ 1905772).
    if code == _FAIL and _THUMBPRINT.search(detail):
        return CertificateMismatch
    return _BY_CODE.get(code, VddkError)


def from_call(failed: CallFailed, path: str) -> VddkError:
    """`path` says which disk, or which server where there is no disk yet."""
    # A file name that is not UTF-8 has half characters in it, which cannot be printed.
    path = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return class_of(failed.code, failed.detail)(
        call=failed.call, code=failed.code, text=failed.text, path=path, detail=failed.detail
    )


# -- the library itself ---------------------------------------------------------------------


class LibraryProblem(ConfigError):
    """No library that can be used. Nothing was touched."""


@dataclass(eq=False)
class LibraryNotFound(LibraryProblem):
    template = "no VixDiskLib in {libdir}: tried {tried}"
    remedy = (
        "Set libdir (or VREPLICA_VDDK_LIBDIR) to the unpacked vmware-vix-disklib-distrib, or use "
        "the nfc transport, which needs no VDDK."
    )
    libdir: str
    tried: str


@dataclass(eq=False)
class LibraryNotLoadable(LibraryProblem):
    template = "{path} cannot be loaded: {reason}"
    remedy = "Check that the VDDK archive was unpacked whole, for Linux x86-64."
    path: str
    reason: str


@dataclass(eq=False)
class LibraryIncomplete(LibraryProblem):
    template = "{path} is not a usable VixDiskLib: it lacks {missing}"
    remedy = "Use VDDK 6.5 or later, whole, or leave libdir unset for the native library."
    path: str
    missing: str


@dataclass(eq=False)
class AlreadyInitialised(LibraryProblem):
    template = "{path} already runs in this process with config file {first}, not {second}"
    remedy = "VixDiskLib is initialised once a process: use isolation for the second one."
    path: str
    first: str
    second: str


@dataclass(eq=False)
class DiskChanged(DiskError):
    template = "{path}: {now} bytes when opened again, {before} before"
    remedy = "Something else than this run changed the disk; the next run plans anew."
    path: str
    before: int
    now: int


@dataclass(eq=False)
class ConnectionReadOnly(ConfigError):
    template = "{path} was to be opened for writing over a read-only connection to {server}"
    remedy = "Say read_only=False in the VddkConnection of a replica; leave it on for sources."
    path: str
    server: str


def from_load(failed: LoadFailed) -> LibraryProblem:
    if failed.missing:
        names = ", ".join(f"VixDiskLib_{name}" for name in failed.missing)
        return LibraryIncomplete(path=failed.path, missing=names)
    return LibraryNotLoadable(path=failed.path, reason=failed.reason)


# -- the helper process ---------------------------------------------------------------------


@dataclass(eq=False)
class HelperFailed(DiskError):
    """The process that ran the library for this disk is of no use any more.

    `last_lines` is what the library logged last.
    """

    retryable = True
    path: str
    last_lines: str = field(default="", kw_only=True)

    @property
    def message(self) -> str:
        log = f"; its last words: {self.last_lines}" if self.last_lines else ""
        return self.template.format_map({**self._values(), "log": log})


@dataclass(eq=False)
class HelperDied(HelperFailed):
    template = "{path}: the VixDiskLib helper process {how}{log}"
    remedy = (
        "The library crashed or was killed; only this disk is affected, and the next run starts "
        "a new helper. If it comes back, keep the log and report it to the library's vendor."
    )
    how: str


@dataclass(eq=False)
class HelperTimeout(HelperFailed):
    template = "{path}: {doing} did not end within {timeout_s:g} s; the helper was stopped{log}"
    remedy = (
        "Host or network hang, or the limit is too low (timeout_s). Only this disk is affected, "
        "and the next run starts a new helper."
    )
    doing: str
    timeout_s: float


@dataclass(eq=False)
class HelperBroken(HelperFailed):
    template = "{path}: the VixDiskLib helper process failed: {reason}"
    remedy = "A fault of vreplica rather than of the library: please report it with the log."
    retryable = False
    reason: str
