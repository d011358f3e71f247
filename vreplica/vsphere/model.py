"""Frozen values: VMs, disks, snapshots, places and records as vCenter describes them, and specs.

    VmInfo
     ├─ disks        VmDisk(key 2000, pvscsi 0:0, "[ds1] web/web.vmdk", changeId of *now*)
     ├─ controllers  Controller(key 1000, pvscsi, bus 0)
     ├─ nics         Nic(key 4000, vmxnet3, "VM Network")
     └─ snapshots    SnapshotInfo ... depth first; their `disks` only from `read_snapshot`

A value shows a VM as it was when it was read: read it again before acting on it. Sizes are bytes,
memory is MiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from vreplica.vsphere.names import escape, is_path_end, same_name, split_path

PowerState = Literal["poweredOn", "poweredOff", "suspended"]


def datastore_of(path: str) -> str:
    """Returns the datastore of a path: `[ds1] web/web.vmdk` -> `ds1`."""
    return split_path(path)[0]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A vCenter or ESXi host to log in to. `sha256`: the certificate's pin, colons or not."""

    host: str
    user: str
    password: str = field(repr=False)
    sha256: str
    port: int = 443
    site: str = field(default="", compare=False)
    """The name that people gave it; for messages only."""

    @property
    def label(self) -> str:
        """Its name for people: of the site, else of the host."""
        return self.site or self.host


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Product, version and identity of a server. `instance_uuid` is None on an ESXi host."""

    name: str
    version: str
    build: str
    instance_uuid: str | None
    is_vcenter: bool


@dataclass(frozen=True, slots=True)
class VmRef:
    """A VM by its id. `name` is for messages only."""

    moref: str
    name: str


@dataclass(frozen=True, slots=True)
class VmLocation:
    """The host that a VM is registered on, the datastores of its files, and its power state."""

    vm: VmRef
    instance_uuid: str | None
    host: str | None
    datastores: tuple[str, ...]
    power_state: str = ""
    """As vCenter has it; empty where it does not say."""


@dataclass(frozen=True, slots=True)
class Controller:
    """A storage controller.

    type: pvscsi, lsilogic, lsilogic-sas, buslogic, sata, nvme, ide, or pyVmomi's class name.
    shared_bus: noSharing, physicalSharing or virtualSharing (SCSI and NVMe).
    """

    key: int
    type: str
    bus_number: int
    shared_bus: str = "noSharing"
    label: str = ""


@dataclass(frozen=True, slots=True)
class VmDisk:
    """A virtual disk. `uuid` and `disk_object_id` identify it; `key` is only a position.

    mode: persistent, independent_persistent, independent_nonpersistent, nonpersistent, ...
    sharing: sharingNone or sharingMultiWriter.
    backing: flat, sparse, sesparse, rdm-virtual, rdm-physical, raw, pmem, or a class name.
    """

    key: int
    label: str
    capacity_bytes: int
    path: str
    uuid: str | None
    disk_object_id: str | None
    mode: str
    sharing: str
    thin: bool
    backing: str
    controller_key: int
    controller_type: str
    bus_number: int
    unit_number: int
    change_id: str | None
    shared_bus: str = "noSharing"
    eagerly_scrub: bool = False
    sector_format: str = ""
    """As the server has it, `native_4k` and the like; empty where it says nothing: 512 bytes."""
    chain_issue: str = ""
    """What is wrong with its chain of files, where the server says so."""
    encrypted: bool = False
    guest_read_only: bool = False
    parents: tuple[str, ...] = ()
    """Paths of the links below, nearest first: empty for a disk without snapshots."""

    @property
    def datastore(self) -> str:
        return datastore_of(self.path)

    @property
    def is_4kn(self) -> bool:
        """True where its sectors have 4,096 bytes for the guest."""
        form = self.sector_format.lower()
        return "4k" in form and "512" not in form

    @property
    def position(self) -> tuple[str, int, int]:
        """The place where the guest sees it: controller type, bus, unit."""
        return self.controller_type, self.bus_number, self.unit_number


@dataclass(frozen=True, slots=True)
class Nic:
    """A network card. `network`: the name of its network, None where it is not known."""

    key: int
    label: str
    type: str
    mac: str | None
    network: str | None
    connected: bool
    start_connected: bool
    controller_key: int | None = None
    unit_number: int | None = None
    network_moref: str | None = None

    def is_on(self, network: str | None) -> bool:
        """True where the card is on this network, given by name or moref."""
        if network is None or self.network is None:
            return network is self.network
        return network == self.network_moref or same_name(network, self.network)


def mapped_network(nic: Nic, networks: Mapping[str, str]) -> str | None:
    """Returns the destination's network for a card of the source: by name, moref or path of its own
    network in `networks`; one that is missing there has its own name at the destination."""
    here = nic.network or ""
    for name, there in networks.items():
        if same_name(name, here) or name == nic.network_moref:
            return there
    for name, there in networks.items():
        if "/" in name and here and is_path_end(escape(here), name):
            return there
    return nic.network


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot. `disks` and `extra_config` are its own frozen configuration (`read_snapshot`)."""

    moref: str
    name: str
    description: str
    parent: str | None
    created: datetime
    quiesced: bool
    """Quiescing was asked for. `quiesce_evidence` returns the level that is proved."""
    backup_manifest: str | None
    disks: tuple[VmDisk, ...] = ()
    extra_config: Mapping[str, str] = field(default_factory=dict)
    vss_writers: tuple[str, ...] | None = None
    """VSS writers with a document in the backup manifest; None: no manifest, or not read."""
    vss_problem: str | None = None
    """The reason why a manifest could not be read."""
    power_state: str = "poweredOff"
    """Power state that a revert brings back; `poweredOn` only with memory."""


