"""Defines a replication job: source VM, destination, and the rules between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from enum import Enum
from pathlib import Path

from vreplica.delta.throttle import Throttle, Window
from vreplica.nfc.config import NfcConfig
from vreplica.points import Level, Retention
from vreplica.points.preference import Preference
from vreplica.vddk.config import VddkConfig
from vreplica.vsphere.model import Endpoint, GuestCustomization, GuestLogin, KeepIdentity

REVERSE_SUFFIX = "~back"
"""Ends the name of a job's reverse direction; no job of a file can have it in its name."""


class OnCbtLoss(Enum):
    """The rule for a run where changed block tracking cannot say what changed."""

    ASK = "ask"
    """Rescan where tracking was reset by itself; stop where somebody switched it off."""
    RESCAN = "rescan"
    FAIL = "fail"


class OnReplicaChange(Enum):
    """The rule for a replica that somebody else has changed since its latest point."""

    STOP = "stop"
    """Change nothing: what is on the replica is in no recovery point. The error says what to do."""
    DISCARD = "discard"
    """Revert it to its latest point."""


class QuiescePolicy(Enum):
    """The rule for quiescing the source at its snapshot."""

    TRY = "try"
    """Quiesce where the guest can; otherwise, or after the retries, take a plain snapshot."""
    REQUIRE = "require"
    """Quiesce or fail."""
    NEVER = "never"


class Transport(Enum):
    """The way to the disks."""

    AUTO = "auto"
    """VDDK where the job names its library or configuration, NFC otherwise."""
    VDDK = "vddk"
    NFC = "nfc"

    def __str__(self) -> str:
        return self.value


class Customize(Enum):
    """The way in which a guest is customized at a failover."""

    SPEC = "spec"
    """By a customization specification: vCenter and Tools apply it at the next boot."""
    SCRIPT = "script"
    """By a script through guest operations, once the guest answers."""


@dataclass(frozen=True, slots=True)
class Guest:
    """The account for scripts in the guest, and its customization at a failover."""

    user: str | None = None
    password: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    """Read when a script needs it, so that replication does not depend on it."""
    customize: Customize | None = None
    spec: str | None = None
    """The name of a specification in the destination's vCenter; None: made from `customization`."""
    customization: GuestCustomization = field(default_factory=GuestCustomization)
    failback: Guest | None = None
    """The same for the original, back at its site; None: its guest keeps what it has."""

    def login(self) -> GuestLogin | None:
        """Raises what reading the password raises."""
        if self.user is None or self.password is None:
            return None
        return GuestLogin(self.user, self.password())


@dataclass(frozen=True, slots=True)
class Placement:
    """The place where a replica is created, by the names vCenter shows. None: the only one."""

    datastore: str
    name: str
    host: str | None = None
    resource_pool: str | None = None
    folder: str | None = None
    networks: Mapping[str, str] = field(default_factory=dict)
    """Source network name -> destination network name."""
    keep: KeepIdentity = field(default_factory=KeepIdentity)
    """Which of the source's names the replica has: right where both are never on."""
    new_vtpm: bool = False
    """Give a replica of a source with a virtual TPM a new, empty one."""
    storage_policy: str | None = None
    """Id of the storage policy of a new replica and its disks."""
    test_network: str | None = None
    """The isolated network of test failovers; None: their cards stay disconnected."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The rate at which all disks of a run together may be read; the first window counts."""

    bytes_per_s: float | None = None
    """Outside of all windows; None: no limit."""
    windows: tuple[Window, ...] = ()
    zone: tzinfo = UTC
    """The time zone of the windows."""

    def throttle(self) -> Throttle | None:
        if self.bytes_per_s is None and not self.windows:
            return None
        return Throttle(self.bytes_per_s, self.windows, now=lambda: datetime.now(self.zone))


@dataclass(frozen=True, slots=True)
class Job:
    """The replication of one VM to one replica.

    `source_vm` is a name, an inventory path, a moref or an instance UUID. `state_dir` holds
    digest maps and the job's lock (job_dir.py); losing it costs time, never data.
    """

    name: str
    source: Endpoint
    source_vm: str
    destination: Endpoint
    placement: Placement
    state_dir: Path
    transport: Transport = Transport.AUTO
    vddk: VddkConfig = field(default_factory=VddkConfig)
    nfc: NfcConfig = field(default_factory=NfcConfig)
    quiesce: QuiescePolicy = QuiescePolicy.TRY
    quiesce_timeout_min: int = 10
    quiesce_attempts: int = 3
    require: Level = Level.CRASH
    on_cbt_loss: OnCbtLoss = OnCbtLoss.ASK
    on_replica_change: OnReplicaChange = OnReplicaChange.STOP
    exclude_disks: frozenset[str] = frozenset()
    """Labels (`Hard disk 2`) of disks that are left out on purpose."""
    retention: Retention = field(default_factory=Retention)
    require_complete: bool = False
    """Refuse a source that has anything which a replica does not get."""
    allow_plain_replica: bool = False
    """Replicate an encrypted source to a replica that is not encrypted."""
    parallel_disks: int = 2
    limits: Limits = field(default_factory=Limits)
    """They do not bind the runs of a failover: there every minute is downtime."""
    audit_share: float = 0.001
    """Share of the blocks that change tracking calls unchanged that every delta reads and
    compares with the digest map, bounded in time; 0: none."""

    rescan: bool = False
    """Read all of both sides, whatever change tracking and digest maps say. For one run."""
    guest: Guest = field(default_factory=Guest)
    keep_undone_days: int | None = 14
    """Days for which a side branch is kept; None: until it is removed by hand."""
    prefer: Preference | None = None
    """The points that boot in place of the newest, where the operator names none."""

    @property
    def job_dir(self) -> Path:
        return self.state_dir / self.name

    @property
    def reverse_name(self) -> str:
        """The name of the same job in the reverse direction (a failback)."""
        if self.name.endswith(REVERSE_SUFFIX):
            return self.name.removesuffix(REVERSE_SUFFIX)
        return self.name + REVERSE_SUFFIX
