"""Keeps, holds and removes side branches: what a replica wrote in service (points/side_branch.py).

The recovery point that a side branch stands on stays for as long as the branch does, and so do the
points before it. Retention counts a branch as one of the 28 snapshots of a replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from vreplica.errors import CbtError, ConfigError
from vreplica.points import MAX_POINTS
from vreplica.points.side_branch import ID_PREFIX, SideBranch
from vreplica.sync.errors import NoPoints
from vreplica.sync.events import Listener, Step
from vreplica.sync.job import Job
from vreplica.sync.job_dir import job_lock
from vreplica.sync.known_vms import find_source
from vreplica.sync.replica.state import ReplicaState, find_replica
from vreplica.units import MIB, human_size
from vreplica.vsphere.model import SnapshotInfo, VmInfo, VmRef
from vreplica.vsphere.session import Session, connect

SPARE_BYTES: Final = 64 * MIB
"""Free space that a snapshot needs on the replica's datastores: its empty disk links and the
configuration. The next writes go elsewhere, since the replica is reverted."""


@dataclass(eq=False)
class NoSuchBranch(ConfigError):
    template = "job {job} has no side branch {branch}"
    remedy = "`vreplica-sync points {job}` lists them. Recovery points are removed by retention."
    job: str
    branch: str


def room_problem(session: Session, replica: ReplicaState) -> str | None:
    """The reason why the replica can take no further snapshot; None where it can."""
    have = len(replica.points) + len(replica.sides) + len(replica.newer) + len(replica.damaged)
    if have >= MAX_POINTS:
        return f"{replica.vm.name} has {have} recovery points and side branches, the most it takes"
    used = {disk.datastore for disk in replica.vm.disks} | {replica.vm.home_datastore}
    for store in session.datastores():
        if store.name in used and store.free_bytes < SPARE_BYTES:
            return f"datastore {store.name} has only {human_size(store.free_bytes)} free"
    return None


def written_since(session: Session, replica: ReplicaState, point: str) -> int | None:
    """Bytes of the replica, which is off, that changed since the snapshot of that point.

    By its own change tracking; None where that cannot answer.
    """
    base = next((p for p in replica.points if p.id == point), None)
    frozen = replica.snapshot_of(base) if base is not None else None
    if frozen is None:
        return None
    total = 0
    now = {disk.key: disk for disk in replica.vm.disks}
    for disk in frozen.disks:
        here = now.get(disk.key)
        if here is None or disk.change_id is None:
            return None
        try:
            areas = session.changed_extents(
                replica.vm.ref, None, disk.key, disk.change_id, here.capacity_bytes
            )
        except CbtError as error:
            if error.retryable:
                raise
            return None
        total += areas.total
    return total


def files_since(session: Session, replica: ReplicaState, point: str) -> int | None:
    """Bytes of the replica's disk files that were made since the snapshot of that point.

    About what was written since: its change tracking does not answer while it is on. None where
    the snapshot or a disk of it is gone.
    """
    base = next((p for p in replica.points if p.id == point), None)
    frozen = replica.snapshot_of(base) if base is not None else None
    if frozen is None:
        return None
    return session.disk_files_above(replica.vm.ref, {disk.key: disk.path for disk in frozen.disks})


def keep(session: Session, replica: ReplicaState, branch: SideBranch) -> None:
    """Makes the side branch: a snapshot of the replica, which is off, with its description."""
    before = {key: replica.vm.extra_config.get(key, "") for key in branch.to_extra_config()}
    session.set_extra_config(replica.vm.ref, branch.to_extra_config())
    text = (
        f"What {replica.vm.name} wrote in service during {branch.failover}, kept by vreplica when "
        "that failover was undone. It is no recovery point."
    )
    try:
        session.create_snapshot(replica.vm.ref, branch.id, text, None)
    except BaseException:
        session.set_extra_config(replica.vm.ref, before)
        raise


def held_points(replica: ReplicaState) -> set[str]:
    """The ids of the points that side branches stand on."""
    return {branch.point for branch in replica.sides}


def expired_branches(job: Job, session: Session, replica: ReplicaState) -> list[SideBranch]:
    """The branches that are kept for longer than the job says, by the destination's clock."""
    if not replica.sides or job.keep_undone_days is None:
        return []
    limit = session.refresh() - timedelta(days=job.keep_undone_days)
    made = {s.moref: s.created for s in replica.snapshots}
    return [b for b in replica.sides if b.snapshot and made[b.snapshot] < limit]


def branches_of_original(job: Job, snapshots: Sequence[SnapshotInfo]) -> list[SideBranch]:
    """What the job's source wrote in service during failbacks that were undone.

    `snapshots`: of the source, with their configurations. The branches are of the reverse job.
    """
    found = (SideBranch.from_extra_config(s.extra_config, s.moref) for s in snapshots)
    named = zip(snapshots, found, strict=True)
    return [b for s, b in named if b is not None and b.id == s.name and b.job == job.reverse_name]


def expired_branches_of_original(job: Job, session: Session, source: VmInfo) -> list[SideBranch]:
    """Those that are kept for longer than the job says, by the clock of the source's site.

    `source`: as a run has read it; without a snapshot of that name nothing more is read.
    """
    named = any(s.name.startswith(ID_PREFIX) for s in source.snapshots)
    if not named or job.keep_undone_days is None:
        return []
    snapshots = session.read_snapshots(source.ref)
    limit = session.refresh() - timedelta(days=job.keep_undone_days)
    made = {s.moref: s.created for s in snapshots}
    found = branches_of_original(job, snapshots)
    return [b for b in found if b.snapshot and made[b.snapshot] < limit]


def read_branches_of_original(job: Job) -> list[SideBranch]:
    """The same, read at the source's site. Raises what the site raises."""
    with connect(job.source) as session:
        return branches_of_original(job, session.read_snapshots(find_source(session, job)))


def remove_branch(job: Job, wanted: str, listener: Listener) -> SideBranch:
    """Removes one side branch, with what was written in it: of the replica, else of the original.

    Raises NoSuchBranch, JobBusy.
    """
    with job_lock(job):
        with connect(job.destination) as session:
            replica = find_replica(session, job)
            if replica is None:
                raise NoPoints(job=job.name)
            if removed := _remove(session, replica.vm.ref, replica.sides, wanted, listener):
                return removed
        with connect(job.source) as session:
            ref = find_source(session, job)
            branches = branches_of_original(job, session.read_snapshots(ref))
            if removed := _remove(session, ref, branches, wanted, listener):
                return removed
    raise NoSuchBranch(job.name, wanted)


def _remove(
    session: Session, vm: VmRef, branches: Sequence[SideBranch], wanted: str, listener: Listener
) -> SideBranch | None:
    branch = next((b for b in branches if b.id == wanted), None)
    if branch is None or branch.snapshot is None:
        return None
    listener(Step("release", f"removing side branch {wanted} of {vm.name}"))
    session.remove_snapshot(vm, branch.snapshot)
    return branch
