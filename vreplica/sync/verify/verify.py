"""Verifies a recovery point: compares it with the source as it is now, by reading both."""

from __future__ import annotations

import secrets

from vreplica.delta.compare.root_digest import BLAKE3
from vreplica.delta.control import Control
from vreplica.points import RecoveryPoint
from vreplica.points.model import new_id
from vreplica.sync.claim.claim import ClaimKind
from vreplica.sync.claim.held_claim import Claimant, claim_now
from vreplica.sync.errors import NoSuchPoint, NotOurReplica, PointIsDamaged, PointIsNewer
from vreplica.sync.events import Listener, Step, ignore
from vreplica.sync.job import Job
from vreplica.sync.job_dir import job_lock
from vreplica.sync.known_vms import find_source
from vreplica.sync.pause import PauseWatch
from vreplica.sync.replica.state import (
    ReplicaState,
    find_replica,
    is_for_replica,
    need_points,
    replica_mark,
    snapshot_name,
    vm_identity,
)
from vreplica.sync.report import VerifyReport
from vreplica.sync.sites import Sites, SiteSessions
from vreplica.sync.source.cbt import changed_since
from vreplica.sync.source.snapshot import check_snapshot_stands
from vreplica.sync.verify.comparison import Comparison, VerifyDepth, compare_point
from vreplica.vsphere.model import SnapshotInfo, VmInfo


def verify(
    job: Job,
    *,
    point: str | None = None,
    share: float = 1.0,
    seed: int | None = None,
    algorithm: str = BLAKE3,
    image: bool | None = None,
    listener: Listener = ignore,
    control: Control | None = None,
    sessions: SiteSessions | None = None,
) -> VerifyReport:
    """Compares a recovery point (default: the latest) with the source as it is now.

    `share` below 1 compares a sample, chosen by `seed` (default: a random one) and recorded.
    `algorithm`: `blake3` or `xxh3-128`. `image`: digest the point's whole disks too; by default
    where everything is compared.

    What has changed on the source since the point is left out and counted. A difference is no
    error: `report.equal` says. `control` cancels, pauses and resumes. Raises CbtError where
    changed block tracking cannot tell what changed since; ReplicaClaimed, NoPoints, NoSuchPoint,
    PointIsNewer and CopyCancelled.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share is above 0 and at most 1, not {share}")
    depth = VerifyDepth(
        share=share,
        seed=secrets.randbits(32) if seed is None else seed,
        algorithm=algorithm,
        image=share >= 1 if image is None else image,
    )
    control = control or Control()
    with job_lock(job), PauseWatch(job, control, listener), Sites.open(job, sessions) as sites:
        listener(Step("read", f"reading {job.source_vm} and {job.placement.name}"))
        vm = sites.source.read_vm(find_source(sites.source, job))
        replica = need_points(job, find_replica(sites.destination, job))
        chosen = _choose(job, replica, point)
        if chosen.source_vm != vm_identity(vm):
            raise NotOurReplica(name=replica.vm.ref.name, job=job.name)
        verification = new_id()
        claimant = Claimant(job.name, verification, ClaimKind.VERIFY, verification)
        # No run may begin meanwhile: it would take this snapshot for one that was left.
        claim = claim_now(sites.destination, replica.vm.ref, claimant).held
        snapshot: SnapshotInfo | None = None
        try:
            _remove_left_snapshot(job, sites, vm, vm_identity(replica.vm))
            listener(Step("snapshot", f"taking a snapshot of {vm.ref.name}"))
            text = f"Taken by vreplica to verify job {job.name}. "
            text += replica_mark(vm_identity(replica.vm))
            snapshot = sites.source.create_snapshot(vm.ref, snapshot_name(job.name), text, None)
            since = {
                disk.key: changed_since(sites.source, vm, snapshot, disk, base)
                for disk in snapshot.disks
                if (base := chosen.disk(disk.key)) is not None
            }
            listener(Step("verify", f"comparing point {chosen.id} with the source"))
            report = compare_point(
                Comparison(
                    job=job,
                    sites=sites,
                    source=vm.ref,
                    snapshot=snapshot,
                    replica=replica.vm.ref,
                    point=chosen,
                    changed_since=since,
                    depth=depth,
                    listener=listener,
                    control=control,
                )
            )
            if not report.equal:
                check_snapshot_stands(sites.source, vm.ref, snapshot)
            return report
        finally:
            try:
                if snapshot is not None:
                    sites.source.remove_snapshot(vm.ref, snapshot.moref)
            finally:
                claim.release()


def _choose(job: Job, replica: ReplicaState, wanted: str | None) -> RecoveryPoint:
    for newer in replica.newer:
        if wanted in (None, newer.id):
            raise PointIsNewer(job.name, newer)
    points = replica.points
    if wanted is None:
        return points[-1]
    for point in points:
        if point.id == wanted:
            return point
    for damaged in replica.damaged:
        if wanted == damaged.id:
            raise PointIsDamaged(job.name, damaged)
    raise NoSuchPoint(job=job.name, point=wanted, newest=points[-1].id)


def _remove_left_snapshot(job: Job, sites: Sites, source: VmInfo, replica: str) -> None:
    """Removes the snapshot that an earlier run or verification left on the source."""
    for snapshot in source.snapshots:
        if snapshot.name == snapshot_name(job.name) and is_for_replica(snapshot, replica):
            sites.source.remove_snapshot(source.ref, snapshot.moref)
