"""Errors of vCenter and ESXi, by what an operator can do about them.

    reaching and entering   ThumbprintInvalid HostUnreachable (OutcomeUnknown) LoginFailed
                            CertificateChanged CertificateUnusable NotVSphere SessionLost BadReply
    finding                 NameUnusable (VmNotFound AmbiguousVm PlacementNotFound
                            PlacementAmbiguous) VmInaccessible ObjectGone
    changing                TaskFailed TaskTimeout VmBusy PermissionDenied LicenseForbids
                            DatastoreFull FileInUse HostDisconnected WrongPowerState PowerTimeout
                            NameTaken ReplicaNotAsAsked FileRefused
    snapshots               SnapshotFailed ConsolidationFailed QuiesceFailed ToolsUnavailable
    changed block tracking  CbtUnsupported CbtNotActive CbtEnableRefused ChangeIdInvalid
                            CbtQueryFailed CbtCoverage
    in the guest            GuestLoginRefused GuestOperationsUnavailable NoSpecification
                            CustomizationRefused

`connection.faults` makes most of them from vSphere's faults. `operation` says in words what was
done: "taking snapshot 'daily'".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vreplica.errors import (
    CbtError,
    ConfigError,
    ConsistencyError,
    PreflightError,
    VSphereError,
)

# -- reaching and entering ------------------------------------------------------------------


@dataclass(eq=False)
class ThumbprintInvalid(ConfigError):
    template = "{text!r} is not a SHA-256 certificate thumbprint (64 hexadecimal digits)"
    remedy = (
        "Print the server's thumbprint with `vreplica-sync thumbprint HOST`, compare it with the "
        "one that the server's administrator tells you, and put it into the job file (`sha256`)."
    )
    text: str


@dataclass(eq=False)
class HostUnreachable(VSphereError):
    template = "{place} cannot be reached: {reason}"
    remedy = (
        "Check that {host} is up and that TCP port {port} is open from this machine. "
        "`vreplica-sync check` tries it again."
    )
    retryable = True
    host: str
    port: int
    reason: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.site = ""
        """The name that people gave it; empty where that is not known."""

    def _values(self) -> dict[str, Any]:
        address = f"{self.host}:{self.port}"
        place = f"{self.site} ({address})" if self.site else address
        return {**super()._values(), "place": place}


@dataclass(eq=False)
class OutcomeUnknown(HostUnreachable):
    """The connection broke after a change was asked for: it may or may not have been made."""

    template = (
        "the connection to {host}:{port} broke during {operation}: {reason}. "
        "It is not known whether {host} has done it"
    )
    remedy = (
        "When {host} answers again, give the same command again. It first reads what is really "
        "there, and puts it in order."
    )
    operation: str


@dataclass(eq=False)
class LoginFailed(VSphereError):
    template = "{host} refused the login of {user}: {reason}"
    remedy = (
        "Check user name and password of the site with `vreplica-sync check`. vCenter wants the "
        "domain too (user@domain), and locks an account for a while after several wrong passwords."
    )
    host: str
    user: str
    reason: str = "user name or password is wrong"


@dataclass(eq=False)
class CertificateChanged(VSphereError):
    template = (
        "{host} does not show the certificate that is pinned for it.\n"
        "  pinned (SHA-256): {expected}\n"
        "  shown  (SHA-256): {found}"
    )
    remedy = (
        "No password was sent. If the certificate was renewed on purpose, put the shown thumbprint "
        "into the job file (`sha256`). If nobody renewed it, another server may answer in place of "
        "{host}: find out before you change the pin."
    )
    host: str
    expected: str
    found: str


@dataclass(eq=False)
class CertificateUnusable(VSphereError):
    """The pinned certificate is shown, and OpenSSL on this machine refuses it all the same."""

    template = "the certificate of {host} is the pinned one, but cannot be used: {reason}"
    remedy = (
        "Renew the certificate of {host} (RSA of 2048 bits or more, SHA-256) and pin the new one: "
        "`vreplica-sync thumbprint {host}` prints it."
    )
    host: str
    reason: str


@dataclass(eq=False)
class NotVSphere(VSphereError):
    template = "{host}:{port} answers, but not as a vCenter or ESXi host: {reason}"
    remedy = "Check host name and port in the job file; the vSphere API is at https://{host}/sdk."
    host: str
    port: int
    reason: str


@dataclass(eq=False)
class SessionLost(VSphereError):
    template = "{host} ended the session, and refused a new login too"
    remedy = (
        "Look at the user's sessions in vCenter: somebody may have ended them, or there are too "
        "many. Then give the same command again."
    )
    retryable = True
    host: str


@dataclass(eq=False)
class BadReply(VSphereError):
    template = "{host} answered {operation} with something that cannot be read: {reason}"
    remedy = (
        "Check that no proxy stands between this machine and {host}, and look at the log of {host} "
        "(vpxd.log of a vCenter, hostd.log of an ESXi host)."
    )
    host: str
    operation: str
    reason: str


# -- finding --------------------------------------------------------------------------------


class NameUnusable(VSphereError):
    """A name that was given stands for nothing, or for several objects.

    Names are looked up before anything is changed.
    """

    exit_code = PreflightError.exit_code


@dataclass(eq=False)
class VmNotFound(NameUnusable):
    template = "there is no VM {name!r} in {host}"
    remedy = "Give a name, an inventory path, a moref (vm-12) or an instance UUID that exists."
    host: str
    name: str
    similar: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        hint = f"; similar: {', '.join(self.similar)}" if self.similar else ""
        return super().message + hint


@dataclass(eq=False)
class AmbiguousVm(NameUnusable):
    template = "several VMs in {host} are called {name!r}"
    remedy = "Give the inventory path or the moref of the one that you mean."
    host: str
    name: str
    candidates: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"{super().message}: {', '.join(self.candidates)}"


@dataclass(eq=False)
class VmInaccessible(VSphereError):
    template = "{host} cannot read the configuration of {name} (connection state {state})"
    remedy = (
        "Bring the VM's ESXi host and datastore back, or register the VM again in vCenter. Then "
        "give the same command again."
    )
    retryable = True
    host: str
    name: str
    state: str


@dataclass(eq=False)
class ObjectGone(VSphereError):
    template = "{operation}: {moref} does not exist any more"
    remedy = (
        "Somebody removed it meanwhile. Give the same command again: it first reads what is there."
    )
    operation: str
    moref: str


@dataclass(eq=False)
class PlacementNotFound(NameUnusable):
    template = "there is no {kind} {name!r} in {host}"
    remedy = "Name an existing one, in `destination` of the job or where you named this one."
    host: str
    kind: str
    name: str
    available: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"{super().message}; there is: {', '.join(self.available) or 'none at all'}"


@dataclass(eq=False)
class PlacementAmbiguous(NameUnusable):
    template = "which {kind} in {host}? The job has to name one"
    remedy = "Name the {kind} in `destination` of the job."
    host: str
    kind: str
    candidates: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"{super().message} of: {', '.join(self.candidates)}"


# -- changing -------------------------------------------------------------------------------


@dataclass(eq=False)
class TaskFailed(VSphereError):
    template = "{operation} failed: {reason} ({fault})"
    remedy = (
        "Look at the VM's recent tasks and events in vCenter. When the reason is gone, give the "
        "same command again."
    )
    operation: str
    fault: str
    reason: str


@dataclass(eq=False)
class TaskTimeout(VSphereError):
    template = "{operation} did not end within {timeout_s:.0f} s (at {progress} %)"
    remedy = (
        "The task still runs in vCenter. Wait until it has ended there, then give the same command "
        "again."
    )
    retryable = True
    operation: str
    timeout_s: float
    progress: int


@dataclass(eq=False)
class VmBusy(VSphereError):
    template = "{operation} was not begun: another task of this VM did not end in {waited_s:.0f} s"
    remedy = (
        "See in vCenter which task of the VM runs. Give the same command again when it has ended."
    )
    retryable = True
    operation: str
    waited_s: float


@dataclass(eq=False)
class PermissionDenied(VSphereError):
    template = "{user} may not do this: {operation} needs the privilege {privilege} on {entity}"
    remedy = (
        "Give the role of {user} this privilege on {entity} (or above it) in vCenter. "
        "`vreplica-sync check` lists every privilege that is missing."
    )
    operation: str
    user: str
    privilege: str
    entity: str


@dataclass(eq=False)
class LicenseForbids(VSphereError):
    template = "{operation}: the licence of {host} does not allow changes through the API"
    remedy = (
        "A free ESXi licence lets programs only read. License the host, or name its vCenter in the "
        "job file."
    )
    operation: str
    host: str


@dataclass(eq=False)
class DatastoreFull(VSphereError):
    template = "{operation}: datastore {datastore} is full: {reason}"
    remedy = (
        "Free space on {datastore}, keep fewer recovery points (`retention` of the job) or choose "
        "another datastore."
    )
    operation: str
    datastore: str
    reason: str


@dataclass(eq=False)
class FileInUse(VSphereError):
    template = "{operation}: {file} is locked by another process"
    remedy = (
        "Find the process that has the file open (another backup, a running copy) and let it end. "
        "Then give the same command again."
    )
    retryable = True
    operation: str
    file: str


@dataclass(eq=False)
class FileRefused(VSphereError):
    """A file of a datastore could not be read or written over /folder."""

    template = "{operation} was refused (HTTP {status})"
    remedy = (
        "Hosts lock files of running VMs. Where the VM is off, check that the account has "
        "Datastore.Browse and Datastore.FileManagement on that datastore."
    )
    operation: str
    status: int


@dataclass(eq=False)
class ConfigurationChanged(VSphereError):
    """The VM's configuration is not the version any more that a change was made for."""

    template = "{operation}: the configuration was changed meanwhile, and was left as it is"
    remedy = "Give the same command again: it reads the VM anew."
    retryable = True
    operation: str


