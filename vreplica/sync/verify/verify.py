"""Is a recovery point what the source was? Answered by reading both, not by trusting the copy.

    source snapshot now   |====A====|##B##|====C====|
    recovery point        |====A====|--b--|====C====|
                                      `-- changed since the point, says CBT: not comparable

Everything that CBT calls unchanged since the point must be equal; so a difference is a defect
of the copy or of the tracking, and both are worth knowing. Right after a run nothing is
excepted: the source's snapshot still stands.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from vreplica.delta.compare.compare import CompareReport, compare
from vreplica.delta.compare.root_digest import BLAKE3
from vreplica.delta.compare.spot_check import SpotCheck
from vreplica.delta.control import Control
from vreplica.extents import Extents
from vreplica.points import RecoveryPoint
from vreplica.sync.errors import NoSuchPoint, NotOurReplica, PointIsNewer
from vreplica.sync.events import Listener, Progress, Step, Warn, ignore
from vreplica.sync.job import Job
from vreplica.sync.job_dir import job_lock
from vreplica.sync.pause import Holding
from vreplica.sync.replica.state import find_replica, identity, need_points, snapshot_name
from vreplica.sync.report import DiskVerify, VerifyReport
from vreplica.sync.sites import Sites
from vreplica.sync.source.cbt import changed_since
from vreplica.sync.transport import open_snapshot_disk
from vreplica.vsphere.model import SnapshotInfo, VmDisk, VmRef

SHOWN_DIFFERENCES = 16


@dataclass(frozen=True, slots=True)
class Scrutiny:
    """How closely to look. The default is all there is to compare, without image digests."""

    share: float = 1.0
    """Below 1: that share of what is allocated, in pieces of 1 MiB."""
    seed: int = 0
    """Chooses the pieces; each disk adds its key."""
    algorithm: str = BLAKE3
    image: bool = False
    """Read all of the point's disks and digest them whole."""

    def sample(self, key: int) -> SpotCheck | None:
        return None if self.share >= 1 else SpotCheck(self.share, self.seed + key)


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
) -> VerifyReport:
    """Compare a recovery point (default: the latest) with the source as it is now.

    `share` below 1 looks at a sample, chosen by `seed` (default: a random one) and recorded.
    `algorithm`: `blake3` or `xxh3-128`. `image`: digest the point's whole disks too; by default
    where everything is looked at.

    What has changed on the source since the point is left out and counted. A difference is no
    error here: `report.equal` says. `control` cancels, pauses and resumes. Raises CbtError where
    changed block tracking cannot tell what changed since, and CopyCancelled.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share is above 0 and at most 1, not {share}")
    scrutiny = Scrutiny(
        share=share,
        seed=secrets.randbits(32) if seed is None else seed,
        algorithm=algorithm,
        image=share >= 1 if image is None else image,
    )
    control = control or Control()
    with job_lock(job), Holding(job, control, listener), Sites.open(job) as sites:
        listener(Step("read", f"reading {job.source_vm} and {job.placement.name}"))
        vm = sites.source.read_vm(sites.source.find_vm(job.source_vm))
        replica = need_points(job, find_replica(sites.destination, job))
        for newer in replica.newer:
            if point is None or point == newer.id:
                raise PointIsNewer(job.name, newer)
        chosen = _choose(job, replica.points, point)
        if chosen.source_vm != identity(vm):
            raise NotOurReplica(name=replica.vm.ref.name, job=job.name)
        for leftover in vm.snapshots:
            if leftover.name == snapshot_name(job.name):
                sites.source.remove_snapshot(vm.ref, leftover.moref)
        listener(Step("snapshot", f"taking a snapshot of {vm.ref.name}"))
        snapshot = sites.source.create_snapshot(
            vm.ref, snapshot_name(job.name), f"Taken by vreplica to verify job {job.name}.", None
        )
        try:
            since = {}
            for disk in snapshot.disks:
                base = chosen.disk(disk.key)
                if base is not None:
                    since[disk.key] = changed_since(sites.source, vm, snapshot, disk, base)
            listener(Step("verify", f"comparing point {chosen.id} with the source"))
            return compare_point(
                job,
                sites,
                vm.ref,
                snapshot,
                replica.vm.ref,
                chosen,
                since,
                listener,
                control,
                scrutiny,
            )
        finally:
            sites.source.remove_snapshot(vm.ref, snapshot.moref)


def compare_point(
    job: Job,
    sites: Sites,
    source: VmRef,
    snapshot: SnapshotInfo,
    replica: VmRef,
    point: RecoveryPoint,
    since: Mapping[int, Extents],
    listener: Listener,
    control: Control | None = None,
    scrutiny: Scrutiny | None = None,
) -> VerifyReport:
    """Compare every disk of a point with a snapshot of the source, less what changed `since`."""
    started, scrutiny = datetime.now(UTC), scrutiny or Scrutiny()
    control = control or Control()
    assert point.snapshot is not None, "a point that was read from the destination"
    frozen = sites.destination.read_snapshot(replica, point.snapshot)
    mirrors = {d.key: d for d in frozen.disks}
    sources = {d.key: d for d in snapshot.disks}

    def one(key: int) -> DiskVerify:
        disk = sources[key]
        excluded = since.get(key, Extents.empty())
        with (
            closing(
                open_snapshot_disk(
                    job, sites.source, source, snapshot.moref, disk, first_of_two=True
                )
            ) as left,
            closing(
                open_snapshot_disk(job, sites.destination, replica, frozen.moref, mirrors[key])
            ) as right,
        ):
            report = compare(
                left,
                right,
                exclude=excluded,
                sample=scrutiny.sample(key),
                algorithm=scrutiny.algorithm,
                image=scrutiny.image,
                control=control,
                progress=lambda done, total: listener(
                    Progress("verify", disk.label, done, total, 0)
                ),
            )
        return _result(disk, report, excluded)

    both = [d.key for d in point.disks if d.key in sources and d.key in mirrors]
    for disk in point.disks:
        if disk.key not in both:
            listener(Warn(f"{disk.label} of point {point.id} is not on both sides any more"))
    with ThreadPoolExecutor(job.parallel_disks, "vreplica-verify") as pool:
        try:
            disks = tuple(pool.map(one, both))
        except BaseException:
            # Of a failure, or Ctrl-C: the other disks need not be read to their end.
            control.cancel()
            raise
    seconds = (datetime.now(UTC) - started).total_seconds()
    return VerifyReport(
        job=job.name,
        point=point,
        disks=disks,
        started=started,
        seconds=seconds,
        algorithm=scrutiny.algorithm,
        source=f"{source.name} at {job.source.host}",
        replica=f"{replica.name} at {job.destination.host}",
    )


def _choose(job: Job, points: tuple[RecoveryPoint, ...], wanted: str | None) -> RecoveryPoint:
    if wanted is None:
        return points[-1]
    for point in points:
        if point.id == wanted:
            return point
    raise NoSuchPoint(job=job.name, point=wanted, newest=points[-1].id)


def _result(disk: VmDisk, report: CompareReport, excluded: Extents) -> DiskVerify:
    pairs = [(start, end) for start, end in report.differences]
    return DiskVerify(
        key=disk.key,
        label=disk.label,
        capacity_bytes=disk.capacity_bytes,
        compared_bytes=report.compared_bytes + (0 if report.spot else report.hole_bytes),
        changed_since_bytes=excluded.total,
        different_bytes=report.different_bytes,
        first_differences=tuple(pairs[:SHOWN_DIFFERENCES]),
        source_root=report.source_root,
        replica_root=report.target_root,
        image_digest=report.image_digest,
        looked_at=tuple(report.looked_at),
        spot=report.spot,
    )
