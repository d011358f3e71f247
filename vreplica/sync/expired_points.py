"""Removes recovery points that retention lets go, and files that only those points needed.

Which points may go is decided in points/retention.py. This module removes them after a run.
"""

from __future__ import annotations

from vreplica.errors import VReplicaError
from vreplica.points import MAX_POINTS, Retention
from vreplica.sync.anomaly import flag_warnings
from vreplica.sync.replica import nvram, test_vm
from vreplica.sync.replica.orphan_files import base_files, delete_unused, remember_unused, unused
from vreplica.sync.replica.side_branches import (
    expired_branches,
    expired_branches_of_original,
    held_points,
)
from vreplica.sync.replica.state import ReplicaState, read_replica
from vreplica.sync.run_context import RunContext
from vreplica.vsphere.model import VmInfo, VmRef


def remove_expired(context: RunContext, replica: VmRef, source: VmInfo) -> list[str]:
    """Removes the points that may go after this run. Returns their ids.

    `source`: as the run has read it: an undone failback has left side branches on it.

    The replica is read afresh. A point that cannot be removed is a warning: the new one stands.
    """
    job, destination = context.job, context.sites.destination
    removed: list[str] = []
    try:
        now = read_replica(destination, job, replica)
        context.claim.observe(now.vm)
        for text in flag_warnings(job.name, now.points, context.run_id):
            context.warn(text)
        for newer in now.newer:
            context.warn(f"no recovery point is removed: {newer}")
        if now.newer:
            return removed
        if context.failover_run is None:
            now = _without_expired_branches(context, now)
        in_use = {*test_vm.points_in_use(destination, job), *held_points(now)}
        for point in _rule(context).expired(now.points, in_use, beside=len(now.sides)):
            if point.snapshot is not None:
                context.step("retain", f"removing recovery point {point.id}")
                remember_unused(job, _only_of(now, point.snapshot))
                destination.remove_snapshot(replica, point.snapshot)
                removed.append(point.id)
                left = [p for p in now.points if p.id not in removed]
                nvram.drop(destination, now.vm, point.nvram, left)
        if unused(job):
            delete_unused(context, read_replica(destination, job, replica))
        if context.failover_run is None:
            _remove_expired_of_original(context, source)
    except VReplicaError as error:
        context.warn(f"an old recovery point could not be removed: {error}")
    return removed


def _without_expired_branches(context: RunContext, replica: ReplicaState) -> ReplicaState:
    """Removes the side branches that are older than the job says."""
    job, destination = context.job, context.sites.destination
    expired = expired_branches(job, destination, replica)
    for branch in expired:
        if branch.snapshot is not None:
            context.step("retain", f"removing side branch {branch.id}: its days are over")
            destination.remove_snapshot(replica.vm.ref, branch.snapshot)
    return read_replica(destination, job, replica.vm.ref) if expired else replica


def _remove_expired_of_original(context: RunContext, source: VmInfo) -> None:
    site = context.sites.source
    for branch in expired_branches_of_original(context.job, site, source):
        if branch.snapshot is not None:
            context.step("retain", f"removing side branch {branch.id} of {source.name}: too old")
            site.remove_snapshot(source.ref, branch.snapshot)


def _rule(context: RunContext) -> Retention:
    """The job's rule. A failover keeps as many points as a chain takes: it may still boot any.

    It leaves a place for what is written in service, which an undo keeps.
    """
    return Retention(MAX_POINTS - 1) if context.failover_run is not None else context.job.retention


def _only_of(replica: ReplicaState, snapshot: str) -> set[str]:
    """Base files of disks that the snapshot has and the replica does not."""
    frozen = next((s.disks for s in replica.snapshots if s.moref == snapshot), ())
    return base_files(frozen) - base_files(replica.vm.disks)
