"""A session with a vCenter or ESXi host: the part of this package that others use.

    with connect(Endpoint("vc.example", "backup@vsphere.local", password, sha256)) as session:
        vm = session.find_vm("web01")
        snapshot = session.create_snapshot(vm, "daily", "", Quiesce(windows=False))

What only asks is in `reading`; the changes are here, and are sent once. All methods may be called
from several threads.
"""

from __future__ import annotations

from collections.abc import Mapping

from vreplica.vsphere.connection.link import Link
from vreplica.vsphere.connection.tasks import PATIENCE_S
from vreplica.vsphere.model import (
    Endpoint,
    GuestLogin,
    Identity,
    Keep,
    Nic,
    Quiesce,
    Removal,
    ReplicaSpec,
    ScriptResult,
    SnapshotInfo,
    VmInfo,
    VmRef,
)
from vreplica.vsphere.operations import (
    cbt,
    clone,
    customize,
    disk_files,
    guest_ops,
    identity,
    nics,
    power,
    reshape,
    snapshots,
)
from vreplica.vsphere.operations import create_replica as replica
from vreplica.vsphere.reading import SHORT_S, Reader

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
    link = Link(endpoint, timeout_s=timeout_s, reply_timeout_s=reply_timeout_s)
    return Session(link, patience_s=patience_s)


