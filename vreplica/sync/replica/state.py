"""Reads the replica VM of a job, with its recovery points.

What the destination says is true. A replica is this job's where its extraConfig says so:

    vreplica.job      the job's name
    vreplica.source   instance UUID of the source VM
    vreplica.leaf     the run that is writing to its disks; empty when none is
    vreplica.point*   the recovery point that the leaf stands on (points/model.py)

and it is clean where nothing was written since its newest snapshot:

    leaf empty  and  vreplica.point in the VM == vreplica.point in its current snapshot
    and each of its disks is a child of one that this snapshot froze
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from vreplica.points import DamagedPoint, NewerPoint, RecoveryPoint
from vreplica.points.side_branch import SideBranch
from vreplica.points.vm_keys import (
    FAILOVER_KEY,
    JOB_KEY,
    LEAF_KEY,
    REVERTED_KEY,
    SEED_KEY,
    SOURCE_KEY,
    TEST_KEY,
)
from vreplica.stored import Damaged, Id, Key, Layout
from vreplica.sync.claim.claim import Claim
from vreplica.sync.claim.held_claim import HeldClaim
from vreplica.sync.errors import (
    NoPoints,
    NotOurReplica,
    PointIsDamaged,
    PointIsNewer,
    SeveralReplicas,
)
from vreplica.sync.job import Job
from vreplica.sync.job_dir import read_accepted
from vreplica.sync.known_vms import find_known_replica, replica_uuid
from vreplica.vsphere.model import SnapshotInfo, VmDisk, VmInfo, VmRef
from vreplica.vsphere.session import Session


@dataclass(frozen=True, slots=True)
class Seed:
    """The content that a replica without a point began with."""

    id: str = ""
    """Empty: with nothing."""
    keys: frozenset[int] = frozenset()
    """Keys of the disks that were seeded."""


class _SeedLayout(Layout):
    id: Id
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """The replica VM and the snapshots on it."""

    vm: VmInfo
    points: tuple[RecoveryPoint, ...]
    """Oldest first, in the order of the snapshot chain."""
    foreign: tuple[SnapshotInfo, ...]
    """Snapshots that are neither recovery points of this job nor leftovers."""
    leftovers: tuple[SnapshotInfo, ...] = ()
    """Snapshots that a writer of this job made after it had lost the replica. Their disks are of
    nobody knows which moment: they are no points, and the next writer removes them."""
    newer: tuple[NewerPoint, ...] = ()
    """Recovery points of this job that only a newer version can read, in the same order."""
    damaged: tuple[DamagedPoint, ...] = ()
    """Recovery points whose descriptions cannot be believed, in the same order."""
    snapshots: tuple[SnapshotInfo, ...] = ()
    """All of them, with the disks that they froze."""
    sides: tuple[SideBranch, ...] = ()
    """What it wrote in service, kept by undone failovers. None of them is a recovery point."""

    @property
    def latest(self) -> RecoveryPoint | None:
        return self.points[-1] if self.points else None

    def snapshot_of(self, point: RecoveryPoint) -> SnapshotInfo | None:
        """The snapshot that is this point, with its disks."""
        return next((s for s in self.snapshots if s.moref == point.snapshot), None)

    @property
    def seed(self) -> Seed:
        """Its seed; empty once there is a point."""
        try:
            found = _SeedLayout.parse(self.vm.extra_config.get(SEED_KEY, ""))
        except Damaged:
            # Then the disks are copied in full.
            return Seed()
        return Seed(found.id, frozenset(found.keys)) if self.latest is None else Seed()

    @property
    def base(self) -> str:
        """Id of its latest point, else of its seed, else "": the point of its digest maps."""
        return self.latest.id if self.latest else self.seed.id

    @property
    def disks(self) -> tuple[VmDisk, ...]:
        """Its disks as they are when it stands on its latest point."""
        snapshot = self.snapshot_of(self.latest) if self.latest and not self.clean else None
        return snapshot.disks if snapshot else self.vm.disks

    @property
    def stands_on(self) -> RecoveryPoint | None:
        """The point that its disks hold, unchanged since; None where they hold anything else."""
        if self.vm.extra_config.get(LEAF_KEY):
            return None
        here = RecoveryPoint.from_extra_config(self.vm.extra_config)
        current = self.vm.current_snapshot
        return next((p for p in self.points if p == here and p.snapshot == current), None)

    @property
    def bootable_sides(self) -> tuple[RecoveryPoint, ...]:
        """The side branches as points that boot where they are named."""
        bases = {p.id: p for p in self.points}
        return tuple(b.as_point(bases[b.point]) for b in self.sides if b.point in bases)

    @property
    def stands_on_side(self) -> str | None:
        """The id of the side branch that its disks hold, unchanged since; None: none."""
        here = SideBranch.from_extra_config(self.vm.extra_config, self.vm.current_snapshot)
        known = here is not None and here in self.sides
        started = self.vm.extra_config.get(LEAF_KEY)
        return here.id if here is not None and known and not started else None

    @property
    def clean(self) -> bool:
        """True where its disks hold exactly its latest recovery point."""
        return self.untouched and self.stands_on == self.latest

    @property
    def untouched(self) -> bool:
        """True where its disks hold exactly one of its recovery points, by its marks."""
        point = self.stands_on
        return point is not None and self._has_disks_of(point)

    def _has_disks_of(self, point: RecoveryPoint) -> bool:
        """True where each disk is a child of the one that the point froze, and there is no other.

        The marks do not tell: somebody may have attached, detached or replaced one.
        """
        snapshot = self.snapshot_of(point)
        frozen = {d.key: (d.path,) for d in snapshot.disks} if snapshot is not None else {}
        return {d.key: d.parents[:1] for d in self.vm.disks} == frozen


def snapshot_name(job_name: str) -> str:
    """The name of this job's snapshot on the source. One at a time."""
    return f"vreplica-{job_name}"