@dataclass(frozen=True, slots=True)
class NotCarried:
    """One thing of a source that its replica does not get, and what that means at a failover.

    key: vtpm, nvram, device or setting.
    """

    what: str
    means: str
    key: str = "device"

    def __str__(self) -> str:
        return f"{self.what}: {self.means}"


@dataclass(frozen=True, slots=True)
class VmInfo:
    """A VM as it was at the moment of reading."""

    ref: VmRef
    instance_uuid: str | None
    bios_uuid: str | None
    vmx_path: str
    guest_id: str
    guest_family: Literal["windows", "linux", "other"]
    power_state: PowerState
    tools_running: bool
    tools_status: str
    hw_version: str
    cpus: int
    cores_per_socket: int
    memory_mib: int
    firmware: str
    secure_boot: bool
    cbt_supported: bool
    cbt_enabled: bool
    disks: tuple[VmDisk, ...]
    controllers: tuple[Controller, ...]
    nics: tuple[Nic, ...]
    snapshots: tuple[SnapshotInfo, ...]
    current_snapshot: str | None
    host: str | None
    datastores: tuple[str, ...]
    extra_config: Mapping[str, str]
    consolidation_needed: bool
    connection_state: str
    is_template: bool
    storage_committed_bytes: int = 0
    """Space that it takes on its datastores, as vCenter last summed it up; 0 where unknown."""
    annotation: str = ""
    memory_hot_add: bool = False
    cpu_hot_add: bool = False
    nested_hv: bool = False
    vbs: bool = False
    encrypted: bool = False
    has_vtpm: bool = False
    disk_only_snapshot_when_suspended: bool = False
    snapshots_supported: bool = True
    fault_tolerant: bool = False
    not_carried: tuple[NotCarried, ...] = ()
    """What a replica of it does not get (inventory/not_carried.py)."""
    datastore_morefs: Mapping[str, str] = field(default_factory=dict)
    """Datastore name -> moref: another datacenter may have a datastore of the same name."""
    change_version: str = ""
    """Names this state of the configuration; every change of it gives another. An opaque value."""

    @property
    def name(self) -> str:
        return self.ref.name

    @property
    def home_datastore(self) -> str:
        """The datastore of its configuration file."""
        return datastore_of(self.vmx_path)

    def disk(self, key: int) -> VmDisk:
        """Returns the disk with this device key. Raises KeyError."""
        for disk in self.disks:
            if disk.key == key:
                return disk
        raise KeyError(key)


@dataclass(frozen=True, slots=True)
class VmOptions:
    """The extraConfig of a VM, with the disks and the snapshot that it stood on then."""

    change_version: str
    """Of the configuration that these values are from; `set_extra_config` takes it."""
    extra_config: Mapping[str, str]
    current_snapshot: str | None
    disks: Mapping[int, str]
    """Key of a disk -> path of the file that it writes to."""


@dataclass(frozen=True, slots=True)
class GuestState:
    """The state that a guest reports of itself.

    guest_state: running, shuttingDown, resetting, standby, notRunning, unknown.
    heartbeat: green (good), yellow, red, or gray (no heartbeat: no Tools, or just started).
    """

    power_state: PowerState
    tools_running: bool
    tools_status: str
    guest_state: str
    heartbeat: str
    host_name: str | None
    ip_address: str | None
    question: str | None
    customization: str = ""
    """IDLE, PENDING, RUNNING, SUCCEEDED, FAILED; empty where vCenter says nothing."""
    customization_error: str | None = None


@dataclass(frozen=True, slots=True)
class DatastoreInfo:
    name: str
    moref: str
    capacity_bytes: int
    free_bytes: int
    type: str
    accessible: bool = True
    path: str = ""