class Session(Reader):
    """Made by `connect`."""

    # -- snapshots ----------------------------------------------------------------------------

    def create_snapshot(
        self,
        vm_ref: VmRef,
        name: str,
        description: str = "",
        quiesce: Quiesce | None = None,
    ) -> SnapshotInfo:
        """Without memory; waits; the answer has the snapshot's disks and changeIds.

        Raises ToolsUnavailable, QuiesceFailed, SnapshotFailed, DatastoreFull, VmBusy ...
        """
        slack = SHORT_S + (quiesce.timeout_min * 60 if quiesce else 0)
        waiting = self._waiting(slack)
        return snapshots.create(self._link, vm_ref, name, description, quiesce, waiting)

    def remove_snapshot(self, vm_ref: VmRef, moref: str) -> Removal:
        """Waits for other tasks of the VM, for this one, and for consolidation."""
        return snapshots.remove(self._link, vm_ref, moref, self._waiting(LONG_S))

    def revert_to_snapshot(self, vm_ref: VmRef, moref: str) -> None:
        """The VM is off afterwards."""
        snapshots.revert(self._link, vm_ref, moref, self._waiting(LONG_S))

    def consolidate(self, vm_ref: VmRef) -> bool:
        """Merge what an earlier removal left; False where nothing was to be done."""
        return snapshots.consolidate(self._link, vm_ref, self._waiting(LONG_S))

    # -- changed block tracking ---------------------------------------------------------------

    def enable_cbt(self, vm_ref: VmRef) -> bool:
        """Switch tracking on and read it back; False where it was on.

        Raises CbtEnableRefused while snapshots exist, CbtUnsupported, CbtNotActive. That it is
        active shows in the changeId of the snapshot taken next (`require_change_id`).
        """
        return cbt.enable(self._link, vm_ref, self._waiting(SHORT_S))

    def disable_cbt(self, vm_ref: VmRef) -> None:
        """The first half of a reset of the tracking: off, snapshot, on, snapshot."""
        cbt.disable(self._link, vm_ref, self._waiting(SHORT_S))

    # -- power --------------------------------------------------------------------------------

    def power_on(self, vm_ref: VmRef) -> None:
        """Nothing happens where it is on."""
        power.on(self._link, vm_ref, self._waiting(SHORT_S))

    def power_off(self, vm_ref: VmRef) -> None:
        """Hard. Nothing happens where it is off."""
        power.off(self._link, vm_ref, self._waiting(SHORT_S))

    def shutdown_guest(self, vm_ref: VmRef) -> None:
        """Ask the guest; returns at once. Raises ToolsUnavailable."""
        power.shutdown_guest(self._link, vm_ref)

    # -- replicas -----------------------------------------------------------------------------

    def create_replica(self, spec: ReplicaSpec) -> VmRef:
        """A VM like `spec.source` with empty disks, powered off, NICs disconnected."""
        return replica.create(self._link, spec, self._waiting(LONG_S))

    def reshape_replica(self, vm_ref: VmRef, want: reshape.Reshape) -> VmInfo:
        """Change hardware and disks of a powered-off replica to what its source has."""
        return reshape.apply(self._link, vm_ref, want, self._waiting(SHORT_S))

    def name_replica(self, vm_ref: VmRef, source: VmInfo, keep: Keep) -> None:
        """Give a powered-off replica BIOS UUID and MAC addresses as they are wanted."""
        identity.apply(self._link, vm_ref, source, keep, self._waiting(SHORT_S))

    def upgrade_replica(self, vm_ref: VmRef, source: VmInfo) -> None:
        """Give a powered-off replica its source's virtual hardware version, where newer."""
        reshape.upgrade(self._link, vm_ref, source, self._waiting(SHORT_S))

    def copy_disk(self, vm_ref: VmRef, source: str, target: str) -> None:
        """A new base disk with what a disk's whole chain holds, made by the host itself."""
        disk_files.copy(self._link, vm_ref, source, target, self._waiting(LONG_S))

    def extend_disk(self, vm_ref: VmRef, path: str, capacity_bytes: int) -> None:
        """Grow a base disk that no VM has, to whole KiB."""
        disk_files.extend(self._link, vm_ref, path, capacity_bytes, self._waiting(SHORT_S))

    def delete_disk(self, vm_ref: VmRef, path: str) -> bool:
        """Delete the files of a disk that no VM has; False where there were none."""
        return disk_files.delete(self._link, vm_ref, path, self._waiting(SHORT_S))

    def set_nics(
        self, vm_ref: VmRef, *, connect: bool, networks: Mapping[str, str] | None = None
    ) -> tuple[Nic, ...]:
        """Connect or disconnect all network cards, after attaching them elsewhere by `networks`
        (name now -> name then). Raises PlacementNotFound. Returns the cards as they are then."""
        waiting = self._waiting(SHORT_S)
        return nics.change(self._link, vm_ref, connect, networks or {}, waiting)

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
        waiting, link = self._waiting(SHORT_S), self._link
        return clone.linked(link, vm_ref, snapshot_moref, name, extra_config, bios_uuid, waiting)

    def attach_nics(self, vm_ref: VmRef, network: str) -> tuple[Nic, ...]:
        """All cards of a VM that is off onto one network, with new MAC addresses, connected at
        power-on. Raises PlacementNotFound."""
        return nics.attach_all(self._link, vm_ref, network, self._waiting(SHORT_S))

    def set_extra_config(self, vm_ref: VmRef, options: Mapping[str, str]) -> None:
        """Set entries of the VM's extraConfig; an empty value removes one."""
        replica.set_extra_config(self._link, vm_ref, options, self._waiting(SHORT_S))

    def destroy_vm(self, vm_ref: VmRef) -> None:
        """Remove a powered-off VM with its files: a replica that never got a point, a test VM."""
        replica.destroy(self._link, vm_ref, self._waiting(SHORT_S))

    # -- in the guest -------------------------------------------------------------------------

    def customize(self, vm_ref: VmRef, spec: str | Identity) -> None:
        """A host name and addresses for the next boot of a VM that is off: a specification by its
        name in vCenter, or rules for a Linux guest. Nothing happens where one is pending.

        Raises NoSpecification, CustomizationRefused.
        """
        customize.apply(self._link, vm_ref, spec, self._waiting(SHORT_S))

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
        return guest_ops.run_script(
            self._link, vm_ref, login, script, windows=windows, suffix=suffix, timeout_s=timeout_s
        )