def run_mark(run_id: str) -> str:
    """The part of the text of a source's snapshot that names its run."""
    return f", run {run_id}."


def replica_mark(replica: str) -> str:
    """The part of the text of a source's snapshot that names the replica it is read for."""
    return f"For replica {replica}."


def is_for_replica(snapshot: SnapshotInfo, *replicas: str | None) -> bool:
    """False for a snapshot of a job that has our job's name and another replica.

    `replicas`: identity of our replica, and of one that was ours. Snapshots of earlier versions
    name none.
    """
    text = snapshot.description
    return "For replica " not in text or any(replica_mark(r) in text for r in replicas if r)


def vm_identity(vm: VmInfo) -> str:
    """The id of a VM that stays when it is renamed or moved."""
    return vm.instance_uuid or vm.bios_uuid or vm.ref.moref


def foreign_snapshots(job: Job, snapshots: Sequence[SnapshotInfo]) -> list[SnapshotInfo]:
    """The snapshots of a source that are neither ours nor points of the reverse direction.

    A VM that was a replica keeps such points beneath it, damaged ones too; no run writes to them
    any more.
    """
    ours, found = snapshot_name(job.name), []
    for snapshot in snapshots:
        point = RecoveryPoint.from_extra_config(snapshot.extra_config)
        reverse = point is not None and point.job == job.reverse_name and point.id == snapshot.name
        left_out = _newer(snapshot) is not None or _damaged(snapshot) is not None
        known = reverse or left_out or is_side_branch(snapshot)
        if snapshot.name != ours and not known:
            found.append(snapshot)
    return found


def disk_identity(disk: VmDisk) -> str:
    """The disk's UUID. Its key is only a position, which another disk can take."""
    return disk.uuid or disk.disk_object_id or ""


