"""A session with a vCenter or ESXi host: the part of this package that others use.

    with connect(Endpoint("vc.example", "backup@vsphere.local", password, sha256)) as session:
        vm = session.find_vm("web01")
        snapshot = session.create_snapshot(vm, "daily", "", QuiesceOptions(windows=False))

A read is repeated where its connection breaks or its login has ended. A change is sent once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vreplica.redact import hide
from vreplica.vsphere.connection import fit
from vreplica.vsphere.connection.look import Look
from vreplica.vsphere.connection.tasks import PATIENCE_S, WaitLimits
from vreplica.vsphere.connection.vmomi import utc, vim
from vreplica.vsphere.errors import BadReply, HostUnreachable
from vreplica.vsphere.inventory import (
    disk_layers,
    find,
    guest,
    history,
    host_clock,
    host_support,
    placement,
    privileges,
    tree,
    vm,
)
from vreplica.vsphere.inventory.snapshots import read_snapshot, read_snapshots
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
    VmOptions,
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
    vm_files,
)

if TYPE_CHECKING:
    from vreplica.extents import Extents
    from vreplica.vsphere.connection.link import ServerLink

SHORT_S = 600.0
"""For tasks that only change configuration or power, and for one answer of change tracking."""
LONG_S = 24 * 3600.0
"""For tasks that copy or merge disks: a large delta on a slow datastore takes hours."""


def connect(
    endpoint: Endpoint,
    *,
    timeout_s: float = 30,
    reply_timeout_s: float = 300,
    patience_s: float = PATIENCE_S,
) -> Session:
    """Compares the certificate with its pin, then logs in.

    timeout_s: for connecting. reply_timeout_s: for one answer. patience_s: how long a wait for
    a task goes on while the server cannot be reached.

    Raises HostUnreachable, CertificateChanged (before the password is sent), LoginFailed,
    NotVSphere.
    """
    # Imported here: a program that does not connect does not load TLS, HTTP and pyVmomi.
    from vreplica.vsphere.connection.link import ServerLink

    try:
        link = ServerLink(endpoint, timeout_s=timeout_s, reply_timeout_s=reply_timeout_s)
    except HostUnreachable as error:
        error.site = endpoint.site
        raise
    return Session(link, patience_s=patience_s)


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that raises BadReply for an answer whose values cannot be what they say.

    Their types are known to fit (`connection/fit.py`); but any may be unset, name what is not there
    or fit into no calculation. An error that no value explains is ours and stays what it is.
    """

    @wraps(method)
    def call(self: Session, *arguments: Any, **more: Any) -> Any:
        try:
            return method(self, *arguments, **more)
        except fit.UNFIT as error:
            if not fit.is_of_an_answer(error):
                raise
            operation = method.__name__.replace("_", " ")
            reason = hide(f"{type(error).__name__}: {error}")[:300]
            raise BadReply(self.endpoint.host, operation, reason) from error

    return call


def _all_checked(kind: type[Session]) -> type[Session]:
    for name, value in list(vars(kind).items()):
        if name.startswith("_"):
            continue
        if callable(value):
            setattr(kind, name, _checked(value))
        elif name == "about":
            setattr(kind, name, property(_checked(value.fget), doc=value.__doc__))
    return kind


