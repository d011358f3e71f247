"""The commit of a run: the description of its point, then the snapshot that freezes both.

Before the snapshot the replica is on its old point; with it the new one is there, complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vreplica.errors import VSphereError
from vreplica.points import RecoveryPoint
from vreplica.points.vm_keys import LEAF_KEY, SEED_KEY
from vreplica.sync.anomaly import suspicions
from vreplica.sync.copy.disks import DiskCopy
from vreplica.sync.job import Job
from vreplica.sync.replica.state import identity, read_replica
from vreplica.sync.source.snapshot import Frozen
from vreplica.vsphere.model import VmInfo, VmRef
from vreplica.vsphere.session import Session


def describe(
    job: Job,
    vm: VmInfo,
    frozen: Frozen,
    copies: Sequence[DiskCopy],
    run_id: str,
    overhead_s: float,
) -> RecoveryPoint:
    """The point that the replica's disks hold now. `overhead_s`: of the run beside its disks."""
    disks = tuple(c.point for c in copies)
    return RecoveryPoint(
        id=run_id,
        job=job.name,
        source_vm=identity(vm),
        source_name=vm.ref.name,
        time=frozen.snapshot.created,
        level=frozen.level,
        requested=frozen.requested,
        disks=disks,
        excluded=tuple(d.label for d in vm.disks if d.label in job.exclude_disks),
        notes=frozen.notes,
        suspicions=suspicions(disks),
        overhead_s=round(overhead_s, 3),
    )


def commit(job: Job, destination: Session, target: VmRef, point: RecoveryPoint) -> RecoveryPoint:
    """Make the point. Returns it with its snapshot."""
    destination.set_extra_config(target, {**point.to_extra_config(), LEAF_KEY: "", SEED_KEY: ""})
    try:
        snapshot = destination.create_snapshot(target, point.id, _text(point), None)
    except VSphereError:
        # The reply may be lost with the work done: what the destination has, counts.
        made = read_replica(destination, job, target).latest
        if made is None or made.id != point.id:
            raise
        return made
    return replace(point, snapshot=snapshot.moref)


def _text(point: RecoveryPoint) -> str:
    return (
        f"Recovery point of {point.source_name} at {point.time:%Y-%m-%d %H:%M:%S} UTC, "
        f"{point.level} consistent, made by vreplica for job {point.job}. "
        "The replication needs it; retention removes it."
    )
