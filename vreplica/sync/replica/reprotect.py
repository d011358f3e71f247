"""The last state of a VM that was the source, frozen as the first point of the way back to it.

    V was replicated to W, and W was booted from the recovery point P:

      V   ------P---v---|                 v: what V wrote after P (nothing, after a final sync)
      W         P==========w=======>      w: what W wrote since it was started

    adopt     a snapshot of V, described as a point of the job W -> V:
                change_id       where W's tracking stood at P       -> w, asked of W
                diverged_since  where V's tracking stood at P       -> v, asked of V
              the digest map of P, less v, becomes the map of V

So the next run of the way back looks at w and v alone and drops what is equal; where either
tracking is not usable it is an ordinary rescan. V's own last state stays bootable underneath.
Both sides tell everything that is needed here; nothing depends on this machine's files.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from vreplica.errors import CbtError, VReplicaError
from vreplica.extents import Extents
from vreplica.points import DiskPoint, Level, NewerPoint, RecoveryPoint
from vreplica.points.digestmap.carry import carry
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.vm_keys import JOB_KEY, LEAF_KEY, SOURCE_KEY
from vreplica.sync.errors import NoSuchPoint, PointIsNewer, PreflightFailed
from vreplica.sync.events import Listener, Step, Warn
from vreplica.sync.job import Job
from vreplica.sync.job_dir import job_lock, map_path
from vreplica.sync.replica.foreign_changes import changes_outside
from vreplica.sync.replica.state import (
    ReplicaState,
    disk_identity,
    find_replica,
    identity,
    newer_points,
    snapshot_name,
)
from vreplica.sync.sites import Sites
from vreplica.vsphere.model import SnapshotInfo, VmInfo

FROZEN = "frozen"
"""The mode of its disks: nothing was copied to make this point."""


def adopt(job: Job, *, point: str, booted: str, level: Level, listener: Listener) -> RecoveryPoint:
    """Make point `point` of `job`, whose replica was the source before; once however often called.

    `booted`: the point of the other direction that the present source was started from.
    `level`: how the VM went down, as far as somebody saw it. Raises PreflightFailed where the VM
    is another one, is on or has snapshots of others, and NoSuchPoint.
    """
    with job_lock(job), Sites.open(job) as sites:
        vm = sites.destination.read_vm(sites.destination.find_vm(job.placement.name))
        known = find_replica(sites.destination, job) if _is_ours(job, vm) else None
        if known is not None and known.latest is not None and is_frozen(job, sites, known):
            if known.latest.id == point:
                _carry_maps(job, booted, known.latest, sites, known, listener)
            return known.latest
        here = sites.source.read_vm(sites.source.find_vm(job.source_vm))
        base, frozen = booted_point(job, sites, here, booted)
        vm = _without_ours(job, sites, vm)
        problems = obstacles(job, sites, vm, base)
        if problems:
            raise PreflightFailed(job=job.name, problems=tuple(problems)).at(vm=vm.ref.name)
        listener(Step("freeze", f"freezing the last state of {vm.ref.name} as point {point}"))
        # What an earlier way back wrote into it is in no tracking.
        written = known is not None and any(p.time > base.time for p in known.points)
        made = _describe(job, sites, vm, here, base, frozen, point, level, tracked=not written)
        options = {JOB_KEY: job.name, SOURCE_KEY: identity(here), LEAF_KEY: ""}
        sites.destination.set_extra_config(vm.ref, {**made.to_extra_config(), **options})
        text = f"The last state of {vm.ref.name} before the way back from {here.ref.name}."
        snapshot = sites.destination.create_snapshot(vm.ref, made.id, text, None)
        made = replace(made, snapshot=snapshot.moref)
        now = find_replica(sites.destination, job)
        assert now is not None, "it was described a moment ago"
        _carry_maps(job, booted, made, sites, now, listener)
        return made


def is_frozen(job: Job, sites: Sites, replica: ReplicaState) -> bool:
    """Does it stand on its latest point, and nobody has run it since?"""
    return replica.clean and not changes_outside(job, sites.destination, replica)


def obstacles(job: Job, sites: Sites, vm: VmInfo, base: RecoveryPoint) -> list[str]:
    """What keeps `vm` from being what the way back of `job` goes to. Sentences with the remedy."""
    name = vm.ref.name
    found = []
    if base.source_vm != identity(vm):
        found.append(
            f"{name} is not the VM that {base.id} was made from ({base.source_name}, "
            f"{base.source_vm}); this one is {identity(vm)}: bring the original back, or let the "
            "way back make a new VM (--new-vm)"
        )
    if vm.power_state != "poweredOff":
        found.append(
            f"{name} is {vm.power_state}: what it writes would be lost, and its twin is in "
            "service; find out who started it, save what it holds, and shut it down"
        )
    newer = newer_points(sites.destination, vm)
    found += [
        f"{name}: {point}. Upgrade vreplica on this machine; do not remove that point"
        for point in newer
    ]
    foreign = [s.name for s in vm.snapshots if s.moref not in {p.snapshot for p in newer}]
    if foreign and _is_ours(job, vm):
        replica = find_replica(sites.destination, job)
        foreign = [s.name for s in replica.foreign] if replica else []
    if foreign:
        found.append(f"{name} has snapshots of others ({', '.join(foreign)}): remove them first")
    if vm.consolidation_needed:
        found.append(f"{name} needs consolidation: consolidate its disks in vCenter first")
    return found


def drop_points(job: Job, listener: Listener) -> list[str]:
    """Remove `job`'s recovery points from the VM that it went to, which is in service now."""
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