@dataclass(frozen=True, slots=True)
class HostInfo:
    name: str
    moref: str
    connection_state: str
    power_state: str
    in_maintenance: bool
    version: str
    datastores: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    name: str
    moref: str
    type: Literal["standard", "distributed", "opaque"]
    path: str = ""

    def is_named(self, text: str) -> bool:
        """True where a job's name, moref or path of a network means this one."""
        return same_name(self.name, text) or self.moref == text or is_path_end(text, self.path)


@dataclass(frozen=True, slots=True)
class QuiesceOptions:
    """Options of quiescing. `windows`: with VSS (copy backup). `timeout_min`: 5 to 240."""

    timeout_min: int = 10
    windows: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotRemoval:
    """Result of removing a snapshot. `existed` is False where it was gone already."""

    existed: bool
    seconds: float
    consolidated: bool


@dataclass(frozen=True, slots=True)
class KeepIdentity:
    """The hardware identity of a replica. True: its source's; False: its own; None: as it is."""

    bios_uuid: bool | None = True
    """Guests identify their machine by it (licences, cloud-init)."""
    mac: bool | None = False


KEEP_AS_IS: Final = KeepIdentity(None, None)


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """A replica to create like `source`. Places are given by name; None: the only one there is.

    networks: source network name -> destination network name; a network that is missing here has
    its own name at the destination. thin: None means as the source's disks are.
    """

    name: str
    source: VmInfo
    datastore: str
    host: str | None = None
    resource_pool: str | None = None
    folder: str | None = None
    networks: Mapping[str, str] = field(default_factory=dict)
    extra_config: Mapping[str, str] = field(default_factory=dict)
    exclude_disks: frozenset[int] = frozenset()
    thin: bool | None = True
    annotation: str = ""
    keep: KeepIdentity = field(default_factory=KeepIdentity)
    track_changes: bool = False
    """Track changes of the replica itself, so that foreign changes are noticed."""
    new_vtpm: bool = False
    """Add a new, empty virtual TPM where the source has one; vCenter then encrypts the home."""
    storage_policy: str | None = None
    """Id of the storage policy of the VM and its disks; None: the datastore's default."""
    must_encrypt: bool = False
    """The disks have to be encrypted: a policy that does not do that is an error."""
    network_optional: bool = False
    """True: a NIC without a destination network is left out. False: it is refused."""


@dataclass(frozen=True, slots=True)
class NewDisk:
    """A disk for a replica, at the place that `like` has on the source.

    path: the file, `[datastore] folder/name.vmdk`. exists: it is attached; else it is made, thin.
    """

    like: VmDisk
    path: str
    exists: bool
    any_size: bool = False
    """Attach it even where its size differs from that of `like`; the result has its size."""


@dataclass(frozen=True, slots=True)
class ReshapeSpec:
    """The hardware that a replica is to get: that of `source`.

    detach: keys of disks to detach; their files stay.
    """

    source: VmInfo
    networks: Mapping[str, str] = field(default_factory=dict)
    keep: KeepIdentity = KEEP_AS_IS
    detach: tuple[int, ...] = ()
    attach: tuple[NewDisk, ...] = ()


@dataclass(frozen=True, slots=True)
class MissingPrivileges:
    """Privileges that the account does not have on one object."""

    what: str
    """`VM web01`, `datastore ds1`"""
    privileges: tuple[str, ...]
    only_for: str = ""
    """The feature that needs them; empty where every run does."""


@dataclass(frozen=True, slots=True)
class ReplicaPlacement:
    """The place where a replica would be created.

    lacks: the privileges that are missing there. unsupported: what the host does not have that the
    source needs, as sentences.
    """

    host: str
    datastore: DatastoreInfo
    lacks: tuple[MissingPrivileges, ...] = ()
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GuestLogin:
    """An account of the guest, not of vCenter, that runs scripts."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NicRule:
    """The address of a network card, with prefix length (`10.2.0.5/24`); None: DHCP."""

    ip: str | None = None
    gateway: str | None = None
    dns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GuestCustomization:
    """Host name and addresses of a guest at another site.

    nics: in the order of the VM's cards. A card without a rule stays as it is (by script) or uses
    DHCP (by specification).
    """

    hostname: str | None = None
    domain: str | None = None
    nics: tuple[NicRule, ...] = ()


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """Result of a script in a guest. `exit_code` is None where it timed out or is not known."""

    exit_code: int | None
    output: str
    truncated: bool
    seconds: float

    def to_dict(self) -> dict[str, object]:
        return {
            "exit_code": self.exit_code,
            "output": self.output,
            "truncated": self.truncated,
            "duration_s": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One of the server's tasks. state: queued, running, success or error."""

    key: str
    operation: str
    entity: str
    entity_moref: str | None
    state: str
    user: str | None
    queued: datetime
    started: datetime | None
    completed: datetime | None
    progress: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One of the server's events."""

    key: int
    type: str
    time: datetime
    user: str
    vm: str | None
    message: str
