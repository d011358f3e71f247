"""What vCenter and ESXi can fail with, in the words an operator can act on."""

from __future__ import annotations

from dataclasses import dataclass

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
        "Print the server's thumbprint, compare it with the one its administrator tells you, "
        "and put the SHA-256 form into the configuration."
    )
    text: str


@dataclass(eq=False)
class HostUnreachable(VSphereError):
    template = "{host}:{port} cannot be reached: {reason}"
    remedy = "Check that {host} is up and that TCP port {port} is open from this machine."
    retryable = True
    host: str
    port: int
    reason: str


@dataclass(eq=False)
class OutcomeUnknown(HostUnreachable):
    """The connection broke after a change was asked for: it may or may not have been made."""

    template = (
        "the connection to {host}:{port} broke during {operation}: {reason}. "
        "Whether it was done is not known"
    )
    remedy = "Start again: every run first looks at what is really there and puts it in order."
    operation: str


@dataclass(eq=False)
class LoginFailed(VSphereError):
    template = "{host} refused the login of {user}: {reason}"
    remedy = (
        "Check user name and password. vCenter wants the domain too (user@domain), "
        "and locks an account for a while after several wrong passwords."
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
        "If the certificate was renewed on purpose, put the shown thumbprint into the "
        "configuration. If nobody renewed it, somebody may be between you and {host}. "
        "No password was sent."
    )
    host: str
    expected: str
    found: str


@dataclass(eq=False)
class CertificateUnusable(VSphereError):
    """It is the pinned one, and OpenSSL on this machine refuses it all the same."""

    template = "the certificate of {host} is the pinned one, but cannot be used: {reason}"
    remedy = "Renew the certificate of {host} (RSA of 2048 bits or more, SHA-256) and pin it."
    host: str
    reason: str


@dataclass(eq=False)
class NotVSphere(VSphereError):
    template = "{host}:{port} answers, but not as a vCenter or ESXi host: {reason}"
    remedy = "Check host name and port; the vSphere API is at https://{host}/sdk."
    host: str
    port: int
    reason: str


@dataclass(eq=False)
class SessionLost(VSphereError):
    template = "{host} ended the session and a new login was not accepted either"
    remedy = "Look at the sessions of the user in vCenter: is there a limit, or was it ended?"
    retryable = True
    host: str


@dataclass(eq=False)
class BadReply(VSphereError):
    template = "{host} gave an answer to {operation} that cannot be read: {reason}"
    remedy = "Look for a proxy between here and {host}, and for the server's own log."
    host: str
    operation: str
    reason: str


# -- finding --------------------------------------------------------------------------------


class NameUnusable(VSphereError):
    """vCenter answered: a name that was given stands for nothing, or for several. It is asked
    before anything is changed."""

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
    remedy = "Give the inventory path or the moref of the one you mean."
    host: str
    name: str
    candidates: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"{super().message}: {', '.join(self.candidates)}"


@dataclass(eq=False)
class VmInaccessible(VSphereError):
    template = "{host} knows {name} but not its configuration (connection state {state})"
    remedy = "Bring its ESXi host and datastore back, or register the VM again."
    retryable = True
    host: str
    name: str
    state: str


@dataclass(eq=False)
class ObjectGone(VSphereError):
    template = "{operation}: {moref} does not exist any more"
    remedy = "Somebody removed it meanwhile. Start again; the next run looks at what is there."
    operation: str
    moref: str


@dataclass(eq=False)
class PlacementNotFound(NameUnusable):
    template = "there is no {kind} {name!r} in {host}"
    remedy = "Give one that is there: in the job's `destination`, or where else you named it."
    host: str
    kind: str
    name: str
    available: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"{super().message}; there is: {', '.join(self.available) or 'none at all'}"


@dataclass(eq=False)
class PlacementAmbiguous(NameUnusable):
    template = "which {kind} in {host}? The job has to say one"
    remedy = "Name the {kind} in the job's `destination`."
    host: str
    kind: str
    candidates: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"{super().message} of: {', '.join(self.candidates)}"


@dataclass(eq=False)
class ReplicaNotAsAsked(VSphereError):
    template = "the replica {name} has got other disks than asked for: {difference}"
    remedy = "That was taken back. Check the hardware version and controllers of the source."
    name: str
    difference: str


# -- doing ----------------------------------------------------------------------------------


@dataclass(eq=False)
class TaskFailed(VSphereError):
    template = "{operation} failed: {reason} ({fault})"
    remedy = "Look at the VM's recent tasks and events in vCenter."
    operation: str
    fault: str
    reason: str


@dataclass(eq=False)
class TaskTimeout(VSphereError):
    template = "{operation} did not finish within {timeout_s:.0f} s (at {progress} %)"
    remedy = "It is still running in vCenter. Wait until it is done, then start again."
    retryable = True
    operation: str
    timeout_s: float
    progress: int


@dataclass(eq=False)
class VmBusy(VSphereError):
    template = "{operation} had to wait {waited_s:.0f} s for another task of this VM and gave up"
    remedy = "See which task of the VM is running in vCenter; start again when it is done."
    retryable = True
    operation: str
    waited_s: float


@dataclass(eq=False)
class PermissionDenied(VSphereError):
    template = "{user} may not do this: {operation} needs the privilege {privilege} on {entity}"
    remedy = "Give the role of {user} this privilege on {entity} (or above it) in vCenter."
    operation: str
    user: str
    privilege: str
    entity: str


@dataclass(eq=False)
class LicenseForbids(VSphereError):
    template = "{operation}: the licence of {host} does not allow changes through the API"
    remedy = (
        "Free ESXi licences are read-only for programs. Go through vCenter or license the host."
    )
    operation: str
    host: str


