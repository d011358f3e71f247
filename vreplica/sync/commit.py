"""Commits a recovery point: writes its description, then snapshots the replica with it.

Until the snapshot exists, the replica stands on its old point. With the snapshot the new point
exists, and it is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vreplica.errors import VSphereError
from vreplica.points import RecoveryPoint
from vreplica.points.vm_keys import LEAF_KEY, SEED_KEY
from vreplica.sync.anomaly import suspicions
from vreplica.sync.copy.one_disk import DiskCopy
from vreplica.sync.errors import ReplicaChangedMeanwhile
from vreplica.sync.plan.completeness import left_out
from vreplica.sync.prepared_run import PreparedRun
from vreplica.sync.replica.nvram import carry
from vreplica.sync.replica.state import point_text, vm_identity
from vreplica.sync.run_context import RunContext
from vreplica.vsphere.model import SnapshotInfo, VmRef
from vreplica.vsphere.session import Session


def describe(
    context: RunContext, prepared: PreparedRun, copies: Sequence[DiskCopy]
) -> RecoveryPoint:
    """The point that the replica's disks hold now."""
    source, snapshot = prepared.source, prepared.snapshot
    disks = tuple(c.point for c in copies)
    sites, replica = context.sites, prepared.replica
    nvram = carry(sites.source, source, sites.destination, replica.vm, replica.latest)
    missing = left_out(context.job, source, replica.vm, has_nvram=not nvram.is_missing)
    return RecoveryPoint(
        id=context.run_id,
        job=context.job.name,
        source_vm=vm_identity(source),
        source_name=source.ref.name,
        time=snapshot.info.created,
        level=snapshot.level,
        requested=snapshot.requested,
        disks=disks,
        excluded=tuple(d.label for d in source.disks if d.label in context.job.exclude_disks),
        notes=(*snapshot.notes, *([nvram.note] if nvram.note else [])),
        nvram=nvram.sha256,
        not_carried=tuple(n.what for n in missing),
        suspicions=suspicions(disks),
        overhead_s=round(context.overhead_s, 3),
    )


def commit(context: RunContext, replica: VmRef, point: RecoveryPoint) -> RecoveryPoint:
    """Makes the point on the replica. Returns it with its snapshot.

    The description is set only while the replica is claimed by this run, and stands on the
    snapshot and the files that it wrote. What was frozen is held to that once more: an error then
    means that no point is listed. Raises ClaimLost, ReplicaChangedMeanwhile.
    """
    destination, claim = context.sites.destination, context.claim
    claim.write({**point.to_extra_config(), LEAF_KEY: "", SEED_KEY: ""})
    snapshot = _freeze(destination, replica, point)
    claim.check_snapshot(snapshot)
    if RecoveryPoint.from_extra_config(snapshot.extra_config) != point:
        what = "the description of the new point is not the one that was written"
        raise ReplicaChangedMeanwhile(job=context.job.name, vm=replica.name, what=what)
    return replace(point, snapshot=snapshot.moref)


def _freeze(destination: Session, replica: VmRef, point: RecoveryPoint) -> SnapshotInfo:
    try:
        return destination.create_snapshot(replica, point.id, point_text(point), None)
    except VSphereError:
        # The snapshot may exist although its answer was lost: what the destination has, counts.
        for snapshot in destination.read_snapshots(replica):
            if snapshot.name == point.id:
                return snapshot
        raise
