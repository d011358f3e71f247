"""Changed block tracking, from the job's side: is it on, may we do without, what has changed.

A changeId is `<generation>/<n>`. Only within one generation does it mean anything; the new
one is always taken from the new snapshot's own configuration, never from the VM's.
"""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.delta.copy.modes import CopyMode
from vreplica.errors import CbtError
from vreplica.extents import Extents
from vreplica.points import DiskPoint
from vreplica.sync.disk_plan import DiskPlan
from vreplica.sync.errors import CbtStillInactive, CbtWasReset
from vreplica.sync.job import Job, OnCbtLoss
from vreplica.sync.replica.state import ReplicaState
from vreplica.sync.source.snapshot import Frozen
from vreplica.vsphere.change_id import generation_of
from vreplica.vsphere.model import SnapshotInfo, VmDisk, VmInfo
from vreplica.vsphere.session import Session


def switched_off(vm: VmInfo, replica: ReplicaState | None) -> bool:
    """Tracking is off although the latest point was made with it."""
    latest = replica.latest if replica else None
    return latest is not None and not vm.cbt_enabled and any(d.change_id for d in latest.disks)


def may_rescan(job: Job, *, switched_off: bool = False) -> bool:
    """Does the job allow a rescan where tracking is lost?"""
    if job.on_cbt_loss is OnCbtLoss.ASK:
        return not switched_off
    return job.on_cbt_loss is OnCbtLoss.RESCAN


def ensure_active(session: Session, vm: VmInfo, stun_name: str) -> VmInfo:
    """Enable tracking where it is off; on a running VM it begins at a stun, so make one.

    Source: KB-320557 (takes effect at the next snapshot, power-on, resume or migration).
    """
    if vm.cbt_enabled:
        return vm
    session.enable_cbt(vm.ref)
    if vm.power_state == "poweredOn":
        stun = session.create_snapshot(vm.ref, stun_name, "activates changed block tracking", None)
        session.remove_snapshot(vm.ref, stun.moref)
    return session.read_vm(vm.ref)


def reset(session: Session, vm: VmInfo, stun_name: str) -> VmInfo:
    """Begin a new generation of tracking: off and on, each with a stun where the VM runs.

    For a disk that has grown: ESXi has reported wrong areas after that (KB-2090639, KB-95965).
    Steps of KB-2139574.
    """
    if vm.cbt_enabled:
        session.disable_cbt(vm.ref)
        if vm.power_state == "poweredOn":
            stun = session.create_snapshot(vm.ref, stun_name, "resets change tracking", None)
            session.remove_snapshot(vm.ref, stun.moref)
    return ensure_active(session, session.read_vm(vm.ref), stun_name)


@dataclass(frozen=True, slots=True)
class Settled:
    """How one disk is brought over, now that its snapshot exists.

    `changed` is set for a delta. `change_id` is where tracking stands at the snapshot.
    """

    mode: CopyMode
    reason: str
    changed: Extents | None
    change_id: str | None


def settle(
    job: Job,
    session: Session,
    vm: VmInfo,
    frozen: Frozen,
    disk: VmDisk,
    planned: DiskPlan,
    replica: ReplicaState,
    destination: Session,
) -> Settled:
    """The mode that is really possible for a disk of the snapshot.

    Where tracking cannot answer, a delta becomes a rescan with the reason, or the error stands,
    as the job says.
    """
    if disk.change_id is None and job.on_cbt_loss is not OnCbtLoss.RESCAN:
        raise CbtStillInactive(label=disk.label)
    base = replica.latest.disk(disk.key) if replica.latest else None
    if planned.mode is not CopyMode.DELTA or base is None:
        return Settled(planned.mode, planned.reason, None, disk.change_id)
    try:
        changed = changed_since(session, vm, frozen.snapshot, disk, base)
        if base.diverged_since is not None:
            changed = changed.union(_diverged(destination, replica, base, base.diverged_since))
    except CbtError as error:
        error.at(disk=disk.label)
        if error.retryable or not may_rescan(job):
            raise
        return Settled(
            CopyMode.RESCAN, f"tracking could not answer: {error.message}", None, disk.change_id
        )
    return Settled(CopyMode.DELTA, planned.reason, changed, disk.change_id)


def _diverged(destination: Session, replica: ReplicaState, base: DiskPoint, since: str) -> Extents:
    """What the replica, a source before, had changed itself when its last state was frozen."""
    assert replica.latest is not None, "a base is of a point"
    assert replica.latest.snapshot is not None, "a point that was read has its snapshot"
    return destination.changed_extents(
        replica.vm.ref, replica.latest.snapshot, base.key, since, base.capacity_bytes
    )


def changed_since(
    session: Session, vm: VmInfo, snapshot: SnapshotInfo, disk: VmDisk, base: DiskPoint
) -> Extents:
    """What changed from a recovery point to a snapshot. Raises CbtError where unknowable."""
    if base.change_id is None or disk.change_id is None:
        raise CbtStillInactive(label=disk.label)
    if generation_of(disk.change_id) != generation_of(base.change_id):
        raise CbtWasReset(was=generation_of(base.change_id), now=generation_of(disk.change_id))
    return session.changed_extents(
        vm.ref, snapshot.moref, disk.key, base.change_id, disk.capacity_bytes
    )
