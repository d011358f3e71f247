"""Describes what a run copies, disk by disk: from where, to where, and which blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vreplica.delta.copy.modes import CopyMode
from vreplica.sync.copy.confirmed_plan import ConfirmedPlan, confirm_plan
from vreplica.sync.errors import ReplicaChangedMeanwhile, SourceChanged
from vreplica.sync.prepared_run import PreparedRun
from vreplica.sync.replica.shape import Origin
from vreplica.sync.replica.state import disk_identity
from vreplica.sync.report import Plan
from vreplica.sync.run_context import RunContext
from vreplica.vsphere.model import VmDisk


@dataclass(frozen=True, slots=True)
class DiskTask:
    """One disk to copy: from the source's snapshot to the replica's leaf."""

    source: VmDisk
    target: VmDisk
    plan: ConfirmedPlan
    origin: Origin | None = None
    """What a new disk of the replica is a copy of; None for a disk that existed, or is empty."""
    resumes: str | None = None
    """For a run that is resumed: the point that the disk's digest map was of when that run began;
    "" for a map of no point. None: the disk is copied from its beginning."""


def disk_tasks(context: RunContext, prepared: PreparedRun, plan: Plan) -> list[DiskTask]:
    """The disks of a run. Asks change tracking what has changed on each.

    Raises SourceChanged where the snapshot has other disks than the replica was prepared for, and
    ReplicaChangedMeanwhile where the replica has another latest point than that of the plan, or
    lacks a disk.
    """
    shape, resumed = prepared.shape, prepared.resumed
    _check_replica(context, prepared, plan)
    planned = {d.key: d for d in plan.disks}
    sources = {d.key: d for d in prepared.snapshot.info.disks}
    targets = {d.key: d for d in prepared.replica.vm.disks}
    if any(not _same(d.disk, sources.get(d.disk.key)) for d in shape.disks):
        raise SourceChanged
    tasks = []
    for made in shape.disks:
        disk = sources[made.disk.key]
        wanted = planned[disk.key]
        if made.new and made.origin is None:
            wanted = replace(wanted, mode=CopyMode.FULL)
        confirmed = confirm_plan(context, prepared, disk, wanted)
        if confirmed.mode is not wanted.mode:
            context.warn(f"{disk.label}: {confirmed.mode}, since {confirmed.reason}")
        base = None
        if resumed is not None and confirmed.mode.value == resumed.disk(disk.key).mode:
            # Another mode chooses other blocks: such a disk begins anew, on the same leaf.
            base = resumed.disk(disk.key).base
        tasks.append(DiskTask(disk, targets[disk.key], confirmed, made.origin, base))
    return tasks


def _check_replica(context: RunContext, prepared: PreparedRun, plan: Plan) -> None:
    """The replica was read again since the plan, and others may have changed it in between."""
    replica, base = prepared.replica, plan.base_point
    what = ""
    if (replica.latest.snapshot if replica.latest else None) != (base.snapshot if base else None):
        what = f"its latest point is {replica.latest.id if replica.latest else 'none'} now"
    elif not {d.disk.key for d in prepared.shape.disks} <= {d.key for d in replica.vm.disks}:
        what = "it does not have the disks of its source any more"
    if what:
        name = replica.vm.ref.name
        raise ReplicaChangedMeanwhile(job=context.job.name, vm=name, what=what)


def _same(disk: VmDisk, in_snapshot: VmDisk | None) -> bool:
    """True where the snapshot's disk is the one that the replica was prepared for."""
    if in_snapshot is None or in_snapshot.capacity_bytes != disk.capacity_bytes:
        return False
    return disk_identity(in_snapshot) == disk_identity(disk)