@dataclass(eq=False)
class DatastoreFull(VSphereError):
    template = "{operation}: datastore {datastore} is full: {reason}"
    remedy = "Free space on {datastore}, remove recovery points or choose another datastore."
    operation: str
    datastore: str
    reason: str


@dataclass(eq=False)
class FileInUse(VSphereError):
    template = "{operation}: {file} is locked by another process"
    remedy = "Find who has the file open (another backup, a running copy) and let it finish."
    retryable = True
    operation: str
    file: str


@dataclass(eq=False)
class HostDisconnected(VSphereError):
    template = "{operation}: the ESXi host of the VM does not answer vCenter: {reason}"
    remedy = "Reconnect the host in vCenter; nothing can be done to its VMs until then."
    retryable = True
    operation: str
    reason: str


@dataclass(eq=False)
class WrongPowerState(VSphereError):
    template = "{operation} is not possible while the VM is {actual}"
    remedy = "Bring the VM into the right power state first."
    operation: str
    actual: str


@dataclass(eq=False)
class PowerTimeout(VSphereError):
    template = "the VM is still {actual} after {waited_s:.0f} s; {wanted} was waited for"
    remedy = "Look at the VM's console: a question, an update or a hanging service holds it up."
    retryable = True
    wanted: str
    actual: str
    waited_s: float


@dataclass(eq=False)
class NameTaken(VSphereError):
    template = "{operation}: there is something called {name!r} already"
    remedy = "Choose another name, or remove what has it if it is left over."
    operation: str
    name: str


# -- snapshots ------------------------------------------------------------------------------


@dataclass(eq=False)
class SnapshotFailed(VSphereError):
    template = "{operation} failed ({kind}): {reason}"
    remedy = "Look at the VM's snapshots and events in vCenter."
    operation: str
    kind: str
    reason: str


@dataclass(eq=False)
class ConsolidationFailed(VSphereError):
    template = "the disks of the VM still need consolidation after {attempts} attempts: {reason}"
    remedy = (
        "Consolidate the VM's disks in vCenter (Snapshots > Consolidate). "
        "A datastore without space or a locked disk file is the usual cause."
    )
    retryable = True
    attempts: int
    reason: str


@dataclass(eq=False)
class QuiesceFailed(ConsistencyError):
    """kind: `application` (a VSS writer or a freeze script) or `filesystem`."""

    template = "the guest could not be quiesced ({kind}): {reason}"
    remedy = (
        "In the guest: `vssadmin list writers` and the event log (Windows), the freeze scripts' "
        "output (Linux). Heavy disk load at that minute also makes it fail."
    )
    retryable = True
    kind: str
    reason: str


@dataclass(eq=False)
class ToolsUnavailable(ConsistencyError):
    template = "{operation} needs VMware Tools running in the guest; they are: {status}"
    remedy = "Start VMware Tools (open-vm-tools) in the guest, or allow a crash-consistent point."
    operation: str
    status: str


# -- changed block tracking -----------------------------------------------------------------


@dataclass(eq=False)
class CbtUnsupported(CbtError):
    template = "changed block tracking is not possible for this VM: {reason}"
    remedy = "Without it every run reads all allocated blocks. Hardware version 7 is the least."
    reason: str


@dataclass(eq=False)
class CbtNotActive(CbtError):
    template = "changed block tracking is not active: {reason}"
    remedy = "Tracking begins at the next snapshot, power-on or migration; the next run checks."
    reason: str


@dataclass(eq=False)
class CbtEnableRefused(CbtError):
    """Enabled on top of a snapshot, tracking is silently incomplete (since vSphere 6.5)."""

    template = "changed block tracking is not switched on while snapshots exist: {snapshots}"
    remedy = "Delete the VM's snapshots (Snapshots > Delete all), then start again."
    snapshots: str


@dataclass(eq=False)
class ChangeIdInvalid(CbtError):
    template = "changeId {change_id} is not valid any more: {reason}"
    remedy = "The whole disk has to be read once; only what differs is shipped."
    change_id: str
    reason: str


@dataclass(eq=False)
class CbtQueryFailed(CbtError):
    template = "changed areas of disk {disk_key} cannot be had: {reason} ({fault})"
    remedy = "The whole disk has to be read once; only what differs is shipped."
    disk_key: int
    fault: str
    reason: str


@dataclass(eq=False)
class CbtCoverage(CbtError):
    """The pages do not cover the disk: using them would lose data."""

    template = "the answer about changed areas of disk {disk_key} cannot be trusted: {reason}"
    remedy = "The whole disk has to be read once; only what differs is shipped."
    disk_key: int
    reason: str


# -- in the guest ---------------------------------------------------------------------------


@dataclass(eq=False)
class GuestLoginRefused(VSphereError):
    template = "{operation}: the guest refuses the login, or the account may not do it"
    remedy = (
        "Set `guest.user` and `guest.password` of the job to an account of the guest itself. On "
        "Windows with UAC only the built-in Administrator has all rights in guest operations."
    )
    operation: str


@dataclass(eq=False)
class GuestOperationsUnavailable(VSphereError):
    template = "{operation}: VMware Tools in the guest do not answer ({reason})"
    remedy = "Look at the VM's console; Tools have to run, and guest operations to be allowed."
    retryable = True
    operation: str
    reason: str


@dataclass(eq=False)
class NoSpecification(VSphereError):
    template = "{host} has no customization specification {name}"
    remedy = "Known there: {known}."
    host: str
    name: str
    known: str


@dataclass(eq=False)
class CustomizationRefused(VSphereError):
    template = "the guest cannot be customized: {reason}"
    remedy = (
        'Name a specification that vCenter keeps (`spec`), or set customize = "script" with a '
        "login of the guest."
    )
    reason: str