@dataclass(eq=False)
class HostDisconnected(VSphereError):
    template = "{operation}: the ESXi host of the VM does not answer vCenter: {reason}"
    remedy = (
        "Reconnect the host in vCenter; until then nothing can be done to its VMs. Then give the "
        "same command again."
    )
    retryable = True
    operation: str
    reason: str


@dataclass(eq=False)
class WrongPowerState(VSphereError):
    template = "{operation} is not possible while the VM is {actual}"
    remedy = "Power the VM on or off in vCenter, as the operation needs it, and try again."
    operation: str
    actual: str


@dataclass(eq=False)
class PowerTimeout(VSphereError):
    template = "the VM is still {actual} after {waited_s:.0f} s; expected: {wanted}"
    remedy = (
        "Look at the VM's console in vCenter: a question, an update or a service that does not "
        "stop holds it up."
    )
    retryable = True
    wanted: str
    actual: str
    waited_s: float


@dataclass(eq=False)
class NameTaken(VSphereError):
    template = "{operation}: the name {name!r} is taken"
    remedy = (
        "Choose another name, or remove in vCenter what has this one if it is left over from "
        "earlier."
    )
    operation: str
    name: str


@dataclass(eq=False)
class ReplicaNotAsAsked(VSphereError):
    template = "the replica {name} does not have the hardware that was asked for: {difference}"
    remedy = (
        "A new replica with wrong disks is removed again; the points of an existing one stay. "
        "Check hardware version and controllers of the source."
    )
    name: str
    difference: str