@_all_checked
class Session:
    """A logged-in session, made by `connect`; several threads may use it.

    It is a context manager, which logs out at the end. Methods that change something wait until
    it is done, unless they say otherwise.
    """

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
        """Logs out. Never raises for a server that is gone."""
        self._link.close()

    def _limits(self, timeout_s: float) -> WaitLimits:
        return WaitLimits(timeout_s, self._patience_s)

    # -- the server ---------------------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint:
        """The server and the login that this session was made with."""
        return self._link.endpoint

    @property
    def thumbprint_sha1(self) -> str:
        """SHA-1 thumbprint of the pinned certificate, `AA:BB:..`: VDDK names servers by it."""
        return self._link.thumbprint_sha1

    @property
    def about(self) -> ServerInfo:
        """Product, version and identity of the server."""
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
        """pyVmomi's ServiceInstance on the pinned connection, for calls without a method here.

        NFC tickets need it. Such calls neither log in again nor map faults: call `refresh` first.
        """
        return self._link.managed(vim.ServiceInstance, "ServiceInstance")

    def refresh(self) -> datetime:
        """Reads the server's clock, and logs in again where the session has ended."""
        return utc(self._link.ask("asking for the time", self.service_instance.CurrentTime))

    def server_time(self) -> datetime:
        """Tells the server's clock without asking: its time at the login, and what passed since."""
        return self._link.server_time() or self.refresh()

    def host_clock_ahead(self, vm_ref: VmRef) -> timedelta:
        """How far the clock of the VM's host is ahead of the server's; 0 where nobody can say.

        Tasks and events have the server's times, snapshots those of the VM's host.
        """
        return host_clock.clock_ahead(self._link, vm_ref)

    # -- finding and reading ------------------------------------------------------------------

    def find_vm(self, ref: str) -> VmRef:
        """Finds a VM by name, inventory path, moref or instance UUID.

        Raises VmNotFound, AmbiguousVm.
        """
        return find.find_vm(self._link, ref)

    def look_up_vm(self, ref: str) -> VmRef | None:
        """As `find_vm`; None where there is no such VM. Raises AmbiguousVm."""
        return find.look_up_vm(self._link, ref)

    def find_by_uuid(self, instance_uuid: str) -> VmRef | None:
        """Finds a VM by its instance UUID, which stays when it is renamed or moved."""
        return find.find_by_uuid(self._link, instance_uuid)

    def find_marked(self, options: Mapping[str, str]) -> tuple[VmRef, ...]:
        """Finds the VMs with a snapshot whose extraConfig has all these values, in two reads."""
        return find.find_marked(self._link, options)

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Inside, places, folders, names and privileges are read once, for all that ask.

        For what looks only: a check, a plan. What changes something reads anew.
        """
        before = self._link.look
        self._link.look = before or Look()
        try:
            yield
        finally:
            self._link.look = before

    def vms(self) -> tuple[tuple[VmRef, str], ...]:
        """Lists every VM that is no template, with its inventory path, by name."""
        return tree.list_vms(self._link)

    def read_vm(self, vm_ref: VmRef, snapshot_moref: str | None = None) -> VmInfo:
        """Reads a whole VM as it is now, or with the configuration that a snapshot holds."""
        return vm.read_vm(self._link, vm_ref, snapshot_moref)

    def read_options(self, vm_ref: VmRef) -> VmOptions:
        """Reads a VM's extraConfig, and on which disk files and snapshot the VM stands."""
        return vm.read_options(self._link, vm_ref)

    def read_guest(self, vm_ref: VmRef) -> GuestState:
        """Reads power state, Tools, heartbeat and any open question."""
        return guest.read_guest(self._link, vm_ref)

    def datastores(self) -> tuple[DatastoreInfo, ...]:
        """Lists the datastores by name."""
        return tree.datastores(tree.read_places(self._link))

    def hosts(self) -> tuple[HostInfo, ...]:
        """Lists the ESXi hosts by name."""
        return tree.hosts(tree.read_places(self._link))

    def vm_locations(self) -> tuple[VmLocation, ...]:
        """Reads the host and the datastores of every VM, all at once."""
        return tree.vm_locations(self._link)

    def networks(self) -> tuple[NetworkInfo, ...]:
        """Lists the networks by name."""
        return tree.networks(tree.read_places(self._link))

    def missing_privileges(self, source: VmInfo) -> tuple[MissingPrivileges, ...]:
        """Lists the privileges that a source VM needs and this account does not have."""
        encrypted = source.encrypted or any(d.encrypted for d in source.disks)
        return privileges.missing_on_source(self._link, source.ref, encrypted=encrypted)

    def placement_of(self, spec: ReplicaSpec, *, asks_privileges: bool = True) -> ReplicaPlacement:
        """Says where `create_replica` would put a replica, and what is missing there.

        Raises PlacementNotFound, PlacementAmbiguous.
        """
        places = tree.read_places(self._link)
        place = placement.choose(self.endpoint.host, places, spec)
        lacks: tuple[MissingPrivileges, ...] = ()
        if asks_privileges:
            lacks = privileges.missing_at_placement(self._link, places, place)
        return ReplicaPlacement(
            places.name(place.host),
            tree.datastore_info(places, place.store),
            lacks,
            host_support.unsupported(self._link, places, place, spec.source),
        )

    def network_of_host(self, vm_ref: VmRef, wanted: str) -> NetworkInfo:
        """Finds a network that the VM's host reaches, by name, path or moref.

        Raises PlacementNotFound, PlacementAmbiguous.
        """
        return nics.network_of_host(self._link, vm_ref, wanted)

    # -- snapshots and what changed -----------------------------------------------------------

    def read_snapshot(self, vm_ref: VmRef, moref: str) -> SnapshotInfo:
        """Reads one snapshot with its disks. Raises ObjectGone."""
        return read_snapshot(self._link, vm_ref, moref)

    def read_snapshots(self, vm_ref: VmRef) -> tuple[SnapshotInfo, ...]:
        """Reads all snapshots of a VM with their disks, depth first, in one call."""
        return read_snapshots(self._link, vm_ref)

    def changed_extents(
        self,
        vm_ref: VmRef,
        snapshot_moref: str | None,
        disk_key: int,
        change_id: str,
        capacity_bytes: int,
    ) -> Extents:
        """Reads what changed on a disk between `change_id` and a snapshot, whole and checked.

        change_id: `*` asks for the areas in use. snapshot_moref: None asks about now, and the VM
        has to be off.

        Raises ChangeIdInvalid, CbtQueryFailed, CbtCoverage: after each of them the disk has to be
        read in full.
        """
        # Imported here: it loads numpy, which nothing else in this module needs.
        from vreplica.vsphere.inventory import changed_areas

        question = changed_areas.ChangesQuery(
            vm_ref, snapshot_moref, disk_key, change_id, capacity_bytes
        )
        return changed_areas.changed_extents(self._link, question, self._limits(SHORT_S))

    def disk_files_above(self, vm_ref: VmRef, frozen: Mapping[int, str]) -> int | None:
        """Bytes of the disk files that lie above these: what was written since they were frozen.

        frozen: key of a disk -> datastore path of its link at that time. The server measures the
        files anew. None where a disk of the VM has no such link.
        """
        return disk_layers.bytes_above(self._link, vm_ref, frozen)

    def create_snapshot(
        self,
        vm_ref: VmRef,
        name: str,
        description: str = "",
        quiesce: QuiesceOptions | None = None,
    ) -> SnapshotInfo:
        """Takes a snapshot without memory, and returns it with its disks and changeIds.

        Raises ToolsUnavailable, QuiesceFailed, SnapshotFailed, DatastoreFull, VmBusy ...
        """
        limits = self._limits(SHORT_S + (quiesce.timeout_min * 60 if quiesce else 0))
        return snapshots.create(
            self._link, vm_ref, name, description, quiesce=quiesce, limits=limits
        )

    def remove_snapshot(self, vm_ref: VmRef, moref: str) -> SnapshotRemoval:
        """Removes a snapshot: waits for other tasks of the VM, for this one, and for merging."""
        return snapshots.remove(self._link, vm_ref, moref, self._limits(LONG_S))

    def revert_to_snapshot(self, vm_ref: VmRef, moref: str) -> None:
        """Brings a VM back to a snapshot. The VM is off afterwards."""
        snapshots.revert(self._link, vm_ref, moref, self._limits(LONG_S))

    def consolidate(self, vm_ref: VmRef) -> bool:
        """Merges disk files that an earlier removal left; False where there were none."""
        return snapshots.consolidate(self._link, vm_ref, self._limits(LONG_S))

    # -- changed block tracking ---------------------------------------------------------------

    def enable_cbt(self, vm_ref: VmRef) -> bool:
        """Switches tracking on and reads it back; False where it was on.

        Raises CbtEnableRefused while snapshots exist, CbtUnsupported, CbtNotActive. Tracking is
        active when the disks of the next snapshot have a changeId.
        """
        return cbt.enable(self._link, vm_ref, self._limits(SHORT_S))

    def disable_cbt(self, vm_ref: VmRef) -> None:
        """Switches tracking off. Off, snapshot, on, snapshot is a reset of the tracking."""
        cbt.disable(self._link, vm_ref, self._limits(SHORT_S))

    # -- power --------------------------------------------------------------------------------

    def power_state(self, vm_ref: VmRef) -> PowerState:
        """Reads the power state from the VM's host. Raises HostDisconnected."""
        return guest.power_state(self._link, vm_ref)

    def power_on(self, vm_ref: VmRef) -> None:
        """Powers a VM on; does nothing where it is on."""
        power.on(self._link, vm_ref, self._limits(SHORT_S))

    def power_off(self, vm_ref: VmRef) -> None:
        """Powers a VM off hard; does nothing where it is off."""
        power.off(self._link, vm_ref, self._limits(SHORT_S))

    def shutdown_guest(self, vm_ref: VmRef) -> None:
        """Asks the guest to shut down, and returns at once. Raises ToolsUnavailable."""
        power.shutdown_guest(self._link, vm_ref)

    def wait_power(
        self,
        vm_ref: VmRef,
        wanted: PowerState,
        timeout_s: float,
        *,
        on_tick: Callable[[float, GuestState], None] | None = None,
    ) -> None:
        """Waits for a power state; calls `on_tick(seconds left, guest)`. Raises PowerTimeout."""
        guest.wait_power(self._link, vm_ref, wanted, timeout_s, on_tick)

    def wait_guest(
        self,
        vm_ref: VmRef,
        timeout_s: float,
        *,
        heartbeat: bool = True,
        on_tick: Callable[[float, GuestState], None] | None = None,
    ) -> GuestState:
        """Waits for running Tools and, with `heartbeat`, a good heartbeat. Raises PowerTimeout."""
        return guest.wait_guest(self._link, vm_ref, timeout_s, heartbeat=heartbeat, on_tick=on_tick)

    # -- replicas -----------------------------------------------------------------------------

    def create_replica(self, spec: ReplicaSpec) -> VmRef:
        """Creates a VM like `spec.source`: empty disks, off, its network cards disconnected."""
        return create_replica.create(self._link, spec, self._limits(LONG_S))

    def reshape_replica(
        self, vm_ref: VmRef, want: ReshapeSpec, *, change_version: str | None = None
    ) -> VmInfo:
        """Gives a replica that is off the hardware and disks of its source.

        change_version: as for `set_extra_config`.
        """
        limits = self._limits(SHORT_S)
        return reshape.apply(self._link, vm_ref, want, limits, change_version=change_version)

    def set_hardware_identity(self, vm_ref: VmRef, source: VmInfo, keep: KeepIdentity) -> None:
        """Gives a replica that is off the BIOS UUID and MAC addresses that `keep` asks for."""
        hardware_identity.apply(self._link, vm_ref, source, keep, self._limits(SHORT_S))

    def upgrade_hardware(self, vm_ref: VmRef, source: VmInfo) -> None:
        """Upgrades a replica that is off to its source's virtual hardware version, where newer."""
        reshape.upgrade(self._link, vm_ref, source, self._limits(SHORT_S))

    def copy_disk(self, vm_ref: VmRef, source: str, target: str) -> None:
        """Copies a disk, with the whole chain below it, to a new base disk, inside the site."""
        disk_files.copy(self._link, vm_ref, source, target, self._limits(LONG_S))

    def extend_disk(self, vm_ref: VmRef, path: str, capacity_bytes: int) -> None:
        """Grows a base disk that no VM has. `capacity_bytes`: whole KiB."""
        disk_files.extend(self._link, vm_ref, path, capacity_bytes, self._limits(SHORT_S))

    def delete_disk(self, vm_ref: VmRef, path: str) -> bool:
        """Deletes the files of a disk that no VM has; False where there were none."""
        return disk_files.delete(self._link, vm_ref, path, self._limits(SHORT_S))

    def read_vm_file(self, vm_ref: VmRef, path: str) -> bytes | None:
        """Reads a small file in a VM's folder; None where there is none. Raises FileRefused."""
        return vm_files.read(self._link, vm_ref, path)

    def write_vm_file(self, vm_ref: VmRef, path: str, data: bytes) -> None:
        """Replaces a small file in a VM's folder. Raises FileRefused."""
        vm_files.write(self._link, vm_ref, path, data)

    def delete_vm_file(self, vm_ref: VmRef, path: str) -> None:
        """Deletes a file in a VM's folder; one that is not there is a success."""
        vm_files.delete(self._link, vm_ref, path)

    def set_nics(
        self, vm_ref: VmRef, *, connect: bool, networks: Mapping[str, str] | None = None
    ) -> tuple[Nic, ...]:
        """Connects or disconnects all network cards, and returns the cards as they are then.

        networks: name of a card's network now -> name of the network to attach it to first.
        Raises PlacementNotFound.
        """
        limits = self._limits(SHORT_S)
        return nics.set_connected(self._link, vm_ref, connect, networks or {}, limits)

    def attach_nics(self, vm_ref: VmRef, network: str) -> tuple[Nic, ...]:
        """Attaches all cards of a VM that is off to one network, with new MAC addresses.

        They connect at power-on. Raises PlacementNotFound.
        """
        return nics.attach_all_to(self._link, vm_ref, network, self._limits(SHORT_S))

    def clone_linked(
        self,
        vm_ref: VmRef,
        snapshot_moref: str,
        name: str,
        *,
        extra_config: Mapping[str, str],
        bios_uuid: str | None = None,
    ) -> VmRef:
        """Makes a temporary VM on a snapshot, off, its cards disconnected; vCenter only."""
        return clone.create_linked_clone(
            self._link,
            vm_ref,
            snapshot_moref,
            name,
            extra_config=extra_config,
            bios_uuid=bios_uuid,
            limits=self._limits(SHORT_S),
        )

    def set_extra_config(
        self, vm_ref: VmRef, options: Mapping[str, str], *, change_version: str | None = None
    ) -> None:
        """Sets entries of the VM's extraConfig; an empty value removes one.

        change_version: as `read_vm` or `read_options` gave it; the entries are set only while the
        configuration is still that version. Raises ConfigurationChanged.
        """
        create_replica.set_extra_config(
            self._link, vm_ref, options, self._limits(SHORT_S), change_version=change_version
        )

    def destroy_vm(self, vm_ref: VmRef) -> None:
        """Removes a VM that is off with its files: a replica without a point, or a test VM."""
        create_replica.destroy(self._link, vm_ref, self._limits(SHORT_S))

    # -- in the guest -------------------------------------------------------------------------

    def customize_guest(self, vm_ref: VmRef, spec: str | GuestCustomization) -> None:
        """Sets host name and addresses for the next boot of a VM that is off.

        spec: the name of a specification that vCenter has, or rules for a Linux guest. Does
        nothing where a specification is pending already.

        Raises NoSpecification, CustomizationRefused.
        """
        customize.apply(self._link, vm_ref, spec, self._limits(SHORT_S))

    def customization_problem(
        self, vm_ref: VmRef, spec: str | GuestCustomization, *, by_script: bool = False
    ) -> str | None:
        """The reason why `customize_guest`, or a script with these rules, would not fit the VM.

        None: nothing is known. Raises NoSpecification.
        """
        if by_script and not isinstance(spec, str):
            cards = len(self.read_vm(vm_ref).nics)
            return customize.too_many_rules(spec, vm_ref.name, cards)
        return customize.problem(self._link, vm_ref, spec)

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
        """Runs a script in the guest through VMware Tools, and waits for its end.

        Raises GuestLoginRefused, GuestOperationsUnavailable.
        """
        # Imported here: it loads TLS and HTTP, see `connect`.
        from vreplica.vsphere.operations import guest_ops

        return guest_ops.run_script(
            self._link, vm_ref, login, script, windows=windows, suffix=suffix, timeout_s=timeout_s
        )

    # -- the server's own records -------------------------------------------------------------

    def recent_tasks(self, vm_ref: VmRef | None = None) -> tuple[TaskRecord, ...]:
        """Reads the server's recent tasks, oldest first."""
        return history.recent_tasks(self._link, vm_ref)

    def tasks_between(
        self, vm_ref: VmRef, begin: datetime, end: datetime
    ) -> tuple[TaskRecord, ...]:
        """Reads a VM's tasks that were queued between two times, oldest first.

        The times are by the server's clock. The server keeps tasks for a limited time.
        """
        return history.tasks_between(self._link, vm_ref, begin, end)

    def take_started_tasks(self) -> tuple[str, ...]:
        """Returns the keys of the tasks that this session has started since the last call."""
        found = tuple(self._link.started)
        del self._link.started[: len(found)]
        return found

    def events(
        self, vm_ref: VmRef | None = None, *, since: datetime | None = None
    ) -> tuple[EventRecord, ...]:
        """Reads the server's events, oldest first."""
        return history.events(self._link, vm_ref, since)

    def events_between(
        self, vm_ref: VmRef, begin: datetime, end: datetime, types: Sequence[str]
    ) -> tuple[EventRecord, ...]:
        """Reads a VM's events between two times by the server's clock, oldest first.

        types: names of event types in the API, as `VmPoweredOnEvent`.
        """
        return history.events_between(self._link, vm_ref, begin, end, types)
