"""Errors of VixDiskLib, beside those that every kind of disk shares (`disk_errors`).

    DiskAccessError
    |-- FileExists
    |-- LicenseRefused
    `-- MetadataMissing
    LibraryProblem            the library cannot be found, loaded or initialised
    HelperFailed              the helper process crashed, hung or did not start

`from_call` makes the error of a failed call from its code, text and log lines. Passwords and
session cookies are taken out of log lines before they get here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vreplica.disk_errors import (
    BY_CODE,
    CertificateMismatch,
    DiskAccessError,
    DiskBusy,
    HostConnection,
    NfcMemory,
    OperationUnsupported,
)
from vreplica.errors import ConfigError, DiskError
from vreplica.vddk.binding import CallFailed, LoadFailed


class FileExists(DiskAccessError):
    remedy = "Choose another name or remove the existing file."
    codes = frozenset({12, 23, 41, 13004})


class LicenseRefused(DiskAccessError):
    remedy = (
        "The host's licence does not allow the storage API; free ESXi does not have it. "
        "License the host."
    )
    codes = frozenset({32, 16064})


class MetadataMissing(DiskAccessError):
    remedy = "The disk has no such entry."
    codes = frozenset({16052})


_BY_CODE = {
    **BY_CODE,
    **{code: cls for cls in (FileExists, LicenseRefused, MetadataMissing) for code in cls.codes},
    5: DiskBusy,
    26000: OperationUnsupported,
    **dict.fromkeys((30001, 30003, 30005, 30006, 30007, 30022, 30028, 30035), HostConnection),
}

_FAIL = 1
_THUMBPRINT = re.compile(r"thumb ?print|certificate", re.IGNORECASE)
_NFC_MEMORY = re.compile(r"NFC error 5\b|Failed to allocate the requested", re.IGNORECASE)


def class_of(code: int, detail: str = "") -> type[DiskAccessError]:
    """The error class for a code. The log decides where VDDK says only VIX_E_FAIL."""
    if _NFC_MEMORY.search(detail):
        return NfcMemory
    # A wrong thumbprint comes out of Open as VIX_E_FAIL; only the log line tells (RHBZ 1905772).
    if code == _FAIL and _THUMBPRINT.search(detail):
        return CertificateMismatch
    return _BY_CODE.get(code, DiskAccessError)


def from_call(failed: CallFailed, path: str) -> DiskAccessError:
    """The error of a call. `path`: the disk, or the server where there is no disk yet."""
    # A file name that is not UTF-8 has half characters in it, which cannot be printed.
    path = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    error = class_of(failed.code, failed.detail)(
        path=path,
        doing=f"VixDiskLib_{failed.call}",
        reason=f"{failed.text} (code {failed.code})",
        code=failed.code,
        detail=failed.detail,
    )
    # The engine may ask this library for less at once; the NFC transport does that by itself.
    error.shrink_requests = isinstance(error, NfcMemory)
    return error


# -- the library itself ---------------------------------------------------------------------


class LibraryProblem(ConfigError):
    """No library that can be used. Nothing was touched."""


@dataclass(eq=False)
class LibraryNotFound(LibraryProblem):
    template = "no VixDiskLib in {libdir}: tried {tried}"
    remedy = (
        "Set `libdir` in [vddk] of the job file (or VREPLICA_VDDK_LIBDIR) to the unpacked "
        'vmware-vix-disklib-distrib, or set transport = "nfc", which needs no VDDK.'
    )
    libdir: str
    tried: str


@dataclass(eq=False)
class LibraryNotLoadable(LibraryProblem):
    template = "{path} cannot be loaded: {reason}"
    remedy = "Unpack the whole VDDK archive for Linux x86-64 again."
    path: str
    reason: str


@dataclass(eq=False)
class LibraryIncomplete(LibraryProblem):
    template = "{path} is not a usable VixDiskLib: it lacks {missing}"
    remedy = (
        "Use the whole VDDK 6.5 or later, or leave `libdir` in [vddk] unset for the native library."
    )
    path: str
    missing: str


@dataclass(eq=False)
class AlreadyInitialised(LibraryProblem):
    template = "{path} already runs in this process with config file {first}, not {second}"
    remedy = (
        "VixDiskLib is initialised once a process. Set isolation = true in [vddk] of the job file."
    )
    path: str
    first: str
    second: str


@dataclass(eq=False)
class DiskChanged(DiskError):
    template = "{path}: the disk has {now} bytes when opened again, and had {before} before"
    remedy = "Another program has changed the disk. Run again: every run reads the disk first."
    path: str
    before: int
    now: int


@dataclass(eq=False)
class ConnectionReadOnly(ConfigError):
    template = "{path} cannot be opened for writing over a read-only connection to {server}"
    remedy = "Set read_only=False in the VddkConnection of a replica; leave it on for sources."
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
    """The process that ran the library for this disk has failed and is gone.

    last_lines: the last lines of the library's log.
    """

    retryable = True
    path: str
    last_lines: str = field(default="", kw_only=True)

    @property
    def message(self) -> str:
        log = f"; its last log lines: {self.last_lines}" if self.last_lines else ""
        return self.template.format_map({**self._values(), "log": log})


@dataclass(eq=False)
class HelperDied(HelperFailed):
    template = "{path}: the VixDiskLib helper process {how}{log}"
    remedy = (
        "The library crashed or was killed. Only this disk is affected: run again, which starts a "
        "new helper. If it comes back, keep the log of --debug and report it to the library's "
        "vendor."
    )
    how: str


@dataclass(eq=False)
class HelperTimeout(HelperFailed):
    template = "{path}: {doing} did not end within {timeout_s:g} s; the helper was stopped{log}"
    remedy = (
        "The host or the network hangs. Only this disk is affected: run again, which starts a new "
        "helper."
    )
    doing: str
    timeout_s: float


@dataclass(eq=False)
class HelperBroken(HelperFailed):
    template = "{path}: the VixDiskLib helper process failed: {reason}"
    remedy = "This is a fault of vreplica, not of the library: report it with the log of --debug."
    retryable = False
    reason: str
