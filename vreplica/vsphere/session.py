"""A session with a vCenter or ESXi host: the part of this package that others use.

    with connect(Endpoint("vc.example", "backup@vsphere.local", password, sha256)) as session:
        vm = session.find_vm("web01")
        snapshot = session.create_snapshot(vm, "daily", "", Quiesce(windows=False))

What only asks is in `reading`; the changes are here, and are sent once. All methods may be called
from several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vreplica.vsphere.connection.tasks import PATIENCE_S, WaitLimits
from vreplica.vsphere.connection.vmomi import utc, vim
from vreplica.vsphere.inventory import (
    guest,
    history,
    placement,
    privileges,
    tree,
    vm,
)
from vreplica.vsphere.inventory import snapshots as snapshot_reads
from vreplica.vsphere.model import (
    DatastoreInfo,
    Endpoint,
    EventRecord,
    GuestCustomization,
    GuestLogin,
    GuestState,
    HostInfo,
    KeepIdentity,
    MissingPrivileges,
    NetworkInfo,
    Nic,
    PowerState,
    QuiesceOptions,
    ReplicaPlacement,
    ReplicaSpec,
    ReshapeSpec,
    ScriptResult,
    ServerInfo,
    SnapshotInfo,
    SnapshotRemoval,
    TaskRecord,
    VmInfo,
    VmLocation,
    VmRef,
)
from vreplica.vsphere.operations import (
    cbt,
    clone,
    create_replica,
    customize,
    disk_files,
    hardware_identity,
    nics,
    power,
    reshape,
    snapshots,
)

if TYPE_CHECKING:
    from vreplica.extents import Extents
    from vreplica.vsphere.connection.link import ServerLink

SHORT_S = 600.0
"""For tasks that only change configuration or power, and for one answer of change tracking."""
LONG_S = 24 * 3600.0
"""For tasks that merge disks: a large delta on a slow datastore takes hours."""


def connect(
    endpoint: Endpoint,
    *,
    timeout_s: float = 30,
    reply_timeout_s: float = 300,
    patience_s: float = PATIENCE_S,
) -> Session:
    """Compare the certificate with the pin, then log in.

    timeout_s: for connecting; reply_timeout_s: for one answer; patience_s: how long a wait for
    a task goes on while the server cannot be reached. Raises HostUnreachable,
    CertificateChanged (before the password is sent), LoginFailed, NotVSphere.
    """
    # TLS, HTTP and pyVmomi are loaded by whoever connects: see `connection.vmomi`.
    from vreplica.vsphere.connection.link import ServerLink

    link = ServerLink(endpoint, timeout_s=timeout_s, reply_timeout_s=reply_timeout_s)
    return Session(link, patience_s=patience_s)


class Session:
    """Made by `connect`; a context manager, which logs out at the end."""

    def __init__(self, link: ServerLink, *, patience_s: float = PATIENCE_S) -> None:
        self._link = link
        self._patience_s = patience_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session of {self.endpoint.user} at {self.endpoint.host}>"

    def close(self) -> None:
        """Log out. Never raises for a server that is gone."""
        self._link.close()

    def _limits(self, timeout_s: float) -> WaitLimits:
        return WaitLimits(timeout_s, self._patience_s)

    # -- the server ---------------------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint:
        return self._link.endpoint

    @property
    def thumbprint_sha1(self) -> str:
        """Of the pinned certificate, as `AA:BB:..`: what VDDK identifies the server by."""
        return self._link.thumbprint_sha1

    @property
    def about(self) -> ServerInfo:
        about = self._link.content.about
        is_vcenter = about.apiType == "VirtualCenter"
        return ServerInfo(
            name=about.fullName or about.name,
            version=about.version,
            build=about.build,
            instance_uuid=about.instanceUuid if is_vcenter else None,
            is_vcenter=is_vcenter,
        )

    @property
    def service_instance(self) -> Any:
        """pyVmomi's ServiceInstance on this session's pinned connection, for calls that are not
        here (NFC tickets). Such calls neither log in again nor map faults: `refresh` first."""
        return self._link.managed(vim.ServiceInstance, "ServiceInstance")

    def refresh(self) -> datetime:
        """A harmless call that logs in again where the session ended; the server's clock."""
        return utc(self._link.ask("asking for the time", self.service_instance.CurrentTime))

    # -- finding and reading ------------------------------------------------------------------

    def find_vm(self, ref: str) -> VmRef:
        """By name, inventory path, moref or instance UUID. Raises VmNotFound, AmbiguousVm."""
        return tree.find_vm(self._link, ref)

    def vms(self) -> tuple[tuple[VmRef, str], ...]:
        """Every VM that is no template, with its inventory path, by name."""
        return tree.vms(self._link)

    def read_vm(self, vm_ref: VmRef, snapshot_moref: str | None = None) -> VmInfo:
        """Everything about a VM, fresh, in one read; or with what a snapshot of it froze."""
        return vm.read_vm(self._link, vm_ref, snapshot_moref)

    def read_guest(self, vm_ref: VmRef) -> GuestState:
        """Power state, Tools, heartbeat and any open question, fresh."""
        return guest.read_guest(self._link, vm_ref)

    def datastores(self) -> tuple[DatastoreInfo, ...]:
        return tree.datastores(tree.places(self._link))

    def hosts(self) -> tuple[HostInfo, ...]:
        return tree.hosts(tree.places(self._link))

    def vm_locations(self) -> tuple[VmLocation, ...]:
        """Where every VM is, read in one go."""
        return tree.vm_locations(self._link)

    def networks(self) -> tuple[NetworkInfo, ...]:
        return tree.networks(tree.places(self._link))

    def missing_privileges(self, vm_ref: VmRef) -> tuple[MissingPrivileges, ...]:
        """Privileges that a source VM needs and this account does not hold there."""
        return privileges.of_source(self._link, vm_ref)

    def check_placement(self, spec: ReplicaSpec) -> None:
        """Raises PlacementNotFound, PlacementAmbiguous where `create_replica` would."""
        placement.choose(self.endpoint.host, tree.places(self._link), spec)

    def placement_of(self, spec: ReplicaSpec) -> ReplicaPlacement:
        """Where `create_replica` would put it. Raises PlacementNotFound, PlacementAmbiguous."""
        return privileges.of_place(self._link, spec)

    # -- snapshots and what changed -----------------------------------------------------------

    def read_snapshot(self, vm_ref: VmRef, moref: str) -> SnapshotInfo:
        """With its disks. Raises ObjectGone."""
        return snapshot_reads.read_snapshot(self._link, vm_ref, moref)

    def read_snapshots(self, vm_ref: VmRef) -> tuple[SnapshotInfo, ...]:
        """All of a VM's snapshots with their disks, depth first, in one read."""
        return snapshot_reads.read_all(self._link, vm_ref)

    def changed_extents(
        self,
        vm_ref: VmRef,
        snapshot_moref: str | None,
        disk_key: int,
        change_id: str,
        capacity_bytes: int,
    ) -> Extents:
        """What changed on a disk between `change_id` and a snapshot, whole and checked.

        `*` asks for areas in use. Without a snapshot the VM has to be off. Raises
        ChangeIdInvalid, CbtQueryFailed, CbtCoverage: read the disk in full after each of them.
        """
        # It computes with numpy, which nothing else here needs.
        from vreplica.vsphere.inventory import changed_areas

        limits = self._limits(SHORT_S)
        link = self._link
        return changed_areas.changed_extents(
            link, vm_ref, snapshot_moref, disk_key, change_id, capacity_bytes, limits
        )

    # -- power --------------------------------------------------------------------------------

    def power_state(self, vm_ref: VmRef) -> PowerState:
        """Fresh."""
        return guest.power_state(self._link, vm_ref)

    def wait_power(
        self,
        vm_ref: VmRef,
        wanted: PowerState,
        timeout_s: float,
        *,
        on_tick: Callable[[float, GuestState], None] | None = None,
    ) -> None:
        """Wait for a power state; `on_tick(seconds left, guest)`. Raises PowerTimeout."""
        guest.wait_power(self._link, vm_ref, wanted, timeout_s, on_tick)

    def wait_guest(
        self,
        vm_ref: VmRef,
        timeout_s: float,
        *,
        heartbeat: bool = True,
        on_tick: Callable[[float, GuestState], None] | None = None,
    ) -> GuestState:
        """Wait for running Tools and a good heartbeat. Raises PowerTimeout."""
        return guest.wait_guest(self._link, vm_ref, timeout_s, heartbeat=heartbeat, on_tick=on_tick)

    # -- the server's own records -------------------------------------------------------------

    def recent_tasks(self, vm_ref: VmRef | None = None) -> tuple[TaskRecord, ...]:
        """vCenter's own recent tasks, oldest first."""
        return history.recent_tasks(self._link, vm_ref)

    def tasks_between(
        self, vm_ref: VmRef, begin: datetime, end: datetime
    ) -> tuple[TaskRecord, ...]:
        """vCenter's tasks of a VM that were queued in a time (by its own clock), oldest first;
        as far back as it keeps them."""
        return history.tasks_between(self._link, vm_ref, begin, end)

    def take_started_tasks(self) -> tuple[str, ...]:
        """Keys of the tasks that this session has started since this was asked last."""
        found = tuple(self._link.started)
        del self._link.started[: len(found)]
        return found

    def events(
        self, vm_ref: VmRef | None = None, *, since: datetime | None = None
    ) -> tuple[EventRecord, ...]:
        """vCenter's own events, oldest first."""
        return history.events(self._link, vm_ref, since)

    def events_between(
        self, vm_ref: VmRef, begin: datetime, end: datetime, types: Sequence[str]
    ) -> tuple[EventRecord, ...]:
        """vCenter's events of a VM in a time (by its own clock); `types`: their names in the API,
        as `VmPoweredOnEvent`."""
        return history.events_between(self._link, vm_ref, begin, end, types)

    # -- snapshots ----------------------------------------------------------------------------

    def create_snapshot(
        self,
        vm_ref: VmRef,
        name: str,
        description: str = "",
        quiesce: QuiesceOptions | None = None,
    ) -> SnapshotInfo:
        """Without memory; waits; the answer has the snapshot's disks and changeIds.

        Raises ToolsUnavailable, QuiesceFailed, SnapshotFailed, DatastoreFull, VmBusy ...
        """
        slack = SHORT_S + (quiesce.timeout_min * 60 if quiesce else 0)
        limits = self._limits(slack)
        return snapshots.create(self._link, vm_ref, name, description, quiesce, limits)

    def remove_snapshot(self, vm_ref: VmRef, moref: str) -> SnapshotRemoval:
        """Waits for other tasks of the VM, for this one, and for consolidation."""
        return snapshots.remove(self._link, vm_ref, moref, self._limits(LONG_S))

    def revert_to_snapshot(self, vm_ref: VmRef, moref: str) -> None:
        """The VM is off afterwards."""
        snapshots.revert(self._link, vm_ref, moref, self._limits(LONG_S))

    def consolidate(self, vm_ref: VmRef) -> bool:
        """Merge what an earlier removal left; False where nothing was to be done."""
        return snapshots.consolidate(self._link, vm_ref, self._limits(LONG_S))

    # -- changed block tracking ---------------------------------------------------------------

    def enable_cbt(self, vm_ref: VmRef) -> bool:
        """Switch tracking on and read it back; False where it was on.

        Raises CbtEnableRefused while snapshots exist, CbtUnsupported, CbtNotActive. That it is
        active shows in the changeId of the snapshot taken next (`require_change_id`).
        """
        return cbt.enable(self._link, vm_ref, self._limits(SHORT_S))

    def disable_cbt(self, vm_ref: VmRef) -> None:
        """The first half of a reset of the tracking: off, snapshot, on, snapshot."""
        cbt.disable(self._link, vm_ref, self._limits(SHORT_S))

    # -- power --------------------------------------------------------------------------------

    def power_on(self, vm_ref: VmRef) -> None:
        """Nothing happens where it is on."""
        power.on(self._link, vm_ref, self._limits(SHORT_S))

    def power_off(self, vm_ref: VmRef) -> None:
        """Hard. Nothing happens where it is off."""
        power.off(self._link, vm_ref, self._limits(SHORT_S))

    def shutdown_guest(self, vm_ref: VmRef) -> None:
        """Ask the guest; returns at once. Raises ToolsUnavailable."""
        power.shutdown_guest(self._link, vm_ref)

    # -- replicas -----------------------------------------------------------------------------

    def create_replica(self, spec: ReplicaSpec) -> VmRef:
        """A VM like `spec.source` with empty disks, powered off, NICs disconnected."""
        return create_replica.create(self._link, spec, self._limits(LONG_S))

    def reshape_replica(self, vm_ref: VmRef, want: ReshapeSpec) -> VmInfo:
        """Change hardware and disks of a powered-off replica to what its source has."""
        return reshape.apply(self._link, vm_ref, want, self._limits(SHORT_S))

    def set_hardware_identity(self, vm_ref: VmRef, source: VmInfo, keep: KeepIdentity) -> None:
        """Give a powered-off replica BIOS UUID and MAC addresses as they are wanted."""
        hardware_identity.apply(self._link, vm_ref, source, keep, self._limits(SHORT_S))

    def upgrade_hardware(self, vm_ref: VmRef, source: VmInfo) -> None:
        """Give a powered-off replica its source's virtual hardware version, where newer."""
        reshape.upgrade(self._link, vm_ref, source, self._limits(SHORT_S))

    def copy_disk(self, vm_ref: VmRef, source: str, target: str) -> None:
        """A new base disk with what a disk's whole chain holds, made by the host itself."""
        disk_files.copy(self._link, vm_ref, source, target, self._limits(LONG_S))

    def extend_disk(self, vm_ref: VmRef, path: str, capacity_bytes: int) -> None:
        """Grow a base disk that no VM has, to whole KiB."""
        disk_files.extend(self._link, vm_ref, path, capacity_bytes, self._limits(SHORT_S))

    def delete_disk(self, vm_ref: VmRef, path: str) -> bool:
        """Delete the files of a disk that no VM has; False where there were none."""
        return disk_files.delete(self._link, vm_ref, path, self._limits(SHORT_S))

    def set_nics(
        self, vm_ref: VmRef, *, connect: bool, networks: Mapping[str, str] | None = None
    ) -> tuple[Nic, ...]:
        """Connect or disconnect all network cards, after attaching them elsewhere by `networks`
        (name now -> name then). Raises PlacementNotFound. Returns the cards as they are then."""
        limits = self._limits(SHORT_S)
        return nics.change(self._link, vm_ref, connect, networks or {}, limits)

    def clone_linked(
        self,
        vm_ref: VmRef,
        snapshot_moref: str,
        name: str,
        *,
        extra_config: Mapping[str, str],
        bios_uuid: str | None = None,
    ) -> VmRef:
        """A throw-away VM on a snapshot, off, its cards disconnected; vCenter only."""
        limits, link = self._limits(SHORT_S), self._link
        return clone.linked(link, vm_ref, snapshot_moref, name, extra_config, bios_uuid, limits)

    def attach_nics(self, vm_ref: VmRef, network: str) -> tuple[Nic, ...]:
        """All cards of a VM that is off onto one network, with new MAC addresses, connected at
        power-on. Raises PlacementNotFound."""
        return nics.attach_all(self._link, vm_ref, network, self._limits(SHORT_S))

    def set_extra_config(self, vm_ref: VmRef, options: Mapping[str, str]) -> None:
        """Set entries of the VM's extraConfig; an empty value removes one."""
        create_replica.set_extra_config(self._link, vm_ref, options, self._limits(SHORT_S))

    def destroy_vm(self, vm_ref: VmRef) -> None:
        """Remove a powered-off VM with its files: a replica that never got a point, a test VM."""
        create_replica.destroy(self._link, vm_ref, self._limits(SHORT_S))

    # -- in the guest -------------------------------------------------------------------------

    def customize_guest(self, vm_ref: VmRef, spec: str | GuestCustomization) -> None:
        """A host name and addresses for the next boot of a VM that is off: a specification by its
        name in vCenter, or rules for a Linux guest. Nothing happens where one is pending.

        Raises NoSpecification, CustomizationRefused.
        """
        customize.apply(self._link, vm_ref, spec, self._limits(SHORT_S))

    def run_script(
        self,
        vm_ref: VmRef,
        login: GuestLogin,
        script: bytes,
        *,
        windows: bool,
        suffix: str = "",
        timeout_s: float = 300.0,
    ) -> ScriptResult:
        """Run a script in the guest through VMware Tools and wait for its end.

        Raises GuestLoginRefused, GuestOperationsUnavailable.
        """
        # It connects to the VM's host by itself: see `connect`.
        from vreplica.vsphere.operations import guest_ops

        return guest_ops.run_script(
            self._link, vm_ref, login, script, windows=windows, suffix=suffix, timeout_s=timeout_s
        )
