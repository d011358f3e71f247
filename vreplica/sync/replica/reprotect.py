"""Keeps the last state of a VM that was the source, as the first point of the reverse direction.

    V was replicated to W, and W was booted from the recovery point P:

      V   ------P---v---|                 v: what V wrote after P (nothing, after a final sync)
      W         P==========w=======>      w: what W wrote since it was started

    reprotect   a snapshot of V, described as a point of the job W -> V:
                  change_id       where W's tracking stood at P       -> w, asked of W
                  diverged_since  where V's tracking stood at P       -> v, asked of V
                the digest map of P, less v, becomes the map of V

So the next run of the reverse direction looks at w and v alone and drops what is equal. Where
either tracking cannot be used, it is an ordinary rescan. V's own last state stays bootable. All
that is needed here is read from both sides; nothing depends on the files of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from vreplica.errors import CbtError, VReplicaError
from vreplica.extents import Extents
from vreplica.points import DiskPoint, Level, NewerPoint, RecoveryPoint
from vreplica.points.digestmap.carry import carry
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.vm_keys import CLAIM_KEY, FAILOVER_KEY, JOB_KEY, LEAF_KEY, SOURCE_KEY
from vreplica.sync.claim.claim import Claim
from vreplica.sync.claim.held_claim import Claimant, new_claim, require_held
from vreplica.sync.errors import NoSuchPoint, PointIsNewer, PreflightFailed
from vreplica.sync.events import Listener, Step, Warn
from vreplica.sync.job import Job
from vreplica.sync.job_dir import job_lock, map_path
from vreplica.sync.known_vms import find_known_replica, find_source
from vreplica.sync.replica.foreign_changes import find_foreign_changes
from vreplica.sync.replica.state import (
    ReplicaState,
    disk_identity,
    find_replica,
    is_side_branch,
    newer_points,
    snapshot_name,
    vm_identity,
)
from vreplica.sync.sites import Sites
from vreplica.vsphere.model import SnapshotInfo, VmInfo

KEPT_MODE = "frozen"
"""The mode of the point's disks: nothing was copied to make it. Stored with the point."""


def reprotect(
    job: Job,
    *,
    point: str,
    booted: str,
    level: Level,
    listener: Listener,
    claimant: Claimant | None = None,
    marks: Mapping[str, str] | None = None,
) -> RecoveryPoint:
    """Makes the point `point` of `job`, whose replica was the source before.

    A second call finds the point and makes none. `booted`: the point of the reverse direction
    that the VM in service was started from. `level`: how the original went down, as far as a
    failover saw it. `claimant`: the failback that keeps the VM claimed, with its `marks`;
    None: it is no one's from then on.

    Raises PreflightFailed where the original is another VM, is on or has
    snapshots of others; NoSuchPoint and PointIsNewer for `booted`.
    """
    with job_lock(job), Sites.open(job) as sites:
        there = sites.destination
        ref = find_known_replica(there, job) or there.find_vm(job.placement.name)
        original = there.read_vm(ref)
        known = find_replica(sites.destination, job) if _is_replica(job, original) else None
        if known is not None and known.latest is not None and _is_kept(job, sites, known):
            if known.latest.id == point:
                _carry_maps(job, sites, known, booted, listener)
            return known.latest
        in_service = sites.source.read_vm(find_source(sites.source, job))
        base, snapshot = booted_point(job, sites, in_service, booted)
        original = _without_left_snapshot(job, sites, original)
        problems = reprotect_problems(job, sites, original, base)
        if problems:
            raise PreflightFailed(job=job.name, problems=tuple(problems)).at(vm=original.ref.name)
        name = original.ref.name
        listener(Step("freeze", f"keeping the last state of {name} as point {point}"))
        # Tracking does not know what an earlier failback wrote to the original.
        written = known is not None and any(_may_follow(known, p, base) for p in known.points)
        made = _LastState(job, sites, original, in_service, base, snapshot).describe(
            point, level, tracked=not written
        )
        options = {JOB_KEY: job.name, SOURCE_KEY: vm_identity(in_service), LEAF_KEY: ""}
        values = {**made.to_extra_config(), **options, CLAIM_KEY: "", FAILOVER_KEY: ""}
        if claimant is not None:
            require_held(name, original.extra_config, claimant)
            found = Claim.of(original.extra_config)
            own = replace(claimant, run=point)
            values |= {**(marks or {}), **new_claim(sites.destination, own, found).option}
        sites.destination.set_extra_config(
            original.ref, values, change_version=original.change_version
        )
        text = f"The last state of {name} before the failback from {in_service.ref.name}."
        sites.destination.create_snapshot(original.ref, made.id, text, None)
        now = find_replica(sites.destination, job)
        assert now is not None, "it was described a moment ago"
        assert now.latest is not None, "its point was made a moment ago"
        _carry_maps(job, sites, now, booted, listener)
        return now.latest