def _is_ours(job: Job, vm: VmInfo) -> bool:
    return vm.extra_config.get(JOB_KEY) == job.name


def booted_point(
    job: Job, sites: Sites, here: VmInfo, booted: str
) -> tuple[RecoveryPoint, SnapshotInfo]:
    """The point of the other direction that stands beneath the VM in service."""
    found = []
    for snapshot in sites.source.read_snapshots(here.ref):
        point = RecoveryPoint.from_extra_config(snapshot.extra_config, snapshot.moref)
        if point is not None and point.job == job.other_way:
            found.append(point.id)
            if point.id == booted:
                return point, snapshot
        newer = NewerPoint.from_extra_config(snapshot.extra_config, snapshot.moref)
        if newer is not None and booted in (newer.id, snapshot.name):
            raise PointIsNewer(job.other_way, newer)
    newest = found[-1] if found else "none is left"
    raise NoSuchPoint(job=job.other_way, point=booted, newest=newest).at(vm=here.ref.name)


def _without_ours(job: Job, sites: Sites, vm: VmInfo) -> VmInfo:
    """Less the snapshot that a broken run of the other direction left on its source."""
    left = [s for s in vm.snapshots if s.name == snapshot_name(job.other_way)]
    for snapshot in left:
        sites.destination.remove_snapshot(vm.ref, snapshot.moref)
    return sites.destination.read_vm(vm.ref) if left else vm


def _describe(
    job: Job,
    sites: Sites,
    vm: VmInfo,
    here: VmInfo,
    base: RecoveryPoint,
    frozen: SnapshotInfo,
    point: str,
    level: Level,
    *,
    tracked: bool,
) -> RecoveryPoint:
    then = {d.key: d for d in frozen.disks}
    disks, untouched = [], True
    for disk in base.disks:
        at_base = then[disk.key]
        changed = _changed(sites, vm, disk) if tracked else None
        untouched = untouched and changed is not None and not changed
        disks.append(
            DiskPoint(
                key=disk.key,
                label=at_base.label,
                uuid=disk_identity(at_base),
                capacity_bytes=disk.capacity_bytes,
                # Without one of the two trackings the next run has to read everything.
                change_id=at_base.change_id if changed is not None else None,
                mode=FROZEN,
                written_bytes=0,
                root="",
                diverged_since=disk.change_id if changed is not None else None,
            )
        )
    # It was seen to shut down; when it wrote after the final sync, somebody has run it since.
    reached = level if untouched else min(level, Level.CRASH)
    return RecoveryPoint(
        id=point,
        job=job.name,
        source_vm=identity(here),
        source_name=here.ref.name,
        time=datetime.now(UTC),
        level=reached,
        requested=reached,
        disks=tuple(disks),
        notes=(f"the last state of {vm.ref.name} itself",),
    )


def _changed(sites: Sites, vm: VmInfo, disk: DiskPoint) -> Extents | None:
    """What the (powered-off) VM changed itself since the point; None where it cannot tell."""
    if disk.change_id is None:
        return None
    try:
        return sites.destination.changed_extents(
            vm.ref, None, disk.key, disk.change_id, disk.capacity_bytes
        )
    except CbtError as error:
        if error.retryable:
            raise
        return None


def _carry_maps(
    job: Job,
    booted: str,
    made: RecoveryPoint,
    sites: Sites,
    replica: ReplicaState,
    listener: Listener,
) -> None:
    """Give the frozen state the digests that are known of it. Losing them costs time only."""
    there = job.state_dir / job.other_way
    for disk in made.disks:
        if disk.diverged_since is None:
            continue
        try:
            changed = _changed(sites, replica.vm, replace(disk, change_id=disk.diverged_since))
            if changed is None:
                continue
            known = DigestMap.open(map_path(there, disk.key), latest_point=booted)
            try:
                path = map_path(job.job_dir, disk.key)
                carry(known, path, point=made.id, unknown=changed).close()
            finally:
                known.close()
        except VReplicaError as error:
            listener(Warn(f"{disk.label}: its digests are not carried over: {error.message}"))
