"""What can be asked of a vCenter or ESXi host: a login, and every call that changes nothing.

Reads may be repeated: after a lost login or a broken connection the same question is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from vreplica.extents import Extents
from vreplica.vsphere.connection.link import Link
from vreplica.vsphere.connection.tasks import PATIENCE_S, Waiting
from vreplica.vsphere.connection.vmomi import utc, vim
from vreplica.vsphere.inventory import history, placement, privileges, tree, vm
from vreplica.vsphere.inventory.privileges import Lack, ReplicaPlace
from vreplica.vsphere.model import (
    About,
    DatastoreInfo,
    Endpoint,
    EventRecord,
    GuestState,
    HostInfo,
    NetworkInfo,
    PowerState,
    ReplicaSpec,
    SnapshotInfo,
    TaskRecord,
    VmInfo,
    VmRef,
    Whereabouts,
)
from vreplica.vsphere.operations import cbt, power, snapshots

SHORT_S = 600.0
"""For tasks that only change configuration or power, and for one answer of change tracking."""


class Reader:
    """A context manager: it logs out at the end. May be used from several threads."""

    def __init__(self, link: Link, *, patience_s: float = PATIENCE_S) -> None:
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

    def _waiting(self, timeout_s: float) -> Waiting:
        return Waiting(timeout_s, self._patience_s)

    # -- the server ---------------------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint:
        return self._link.endpoint

    @property
    def thumbprint_sha1(self) -> str:
        """Of the pinned certificate, as `AA:BB:..`: what VDDK identifies the server by."""
        return self._link.thumbprint_sha1

    @property
    def about(self) -> About:
        about = self._link.content.about
        is_vcenter = about.apiType == "VirtualCenter"
        return About(
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
        return vm.read_guest(self._link, vm_ref)

    def datastores(self) -> tuple[DatastoreInfo, ...]:
        return tree.datastores(tree.places(self._link))

    def hosts(self) -> tuple[HostInfo, ...]:
        return tree.hosts(tree.places(self._link))

    def whereabouts(self) -> tuple[Whereabouts, ...]:
        """Where every VM is, read in one go."""
        return tree.whereabouts(self._link)

    def networks(self) -> tuple[NetworkInfo, ...]:
        return tree.networks(tree.places(self._link))

    def lacking_on(self, vm_ref: VmRef) -> tuple[Lack, ...]:
        """Privileges that a source VM needs and this account does not hold there."""
        return privileges.of_source(self._link, vm_ref)

    def check_place(self, spec: ReplicaSpec) -> None:
        """Raises PlacementNotFound, PlacementAmbiguous where `create_replica` would."""
        placement.choose(self.endpoint.host, tree.places(self._link), spec)

    def place_of(self, spec: ReplicaSpec) -> ReplicaPlace:
        """Where `create_replica` would put it. Raises PlacementNotFound, PlacementAmbiguous."""
        return privileges.of_place(self._link, spec)

    # -- snapshots and what changed -----------------------------------------------------------

    def read_snapshot(self, vm_ref: VmRef, moref: str) -> SnapshotInfo:
        """With its disks. Raises ObjectGone."""
        return snapshots.read_snapshot(self._link, vm_ref, moref)

    def read_snapshots(self, vm_ref: VmRef) -> tuple[SnapshotInfo, ...]:
        """All of a VM's snapshots with their disks, depth first, in one read."""
        return snapshots.read_all(self._link, vm_ref)

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
        waiting = self._waiting(SHORT_S)
        link = self._link
        return cbt.changed_extents(
            link, vm_ref, snapshot_moref, disk_key, change_id, capacity_bytes, waiting
        )

    # -- power --------------------------------------------------------------------------------

    def power_state(self, vm_ref: VmRef) -> PowerState:
        """Fresh."""
        return power.state(self._link, vm_ref)

    def wait_power(
        self,
        vm_ref: VmRef,
        wanted: PowerState,
        timeout_s: float,
        *,
        on_tick: Callable[[float, GuestState], None] | None = None,
    ) -> None:
        """Wait for a power state; `on_tick(seconds left, guest)`. Raises PowerTimeout."""
        power.wait_power(self._link, vm_ref, wanted, timeout_s, on_tick)

    def wait_guest(
        self,
        vm_ref: VmRef,
        timeout_s: float,
        *,
        heartbeat: bool = True,
        on_tick: Callable[[float, GuestState], None] | None = None,
    ) -> GuestState:
        """Wait for running Tools and a good heartbeat. Raises PowerTimeout."""
        return power.wait_guest(self._link, vm_ref, timeout_s, heartbeat=heartbeat, on_tick=on_tick)

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

    def started_tasks(self) -> tuple[str, ...]:
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