def reprotect_problems(job: Job, sites: Sites, original: VmInfo, base: RecoveryPoint) -> list[str]:
    """Reasons why the original cannot be replicated to again. Sentences with the remedy."""
    name = original.ref.name
    found = []
    if base.source_vm != vm_identity(original):
        found.append(
            f"{name} is not the VM that {base.id} was made from ({base.source_name}, "
            f"{base.source_vm}); this one is {vm_identity(original)}: bring the original back, or "
            "let the failback make a new VM (--new-vm)"
        )
    if original.power_state != "poweredOff":
        found.append(
            f"{name} is {original.power_state}: what it writes would be lost, and its twin is in "
            "service; find out who started it, save what it holds, and shut it down"
        )
    snapshots = sites.destination.read_snapshots(original.ref) if original.snapshots else ()
    newer = newer_points(snapshots)
    advice = "Upgrade vreplica on this machine; do not remove that point"
    found += [f"{name}: {point}. {advice}" for point in newer]
    ours = {p.snapshot for p in newer} | {s.moref for s in snapshots if is_side_branch(s)}
    foreign = [s.name for s in original.snapshots if s.moref not in ours]
    if foreign and _is_replica(job, original):
        replica = find_replica(sites.destination, job)
        foreign = [s.name for s in replica.foreign] if replica else []
    if foreign:
        found.append(f"{name} has snapshots of others ({', '.join(foreign)}): remove them first")
    if original.consolidation_needed:
        found.append(f"{name} needs consolidation: consolidate its disks in vCenter first")
    return found


def remove_points(job: Job, listener: Listener) -> list[str]:
    """Removes `job`'s recovery points from its replica, which is in service now."""
    removed = []
    with Sites.open(job) as sites:
        replica = find_replica(sites.destination, job)
        for point in replica.points if replica else ():
            assert replica is not None
            assert point.snapshot is not None, "a point that was read"
            listener(Step("release", f"removing point {point.id} of {replica.vm.ref.name}"))
            sites.destination.remove_snapshot(replica.vm.ref, point.snapshot)
            removed.append(point.id)
    return removed


def booted_point(
    job: Job, sites: Sites, in_service: VmInfo, booted: str
) -> tuple[RecoveryPoint, SnapshotInfo]:
    """The point of the reverse direction that stands beneath the VM in service."""
    found = []
    for snapshot in sites.source.read_snapshots(in_service.ref):
        point = RecoveryPoint.from_extra_config(snapshot.extra_config, snapshot.moref)
        if point is not None and point.job == job.reverse_name:
            found.append(point.id)
            if point.id == booted:
                return point, snapshot
        newer = NewerPoint.from_extra_config(snapshot.extra_config, snapshot.moref)
        if newer is not None and booted in (newer.id, snapshot.name):
            raise PointIsNewer(job.reverse_name, newer)
    newest = found[-1] if found else "none is left"
    raise NoSuchPoint(job=job.reverse_name, point=booted, newest=newest).at(vm=in_service.ref.name)


def _is_replica(job: Job, vm: VmInfo) -> bool:
    return vm.extra_config.get(JOB_KEY) == job.name


