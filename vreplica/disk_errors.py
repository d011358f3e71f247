"""Errors of virtual disks by their cause, the same whether VDDK or NFC carries the disk.

    DiskAccessError           the cause has no class of its own
    |-- DiskLocked            another process has the disk open: a retry may help
    |-- DiskNotFound
    |-- DiskFull
    |-- DiskDamaged           a broken, incomplete or inconsistent chain
    |-- DiskEncrypted
    |-- DiskOutOfRange
    |-- FileAccess            permissions, the disk of a running VM, a ticket for reading only
    |-- DiskBusy              a retry may help
    |-- HostConnection        lost, refused, silent: a retry may help
    |   `-- HostLeaving       the host shuts down, is in maintenance or not connected
    |-- AuthenticationFailed
    |-- CertificateMismatch
    |-- NfcMemory             a retry with less in flight may help
    |-- OperationUnsupported
    `-- InvalidRequest

Each class holds the VIX error codes that mean its cause (VDDK 8.0 Programming Guide, and the
constants in VMware's open-source releases). VixDiskLib returns these codes; an NFC error reply
carries them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from vreplica.errors import DiskError


@dataclass(eq=False)
class DiskAccessError(DiskError):
    """A disk's host or library refused or failed.

    doing: what was asked for, as `VixDiskLib_Open` or `reading 65536 bytes at 0`.
    host: the ESXi host, where it is known. code: VIX_ERROR_CODE, 0 where there is none.
    detail: what the library logged meanwhile, without secrets.
    """

    template = "{place}: {doing} failed: {reason}{log}"
    remedy = (
        "Run it again with --debug, which shows the library's log, and look at hostd.log of the "
        "ESXi host at this time."
    )
    codes: ClassVar[frozenset[int]] = frozenset()

    path: str
    doing: str
    reason: str
    code: int = 0
    host: str = ""
    detail: str = ""

    @property
    def message(self) -> str:
        place = f"{self.path} on {self.host}" if self.host else self.path
        log = f"; the library logged: {self.detail}" if self.detail else ""
        return self.template.format_map({**self._values(), "place": place, "log": log})


class DiskLocked(DiskAccessError):
    remedy = (
        "Another process or a powered-on VM has the disk open. Let it end. If nothing uses the "
        "disk, look for an old session on its ESXi host, which keeps the lock."
    )
    retryable = True
    codes = frozenset({15, 13010, 13014})


class DiskNotFound(DiskAccessError):
    remedy = (
        "Check the datastore and the path in vCenter. A new snapshot gives a disk a new file name; "
        "the next run reads the names again."
    )
    codes = frozenset({4, 25, 2000, 4000, 13003, 20001, 20002})


class DiskFull(DiskAccessError):
    remedy = "Free space on the datastore that holds this disk, then run again."
    codes = frozenset({8, 13020})


class DiskDamaged(DiskAccessError):
    remedy = (
        "A file of the disk, or of a snapshot below it, is missing or inconsistent. Check in "
        "vCenter that all files are there, consolidate the VM's disks, or restore the missing file."
    )
    codes = frozenset(
        {9, 14005, 16000, 16003, 16006, 16008, 16010, 16011, 16018, 16019, 16024, 16029, 16030}
        | {16062, 16063, 16067, 16069}
    )


class DiskEncrypted(DiskAccessError):
    remedy = (
        "The disk is encrypted, and the host or the library does not have its key. Give the host "
        "the key, decrypt the VM, or leave the disk out (`exclude_disks` of the job)."
    )
    codes = frozenset({30, 16014, 16015, 16016, 16017, 16020})


class DiskOutOfRange(DiskAccessError):
    remedy = "The disk is smaller than it was. Run again: every run reads the sizes first."
    codes = frozenset({16007})


class FileAccess(DiskAccessError):
    remedy = (
        "A running VM's disk can be opened only as a snapshot holds it. Otherwise check that this "
        "account may use the file, and that its datastore or file system is writable: "
        "`vreplica-sync check` lists missing privileges."
    )
    codes = frozenset({7, 11, 13, 16002})


class DiskBusy(DiskAccessError):
    remedy = "Another operation runs on the same disk or VM. Run again when it has ended."
    retryable = True
    codes = frozenset({29, 31, 20005})


class HostConnection(DiskAccessError):
    remedy = (
        "Check that vCenter (TCP port 443) and the ESXi host (TCP port 902) can be reached by name "
        "from this machine, and that the host is up and not in maintenance: `vreplica-sync check` "
        "tries both."
    )
    retryable = True
    codes = frozenset(
        {26, 34, 36, 3008, 14006, 14007, 14008, 14009, 14010, 14011, 16054, 18000, 18002}
    )


class HostLeaving(HostConnection):
    remedy = (
        "The ESXi host shuts down, is in maintenance or is not connected to vCenter. Run again "
        "when it is back, or move the VM to another host."
    )
    codes = frozenset({14014, 14015})


class AuthenticationFailed(DiskAccessError):
    remedy = (
        "Check user and password of the site, and that its role has VirtualMachine.Provisioning."
        "DiskRandomRead (DiskRandomAccess to write; VDDK also needs Global.DisableMethods): "
        "`vreplica-sync check` lists what is missing. A ticket is good once and for a short time, "
        "so compare the clocks of this machine and of the host too."
    )
    codes = frozenset({35, 3014, 13006})


class CertificateMismatch(DiskAccessError):
    remedy = (
        "If the certificate was renewed on purpose, pin the new one in the job file "
        "(`vreplica-sync thumbprint HOST` prints it); an ESXi host must also be reconnected in "
        "vCenter, which gives out the old thumbprint until then. If it was not renewed, find out "
        "who answers at this address."
    )


class NfcMemory(DiskAccessError):
    remedy = (
        "The host's NFC service is out of memory. Run fewer replications at once, or lower "
        "`depth` and `in_flight_mib` in [nfc] of the job file."
    )
    retryable = True


class OperationUnsupported(DiskAccessError):
    remedy = (
        "This library, this host or this kind of disk cannot do it. docs/transports.md says what "
        "each transport can do."
    )
    codes = frozenset({6, 20, 1001, 16013, 16022, 16066, 16068, 18001})


class InvalidRequest(DiskAccessError):
    remedy = (
        "The library or the host refused an argument. Check the names and paths in the message; if "
        "they are right, report it with the log of --debug."
    )
    codes = frozenset({3, 22, 24, 27, 44, 1000, 16001, 16061})


BY_CODE: Mapping[int, type[DiskAccessError]] = {
    code: cls
    for cls in (
        *(DiskLocked, DiskNotFound, DiskFull, DiskDamaged, DiskEncrypted, DiskOutOfRange),
        *(FileAccess, DiskBusy, HostConnection, HostLeaving, AuthenticationFailed),
        *(OperationUnsupported, InvalidRequest),
    )
    for code in cls.codes
}
"""VIX error code -> its class. A transport adds the codes that only it uses."""