def find_replica(
    session: Session, job: Job, *, made_from: VmInfo | None = None
) -> ReplicaState | None:
    """The job's replica, None where there is none: by its instance UUID, else by its name.

    `made_from`: the source. With it, and where nothing is remembered, a replica that was renamed
    is searched for by the marks in its extraConfig, among the VMs with a snapshot.
    Raises NotOurReplica, SeveralReplicas.
    """
    known = find_known_replica(session, job)
    if known is not None:
        # A VM that has another job's mark by now is that job's.
        with suppress(NotOurReplica):
            return read_replica(session, job, known)
    ref = session.look_up_vm(job.placement.name)
    if ref is not None:
        return read_replica(session, job, ref)
    if made_from is None or replica_uuid(job) is not None:
        return None
    return _find_renamed(session, job, made_from)


def _find_renamed(session: Session, job: Job, source: VmInfo) -> ReplicaState | None:
    """The VM that was made from this source for this job, and has recovery points.

    A clone of the replica has its marks, but none of its snapshots.
    """
    marks = {JOB_KEY: job.name, SOURCE_KEY: vm_identity(source)}
    found = [read_replica(session, job, ref) for ref in session.find_marked(marks)]
    found = [
        r for r in found if (r.points or r.newer or r.damaged) and TEST_KEY not in r.vm.extra_config
    ]
    if len(found) > 1:
        names = ", ".join(f"{r.vm.name} ({r.vm.ref.moref})" for r in found)
        raise SeveralReplicas(job=job.name, wanted=job.placement.name, names=names)
    return found[0] if found else None


def need_points(job: Job, replica: ReplicaState | None) -> ReplicaState:
    """The replica, with a point that this version reads.

    Raises PointIsNewer, PointIsDamaged, NoPoints.
    """
    if replica is not None and replica.points:
        return replica
    for newer in replica.newer if replica is not None else ():
        raise PointIsNewer(job.name, newer)
    for damaged in replica.damaged if replica is not None else ():
        raise PointIsDamaged(job.name, damaged)
    raise NoPoints(job=job.name)


def read_replica(session: Session, job: Job, ref: VmRef) -> ReplicaState:
    """Reads the VM and its snapshots. Raises NotOurReplica where it is not this job's."""
    vm = session.read_vm(ref)
    if vm.extra_config.get(JOB_KEY) != job.name:
        raise NotOurReplica(name=job.placement.name, job=job.name).at(vm=vm.ref.name)
    accepted = read_accepted(job)
    points: list[RecoveryPoint] = []
    foreign: list[SnapshotInfo] = []
    leftovers: list[SnapshotInfo] = []
    newer: list[NewerPoint] = []
    damaged: list[DamagedPoint] = []
    sides: list[SideBranch] = []
    snapshots = session.read_snapshots(ref)
    twice = _made_twice(snapshots)
    for snapshot in snapshots:
        side = SideBranch.from_extra_config(snapshot.extra_config, snapshot.moref)
        if side is not None and side.id == snapshot.name:
            sides.append(side)
            continue
        point = RecoveryPoint.from_extra_config(snapshot.extra_config, snapshot.moref)
        if point is not None and point.job == job.name:
            if snapshot.moref not in twice and _is_point(snapshot, point):
                points.append(replace(point, accepted=point.id in accepted))
            else:
                (leftovers if _written_by_us(snapshot, job) else foreign).append(snapshot)
        elif (found := _newer(snapshot, (None, job.name, job.reverse_name))) is not None:
            newer.append(found)
        elif (broken := _damaged(snapshot)) is not None:
            damaged.append(broken)
        else:
            (leftovers if _written_by_us(snapshot, job) else foreign).append(snapshot)
    return ReplicaState(
        vm,
        points=tuple(points),
        foreign=tuple(foreign),
        leftovers=tuple(leftovers),
        newer=tuple(newer),
        damaged=tuple(damaged),
        snapshots=snapshots,
        sides=tuple(sides),
    )