def _may_follow(original: ReplicaState, point: RecoveryPoint, base: RecoveryPoint) -> bool:
    """True unless a point of the original was certainly made before `base`, a point made from it.

    Each comparison is of times of one clock: of the original's site, which gave `base.time`, and
    of the movers. A clock may have been set back, so both have to say it; a rescan does no harm.
    """
    snapshot = original.snapshot_of(point)
    return snapshot is None or snapshot.created >= base.time or point.taken >= base.taken


def _is_kept(job: Job, sites: Sites, replica: ReplicaState) -> bool:
    """True where it stands on its latest point, and nobody has run it since."""
    return replica.clean and not find_foreign_changes(job, sites.destination, replica)


def _without_left_snapshot(job: Job, sites: Sites, original: VmInfo) -> VmInfo:
    """Removes the snapshot that a broken run of the reverse direction left on its source."""
    left = [s for s in original.snapshots if s.name == snapshot_name(job.reverse_name)]
    for snapshot in left:
        sites.destination.remove_snapshot(original.ref, snapshot.moref)
    return sites.destination.read_vm(original.ref) if left else original


@dataclass(frozen=True, slots=True)
class _LastState:
    """The original (V) beside the VM in service (W), and the point P that W was booted from."""

    job: Job
    sites: Sites
    original: VmInfo
    in_service: VmInfo
    base: RecoveryPoint
    base_snapshot: SnapshotInfo
    """The snapshot of W that is P."""

    def describe(self, point: str, level: Level, *, tracked: bool) -> RecoveryPoint:
        """The last state of the original, as a point. `tracked`: its tracking can be asked."""
        disks, unchanged = [], True
        for disk in self.base.disks:
            changed = (
                _changed_since(self.sites, self.original, disk, disk.change_id) if tracked else None
            )
            unchanged = unchanged and changed is not None and not changed
            disks.append(self._disk_point(disk, known=changed is not None))
        # The failover saw it shut down. If it wrote after that, somebody has run it since.
        reached = level if unchanged else min(level, Level.CRASH)
        return RecoveryPoint(
            id=point,
            job=self.job.name,
            source_vm=vm_identity(self.in_service),
            source_name=self.in_service.ref.name,
            time=datetime.now(UTC),
            level=reached,
            requested=reached,
            disks=tuple(disks),
            notes=(f"the last state of {self.original.ref.name} itself",),
        )

    def _disk_point(self, disk: DiskPoint, *, known: bool) -> DiskPoint:
        """`known`: both trackings can be asked; without one the next run reads everything."""
        at_base = next(d for d in self.base_snapshot.disks if d.key == disk.key)
        return DiskPoint(
            key=disk.key,
            label=at_base.label,
            uuid=disk_identity(at_base),
            capacity_bytes=disk.capacity_bytes,
            change_id=at_base.change_id if known else None,
            mode=KEPT_MODE,
            written_bytes=0,
            root="",
            diverged_since=disk.change_id if known else None,
        )


def _changed_since(
    sites: Sites, vm: VmInfo, disk: DiskPoint, change_id: str | None
) -> Extents | None:
    """Areas that the (powered-off) VM changed itself since a changeId; None where unknown."""
    if change_id is None:
        return None
    try:
        return sites.destination.changed_extents(
            vm.ref, None, disk.key, change_id, disk.capacity_bytes
        )
    except CbtError as error:
        if error.retryable:
            raise
        return None


def _carry_maps(
    job: Job, sites: Sites, replica: ReplicaState, booted: str, listener: Listener
) -> None:
    """Gives the kept state the digests that are known of it. Losing them costs time only."""
    point, reverse_dir = replica.latest, job.state_dir / job.reverse_name
    assert point is not None, "the point of the kept state"
    for disk in point.disks:
        if disk.diverged_since is None:
            continue
        try:
            changed = _changed_since(sites, replica.vm, disk, disk.diverged_since)
            if changed is None:
                continue
            known = DigestMap.open(map_path(reverse_dir, disk.key), latest_point=booted)
            try:
                path = map_path(job.job_dir, disk.key)
                carry(known, path, point=point.id, unknown=changed).close()
            finally:
                known.close()
        except VReplicaError as error:
            listener(Warn(f"{disk.label}: its digests are not carried over: {error.message}"))
