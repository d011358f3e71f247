"""Finds out whether somebody else changed the replica since its latest point.

    evidence                                       found by
    ------------------------------------------------------------------------------------------
    powered on since the point, or since we last   vCenter's events of the replica
    reverted it to one
    blocks written since the point                 the replica's own change tracking, and where
                                                   there is a digest map: by reading those blocks

Our own writes end before the snapshot that is the point: after a point nobody should write. So it
does not matter whether tracking records what VDDK and NFC write, on which sources differ. Tracking
that cannot answer (off, begun anew by a revert) proves nothing, and stops nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from vreplica.delta.cbt_audit import audit
from vreplica.disk import Disk
from vreplica.errors import CbtError, VReplicaError
from vreplica.extents import Extents
from vreplica.points import RecoveryPoint
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.errors import DigestMapUnusable
from vreplica.points.vm_keys import BOOTED, LEAF_KEY, REVERTED_KEY
from vreplica.stored import Damaged, parse_moment
from vreplica.sync.claim.claim import Claim
from vreplica.sync.job import Job
from vreplica.sync.job_dir import map_path
from vreplica.sync.replica.state import ReplicaState
from vreplica.sync.transport.disks import open_current
from vreplica.units import human_size
from vreplica.vsphere.change_id import generation_of
from vreplica.vsphere.model import EventRecord, SnapshotInfo
from vreplica.vsphere.session import Session

READ_S = 10.0
"""The most that one disk's reading of reported areas may take."""


def find_foreign_changes(
    job: Job, session: Session, replica: ReplicaState | None
) -> tuple[str, ...]:
    """Changes of others on a replica that has points, in words.

    Where a run was writing to it, only a power-on tells of others. Empty for a replica that a
    failover has started: what it wrote is the failover's to keep.
    """
    if replica is None or replica.latest is None:
        return ()
    if replica.vm.extra_config.get(LEAF_KEY, "").startswith(BOOTED):
        return ()
    point = replica.stands_on if replica.untouched else None
    writes = _writes(job, session, replica, point) if point is not None else ()
    return (*_starts(session, replica), *writes)


def _starts(session: Session, replica: ReplicaState) -> Iterator[str]:
    found = power_on_since_point(session, replica)
    if found is not None:
        who = f" by {found.user}" if found.user else ""
        yield f"it was powered on at {found.time:%Y-%m-%d %H:%M:%S} UTC{who}"


def power_on_since_point(session: Session, replica: ReplicaState) -> EventRecord | None:
    """The first power-on of the replica since its latest point, or since we reverted it to one.

    All times are of vCenter's clock, as the events are.
    """
    since = []
    if replica.latest is not None and (snapshot := replica.snapshot_of(replica.latest)):
        since.append(_made(session, replica, snapshot))
    if (reverted := _believed(session, replica.vm.extra_config.get(REVERTED_KEY))) is not None:
        since.append(reverted)
    last = max(since, default=None)
    for event in session.events(replica.vm.ref, since=last):
        # VmPoweredOnEvent, DrsVmPoweredOnEvent
        if event.type.endswith("PoweredOnEvent") and (last is None or event.time > last):
            return event
    return None


def _made(session: Session, replica: ReplicaState, snapshot: SnapshotInfo) -> datetime:
    """When a point was made, or a little before, by vCenter's clock.

    The time of a snapshot is its host's, which may be ahead. The claim that it froze was renewed
    while its run had the disks open, so nobody switched the replica on in between.
    """
    claim = Claim.of(snapshot.extra_config)
    renewed = _believed(session, claim.renewed) if claim is not None else None
    if renewed is not None:
        return renewed
    return snapshot.created - session.host_clock_ahead(replica.vm.ref)


def _believed(session: Session, text: str | None) -> datetime | None:
    """A time of vCenter's clock that the replica keeps; None where it cannot be believed.

    A time that is still to come is none of ours: it would hide every power-on until then.
    """
    try:
        return time if text and (time := parse_moment(text)) <= session.refresh() else None
    except Damaged:
        return None


def need_untouched_seed(session: Session, replica: ReplicaState, path: Path) -> None:
    """Raise DigestMapUnusable where a replica without a point was changed since its seed."""
    if replica.vm.extra_config.get(LEAF_KEY) != replica.seed.id:
        raise DigestMapUnusable(path=str(path), reason="a run has written to the replica since")
    if power_on_since_point(session, replica) is not None:
        raise DigestMapUnusable(path=str(path), reason="the replica was powered on since")


def _writes(
    job: Job, session: Session, replica: ReplicaState, point: RecoveryPoint
) -> Iterator[str]:
    """Disks that were written to since the point on which the replica stands: by tracking, unless
    the digest map says that nothing differs."""
    snapshot = replica.snapshot_of(point)
    now = {d.key: d for d in replica.vm.disks}
    for disk in snapshot.disks if snapshot else ():
        here = now.get(disk.key)
        if here is None or not (disk.change_id and here.change_id):
            continue
        if generation_of(disk.change_id) != generation_of(here.change_id):
            continue
        try:
            areas = session.changed_extents(
                replica.vm.ref, None, disk.key, disk.change_id, here.capacity_bytes
            )
        except CbtError:
            continue
        if not len(areas):
            continue
        # Without a map, or where the disk cannot be read, nobody knows that nothing differs.
        with suppress(VReplicaError, OSError):
            path = map_path(job.job_dir, here.key)
            with (
                closing(DigestMap.open(path, latest_point=point.id)) as digests,
                closing(open_current(job, session, replica.vm.ref, here)) as opened,
            ):
                if _same_content(opened, digests, areas):
                    continue
        yield f"{human_size(areas.total)} of its {disk.label} were written to"


def _same_content(disk: Disk, digests: DigestMap, areas: Extents) -> bool:
    """Reads the areas, and compares them with the digest map."""
    report = audit(
        disk,
        digests,
        Extents.empty(),
        areas,
        seed=digests.seed,
        share=1.0,
        max_seconds=READ_S,
    )
    return not len(report.different)