def point_text(point: RecoveryPoint) -> str:
    """The text of a recovery point's snapshot in vCenter."""
    return (
        f"Recovery point of {point.source_name} at {point.time:%Y-%m-%d %H:%M:%S} UTC, "
        f"{point.level} consistent, made by vreplica for job {point.job}. "
        "The replication needs it; retention removes it."
    )


def _written_by_us(snapshot: SnapshotInfo, job: Job) -> bool:
    """True for a snapshot with the text of a point of this job. A person's has another.

    A snapshot that a person takes freezes the description of the point beneath it, too.
    """
    return f" made by vreplica for job {job.name}. " in snapshot.description


def _is_point(snapshot: SnapshotInfo, point: RecoveryPoint) -> bool:
    """False where the disks were written to after the point, or another writer had the replica.

    Points of versions that claimed nothing have no claim.
    """
    claim = Claim.of(snapshot.extra_config)
    untouched = not snapshot.extra_config.get(LEAF_KEY)
    return untouched and (claim is None or claim.run == point.id)


def _made_twice(snapshots: Sequence[SnapshotInfo]) -> set[str]:
    """morefs of snapshots that froze the description of a point which is another snapshot.

    A writer that had lost the replica made them. The point itself has the name of its id.
    """
    by_id: dict[str, list[SnapshotInfo]] = {}
    for snapshot in snapshots:
        if point := RecoveryPoint.from_extra_config(snapshot.extra_config, snapshot.moref):
            by_id.setdefault(point.id, []).append(snapshot)
    twice: set[str] = set()
    for id_, found in by_id.items():
        own = next((s for s in found if s.name == id_), found[0])
        twice |= {s.moref for s in found if s is not own}
    return twice


def newer_points(snapshots: Sequence[SnapshotInfo]) -> tuple[NewerPoint, ...]:
    """The recovery points, of any job, that only a newer version can read."""
    found = (_newer(snapshot) for snapshot in snapshots)
    return tuple(point for point in found if point is not None)


def is_side_branch(snapshot: SnapshotInfo) -> bool:
    """True where a snapshot, with its configuration, is a side branch of any job."""
    side = SideBranch.from_extra_config(snapshot.extra_config)
    return side is not None and side.id == snapshot.name


def _newer(snapshot: SnapshotInfo, jobs: tuple[str | None, ...] | None = None) -> NewerPoint | None:
    """The newer point that a snapshot is, of one of these jobs (None: of any)."""
    if is_side_branch(snapshot):
        return None
    point = NewerPoint.from_extra_config(snapshot.extra_config, snapshot.moref, name=snapshot.name)
    return point if point is not None and (jobs is None or point.job in jobs) else None


def _damaged(snapshot: SnapshotInfo) -> DamagedPoint | None:
    if is_side_branch(snapshot):
        return None
    values = snapshot.extra_config
    return DamagedPoint.from_extra_config(values, snapshot.moref, name=snapshot.name)


def base_of(replica: ReplicaState) -> str | None:
    """The id of the recovery point beneath the replica's disks: one of the chain."""
    parents = {s.moref: s.parent for s in replica.snapshots}
    points = {p.snapshot: p.id for p in replica.points}
    here = replica.vm.current_snapshot
    while here is not None and here not in points:
        here = parents.get(here)
    return points.get(here)


def revert_to_point(
    session: Session,
    claim: HeldClaim,
    snapshot: SnapshotInfo,
    marks: Mapping[str, str],
) -> None:
    """Takes disks and hardware of a claimed replica back to the snapshot of a recovery point.

    The revert takes the claim back as well, so it is set again. `marks`: those of the failover
    that reverts; a run takes away the mark of a failover that comes back. Raises ClaimLost.
    """
    with claim.reverting(snapshot.extra_config):
        session.revert_to_snapshot(claim.vm, snapshot.moref)
        reverted = {REVERTED_KEY: session.refresh().isoformat()}
        claim.write({FAILOVER_KEY: "", **marks, **reverted}, place=False)
