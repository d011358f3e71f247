"""After a run has made its point: points that retention lets go, and files that only they had."""

from __future__ import annotations

from vreplica.errors import VReplicaError
from vreplica.points import MAX_POINTS, Retention
from vreplica.sync.anomaly import flag_warnings
from vreplica.sync.events import Listener, Step, Warn
from vreplica.sync.job import Job
from vreplica.sync.replica import test_vm
from vreplica.sync.replica.orphan_files import base_files, delete_unused, remember_unused, unused
from vreplica.sync.replica.state import read_replica
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.session import Session


def retain(
    job: Job,
    destination: Session,
    replica: VmRef,
    point: str,
    listener: Listener,
    *,
    keep_all: bool = False,
) -> list[str]:
    """Ids of the points that were removed. `point`: the one that was made. `keep_all`: as many
    as a chain takes, whatever the job says; for a failover, which may still boot any of them.

    The newest state is read afresh. What cannot be removed is a warning: the point stands.
    """
    removed: list[str] = []
    try:
        now = read_replica(destination, job, replica)
        for text in flag_warnings(job.name, now.points, point):
            listener(Warn(text))
        for newer in now.newer:
            listener(Warn(f"no recovery point is removed: {newer}"))
        if now.newer:
            return removed
        held = test_vm.held(destination, job)
        retention = Retention(MAX_POINTS) if keep_all else job.retention
        for old in retention.expired(now.points, held):
            if old.snapshot is not None:
                listener(Step("retain", f"removing recovery point {old.id}"))
                frozen = now.frozen(old)
                gone = base_files(frozen.disks if frozen else ())
                remember_unused(job, gone - base_files(now.vm.disks))
                destination.remove_snapshot(replica, old.snapshot)
                removed.append(old.id)
        if unused(job):
            delete_unused(job, destination, read_replica(destination, job, replica), listener)
    except VReplicaError as error:
        listener(Warn(f"an old recovery point could not be removed: {error}"))
    return removed
