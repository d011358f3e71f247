"""Confirms the plan of a disk once the source's snapshot exists: asks tracking what has changed."""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.delta.copy.modes import CopyMode
from vreplica.errors import CbtError
from vreplica.extents import Extents
from vreplica.points import DiskPoint
from vreplica.sync.disk_plan import DiskPlan
from vreplica.sync.errors import CbtStillInactive
from vreplica.sync.job import OnCbtLoss
from vreplica.sync.prepared_run import PreparedRun
from vreplica.sync.run_context import RunContext
from vreplica.sync.source.cbt import changed_since, may_rescan
from vreplica.vsphere.model import VmDisk


@dataclass(frozen=True, slots=True)
class ConfirmedPlan:
    """The plan of one disk, confirmed against the source's snapshot."""

    mode: CopyMode
    reason: str
    changed: Extents | None
    """What has changed since the latest point; set for a delta."""
    change_id: str | None
    """Where tracking stands at the snapshot."""


def confirm_plan(
    context: RunContext, prepared: PreparedRun, disk: VmDisk, planned: DiskPlan
) -> ConfirmedPlan:
    """Asks tracking what has changed on a disk of the snapshot.

    Where tracking cannot answer, a delta becomes a rescan with the reason, or the error stands,
    as the job says.
    """
    job = context.job
    if disk.change_id is None and job.on_cbt_loss is not OnCbtLoss.RESCAN:
        raise CbtStillInactive(label=disk.label)
    latest = prepared.replica.latest
    base = latest.disk(disk.key) if latest else None
    if planned.mode is not CopyMode.DELTA or base is None:
        return ConfirmedPlan(planned.mode, planned.reason, None, disk.change_id)
    try:
        changed = changed_since(
            context.sites.source, prepared.source, prepared.snapshot.info, disk, base
        )
        if base.diverged_since is not None:
            changed = changed.union(_diverged(context, prepared, base, base.diverged_since))
    except CbtError as error:
        error.at(disk=disk.label)
        if error.retryable or not may_rescan(job):
            raise
        reason = f"tracking could not answer: {error.message}"
        return ConfirmedPlan(CopyMode.RESCAN, reason, None, disk.change_id)
    return ConfirmedPlan(CopyMode.DELTA, planned.reason, changed, disk.change_id)


def _diverged(context: RunContext, prepared: PreparedRun, base: DiskPoint, since: str) -> Extents:
    """Areas that the replica, a source before, had changed itself until its last state was kept."""
    latest = prepared.replica.latest
    assert latest is not None, "a base is of a point"
    assert latest.snapshot is not None, "a point that was read has its snapshot"
    return context.sites.destination.changed_extents(
        prepared.replica.vm.ref, latest.snapshot, base.key, since, base.capacity_bytes
    )
