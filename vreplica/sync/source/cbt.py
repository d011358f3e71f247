"""Switches changed block tracking (CBT) on, and asks it what has changed on the source.

A changeId is `<generation>/<n>`. It has a meaning only within its generation. The changeId of a
point always comes from the configuration of the source's new snapshot, never from that of the VM.
"""

from __future__ import annotations

from vreplica.extents import Extents
from vreplica.points import DiskPoint
from vreplica.sync.errors import CbtStillInactive, CbtWasReset
from vreplica.sync.job import Job, OnCbtLoss
from vreplica.sync.replica.shape import Shape
from vreplica.sync.replica.state import ReplicaState, snapshot_name
from vreplica.sync.run_context import RunContext
from vreplica.vsphere.change_id import generation_of
from vreplica.vsphere.model import SnapshotInfo, VmDisk, VmInfo
from vreplica.vsphere.session import Session


def switched_off(vm: VmInfo, replica: ReplicaState | None) -> bool:
    """Tracking is off although the latest point was made with it."""
    latest = replica.latest if replica else None
    return latest is not None and not vm.cbt_enabled and any(d.change_id for d in latest.disks)


def may_rescan(job: Job, *, switched_off: bool = False) -> bool:
    """True where the job allows a rescan after tracking was lost."""
    if job.on_cbt_loss is OnCbtLoss.ASK:
        return not switched_off
    return job.on_cbt_loss is OnCbtLoss.RESCAN


# -- switching it on --------------------------------------------------------------------------


def track_source(context: RunContext, source: VmInfo, shape: Shape) -> VmInfo:
    """Switches tracking on where it is off, and begins it anew where a disk has grown."""
    session, stun_name = context.sites.source, snapshot_name(context.job.name)
    if shape.grown:
        context.step("track", f"resetting changed block tracking on {source.ref.name}")
        return _reset(session, source, stun_name)
    if not source.cbt_enabled:
        if source.snapshots:
            # Recovery points of the reverse direction: beneath them tracking would leave out
            # changes without a word (since vSphere 6.5). Each run reads everything instead.
            return source
        context.step("track", f"enabling changed block tracking on {source.ref.name}")
    return _ensure_active(session, source, stun_name)


def _ensure_active(session: Session, vm: VmInfo, stun_name: str) -> VmInfo:
    """Enables tracking where it is off. On a running VM it begins at a stun, so this makes one.

    Source: KB-320557 (takes effect at the next snapshot, power-on, resume or migration).
    """
    if vm.cbt_enabled:
        return vm
    session.enable_cbt(vm.ref)
    if vm.power_state == "poweredOn":
        stun = session.create_snapshot(vm.ref, stun_name, "activates changed block tracking", None)
        session.remove_snapshot(vm.ref, stun.moref)
    return session.read_vm(vm.ref)


def _reset(session: Session, vm: VmInfo, stun_name: str) -> VmInfo:
    """Begins a new generation of tracking: off and on, each with a stun where the VM runs.

    For a disk that has grown: ESXi has reported wrong areas after that (KB-2090639, KB-95965).
    Steps of KB-2139574.
    """
    if vm.cbt_enabled:
        session.disable_cbt(vm.ref)
        if vm.power_state == "poweredOn":
            stun = session.create_snapshot(vm.ref, stun_name, "resets change tracking", None)
            session.remove_snapshot(vm.ref, stun.moref)
    return _ensure_active(session, session.read_vm(vm.ref), stun_name)


# -- asking what has changed ------------------------------------------------------------------


def changed_since(
    session: Session, vm: VmInfo, snapshot: SnapshotInfo, disk: VmDisk, base: DiskPoint
) -> Extents:
    """Areas that changed from a recovery point to a snapshot. Raises CbtError where unknown."""
    if base.change_id is None or disk.change_id is None:
        raise CbtStillInactive(label=disk.label)
    if generation_of(disk.change_id) != generation_of(base.change_id):
        raise CbtWasReset(was=generation_of(base.change_id), now=generation_of(disk.change_id))
    return session.changed_extents(
        vm.ref, snapshot.moref, disk.key, base.change_id, disk.capacity_bytes
    )
