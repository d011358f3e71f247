"""Compares every disk of a recovery point with a snapshot of the source, by reading both.

    source snapshot now   |====A====|##B##|====C====|
    recovery point        |====A====|--b--|====C====|
                                      `-- changed since the point, says CBT: not comparable

Everything that CBT calls unchanged since the point must be equal. So a difference is a defect of
the copy or of the tracking, and both are worth knowing. Right after a run nothing is excluded: the
source's snapshot still stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vreplica.delta.compare.compare import CompareReport, compare
from vreplica.delta.compare.root_digest import BLAKE3
from vreplica.delta.compare.spot_check import SpotCheck
from vreplica.delta.control import Control
from vreplica.extents import Extents
from vreplica.points import RecoveryPoint
from vreplica.sync.events import Listener, Progress, Warn, ignore
from vreplica.sync.job import Job
from vreplica.sync.report import DiskVerify, VerifyReport
from vreplica.sync.sites import Sites
from vreplica.sync.transport.disks import open_snapshot_disk
from vreplica.vsphere.model import SnapshotInfo, VmDisk, VmRef

SHOWN_DIFFERENCES = 16


@dataclass(frozen=True, slots=True)
class VerifyDepth:
    """The extent of a comparison. The default is all there is, without image digests."""

    share: float = 1.0
    """Below 1: that share of what is allocated, in pieces of 1 MiB."""
    seed: int = 0
    """Chooses the pieces; each disk adds its key."""
    algorithm: str = BLAKE3
    image: bool = False
    """Read all of the point's disks and digest them whole."""

    def sample(self, key: int) -> SpotCheck | None:
        return None if self.share >= 1 else SpotCheck(self.share, self.seed + key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A recovery point of the replica, beside a snapshot of the source."""

    job: Job
    sites: Sites
    source: VmRef
    snapshot: SnapshotInfo
    replica: VmRef
    point: RecoveryPoint
    changed_since: Mapping[int, Extents] = field(default_factory=dict)
    """Key of a disk -> what has changed on the source since the point; left out and counted."""
    depth: VerifyDepth = field(default_factory=VerifyDepth)
    listener: Listener = ignore
    control: Control = field(default_factory=Control)


def compare_point(comparison: Comparison) -> VerifyReport:
    """Compares all disks that both sides have. A difference is no error: `report.equal` says."""
    job, point, started = comparison.job, comparison.point, datetime.now(UTC)
    assert point.snapshot is not None, "a point that was read from the destination"
    frozen = comparison.sites.destination.read_snapshot(comparison.replica, point.snapshot)
    targets = {d.key: d for d in frozen.disks}
    sources = {d.key: d for d in comparison.snapshot.disks}

    def one(key: int) -> DiskVerify:
        return _compare_disk(comparison, sources[key], targets[key])

    both = [d.key for d in point.disks if d.key in sources and d.key in targets]
    for disk in point.disks:
        if disk.key not in both:
            text = f"{disk.label} of point {point.id} is not on both sides any more"
            comparison.listener(Warn(text))
    with ThreadPoolExecutor(job.parallel_disks, "vreplica-verify") as pool:
        try:
            disks = tuple(pool.map(one, both))
        except BaseException:
            # A failure, or Ctrl-C: the other disks need not be read to their end.
            comparison.control.cancel()
            raise
    return VerifyReport(
        job=job.name,
        point=point,
        disks=disks,
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        algorithm=comparison.depth.algorithm,
        source=f"{comparison.source.name} at {job.source.host}",
        replica=f"{comparison.replica.name} at {job.destination.host}",
    )


def _compare_disk(comparison: Comparison, source: VmDisk, target: VmDisk) -> DiskVerify:
    job, sites, depth = comparison.job, comparison.sites, comparison.depth
    snapshot, point = comparison.snapshot.moref, comparison.point.snapshot
    assert point is not None, "a point that was read from the destination"
    excluded = comparison.changed_since.get(source.key, Extents.empty())

    def report_progress(done_bytes: int, total_bytes: int) -> None:
        comparison.listener(Progress("verify", source.label, done_bytes, total_bytes, 0))

    with (
        closing(
            open_snapshot_disk(
                job, sites.source, comparison.source, snapshot, source, first_of_two=True
            )
        ) as left,
        closing(
            open_snapshot_disk(job, sites.destination, comparison.replica, point, target)
        ) as right,
    ):
        report = compare(
            left,
            right,
            exclude=excluded,
            sample=depth.sample(source.key),
            algorithm=depth.algorithm,
            image=depth.image,
            control=comparison.control,
            progress=report_progress,
        )
    return _result(source, report, excluded)


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