# -- snapshots ------------------------------------------------------------------------------


@dataclass(eq=False)
class SnapshotFailed(VSphereError):
    template = "{operation} failed ({kind}): {reason}"
    remedy = (
        "Look at the VM's snapshots and events in vCenter. When the reason is gone, give the same "
        "command again."
    )
    operation: str
    kind: str
    reason: str


@dataclass(eq=False)
class ConsolidationFailed(VSphereError):
    template = "the disks of the VM still need consolidation after {attempts} attempts: {reason}"
    remedy = (
        "Consolidate the VM's disks in vCenter (Snapshots > Consolidate). Usually the datastore is "
        "full or a disk file is locked."
    )
    retryable = True
    attempts: int
    reason: str


@dataclass(eq=False)
class QuiesceFailed(ConsistencyError):
    """The guest failed to quiesce. kind: `application` (VSS, a freeze script) or `filesystem`."""

    template = "the guest could not be quiesced ({kind}): {reason}"
    remedy = (
        "Look in the guest: `vssadmin list writers` and the event log (Windows), the output of the "
        "freeze scripts (Linux). Heavy disk load also makes it fail, so another time may do. "
        "`vreplica-sync run JOB --require crash` accepts a point without quiescing."
    )
    retryable = True
    kind: str
    reason: str


