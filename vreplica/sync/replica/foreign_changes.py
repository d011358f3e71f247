"""Was the replica changed by somebody else since its latest point? Its guest, or another program.

    evidence                                       found by
    ------------------------------------------------------------------------------------------
    powered on since the point, or since we last   vCenter's events of the replica
    took it back to one
    blocks written since the point                 the replica's own change tracking, and where
                                                   there is a digest map: by reading those blocks

Our own writes end before the snapshot that is the point, so whether tracking records what VDDK
and NFC write (sources differ on that) does not matter here: after a point nobody should write.
Tracking that cannot answer (off, begun anew by a revert) proves nothing, and stops nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from vreplica.delta.cbt_audit import audit
from vreplica.errors import CbtError, ReplicaError, VReplicaError
from vreplica.extents import Extents
from vreplica.points import RecoveryPoint
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.errors import DigestMapUnusable
from vreplica.points.vm_keys import LEAF_KEY, REVERTED_KEY
from vreplica.sync.job import Job
from vreplica.sync.job_dir import map_path
from vreplica.sync.replica.state import ReplicaState
from vreplica.sync.transport import open_current
from vreplica.units import human_size
from vreplica.vsphere.change_id import generation_of
from vreplica.vsphere.model import EventRecord, VmDisk
from vreplica.vsphere.session import Session

READ_S = 10.0
"""The most that reading what tracking reports may take, a disk."""


def changes_outside(job: Job, session: Session, replica: ReplicaState | None) -> tuple[str, ...]:
    """What somebody else did to a replica that should stand on its latest point, in words.

    Of one that does not (a run was writing, a failover has started it) nothing is said: it goes
    back to its point in any case.
    """
    if replica is None or replica.latest is None or not replica.clean:
        return ()
    return (*_starts(session, replica), *_writes(job, session, replica, replica.latest))


def _starts(session: Session, replica: ReplicaState) -> Iterator[str]:
    found = power_on_since_point(session, replica)
    if found is not None:
        who = f" by {found.user}" if found.user else ""
        yield f"it was powered on at {found.time:%Y-%m-%d %H:%M:%S} UTC{who}"


def power_on_since_point(session: Session, replica: ReplicaState) -> EventRecord | None:
    """The first start of the replica since its latest point, or since we took it back to one.

    All times are of the destination's clock.
    """
    since = []
    if replica.latest is not None and (frozen := replica.frozen(replica.latest)):
        since.append(frozen.created)
    with suppress(ValueError):
        since.append(datetime.fromisoformat(replica.vm.extra_config.get(REVERTED_KEY, "")))
    last = max(since, default=None)
    for event in session.events(replica.vm.ref, since=last):
        # VmPoweredOnEvent, DrsVmPoweredOnEvent
        if event.type.endswith("PoweredOnEvent") and (last is None or event.time > last):
            return event
    return None


def need_untouched_seed(session: Session, replica: ReplicaState, path: Path) -> None:
    """Raise DigestMapUnusable where a replica without a point is not as it was seeded."""
    if replica.vm.extra_config.get(LEAF_KEY) != replica.seed[0]:
        raise DigestMapUnusable(path=str(path), reason="a run has written to the replica since")
    if power_on_since_point(session, replica) is not None:
        raise DigestMapUnusable(path=str(path), reason="the replica was powered on since")


def _writes(
    job: Job, session: Session, replica: ReplicaState, latest: RecoveryPoint
) -> Iterator[str]:
    frozen = replica.frozen(latest)
    now = {d.key: d for d in replica.vm.disks}
    for disk in frozen.disks if frozen else ():
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
        if len(areas) and _really(job, session, replica, latest, here, areas):
            yield f"{human_size(areas.total)} of its {disk.label} were written to"


def _really(
    job: Job,
    session: Session,
    replica: ReplicaState,
    latest: RecoveryPoint,
    disk: VmDisk,
    areas: Extents,
) -> bool:
    """Do the blocks that tracking names differ from the digest map? True where nobody knows."""
    try:
        digests = DigestMap.open(map_path(job.job_dir, disk.key), latest_point=latest.id)
    except (ReplicaError, OSError):
        return True
    with closing(digests):
        try:
            with closing(open_current(job, session, replica.vm.ref, disk)) as opened:
                report = audit(
                    opened,
                    digests,
                    Extents.empty(),
                    areas,
                    seed=digests.seed,
                    share=1.0,
                    max_seconds=READ_S,
                )
        except VReplicaError:
            return True
        return bool(len(report.different))