@dataclass(eq=False)
class ToolsUnavailable(ConsistencyError):
    template = "{operation} needs VMware Tools running in the guest; they are: {status}"
    remedy = (
        "Start VMware Tools (open-vm-tools) in the guest. For a recovery point without them: "
        "`vreplica-sync run JOB --require crash`."
    )
    operation: str
    status: str


# -- changed block tracking -----------------------------------------------------------------


@dataclass(eq=False)
class CbtUnsupported(CbtError):
    template = "changed block tracking is not possible for this VM: {reason}"
    remedy = (
        "Upgrade the VM's virtual hardware (version 7 at least). Without tracking every run reads "
        "all allocated blocks."
    )
    reason: str


@dataclass(eq=False)
class CbtNotActive(CbtError):
    template = "changed block tracking is not active: {reason}"
    remedy = (
        "Tracking begins at the VM's next snapshot, power-on or migration; the next run checks it "
        "again."
    )
    reason: str


@dataclass(eq=False)
class CbtEnableRefused(CbtError):
    """Tracking that is enabled on top of a snapshot is silently incomplete (since vSphere 6.5)."""

    template = "changed block tracking is not switched on while snapshots exist: {snapshots}"
    remedy = "Delete the VM's snapshots in vCenter (Snapshots > Delete all), then run again."
    snapshots: str


_READ_IN_FULL = (
    "The whole disk has to be read once, and only what differs is sent: "
    "`vreplica-sync run JOB --on-cbt-loss rescan`."
)


@dataclass(eq=False)
class ChangeIdInvalid(CbtError):
    template = "changeId {change_id} is not valid any more: {reason}"
    remedy = _READ_IN_FULL
    change_id: str
    reason: str


@dataclass(eq=False)
class CbtQueryFailed(CbtError):
    template = "the changed areas of disk {disk_key} cannot be read: {reason} ({fault})"
    remedy = _READ_IN_FULL
    disk_key: int
    fault: str
    reason: str


@dataclass(eq=False)
class CbtCoverage(CbtError):
    """The pages do not cover the disk: using them would lose data."""

    template = "the answer about changed areas of disk {disk_key} cannot be trusted: {reason}"
    remedy = _READ_IN_FULL
    disk_key: int
    reason: str


# -- in the guest ---------------------------------------------------------------------------


@dataclass(eq=False)
class GuestLoginRefused(VSphereError):
    template = "{operation}: the guest refused the login, or this account may not do it"
    remedy = (
        "Set `guest.user` and `guest.password` of the job to an account of the guest itself. On "
        "Windows with UAC only the built-in Administrator has all rights in guest operations."
    )
    operation: str


@dataclass(eq=False)
class GuestOperationsUnavailable(VSphereError):
    template = "{operation}: VMware Tools in the guest do not answer ({reason})"
    remedy = (
        "Look at the VM's console in vCenter. Tools must run, and their configuration must allow "
        "guest operations."
    )
    retryable = True
    operation: str
    reason: str


@dataclass(eq=False)
class NoSpecification(VSphereError):
    template = "{host} has no customization specification {name}"
    remedy = "Set `guest.spec` of the job to one that {host} has: {known}."
    host: str
    name: str
    known: str


@dataclass(eq=False)
class CustomizationRefused(VSphereError):
    template = "the guest cannot be customized: {reason}"
    remedy = (
        'Name a specification that vCenter has (`spec`), or set customize = "script" with a login '
        "of the guest."
    )
    reason: str
