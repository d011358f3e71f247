"""Takes the source's snapshot, and finds the consistency level that it really reached.

    quiesce asked?  Tools running?  evidence in the snapshot        level
    ----------------------------------------------------------------------------
    no              -               -                               crash
    yes             no              (the request would be ignored)  crash
    yes             yes             flag, and writers in manifest   application
    yes             yes             flag only                       filesystem
    yes             yes             none                            crash

vSphere ignores a quiesce request without a fault when the VM is off or Tools are not running
(API reference of CreateSnapshot_Task). So a request proves nothing.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from vreplica.clocks import clock_problem
from vreplica.errors import ConsistencyError, VReplicaError
from vreplica.points import Level
from vreplica.sync.errors import LevelNotReached, SourceSnapshotLost
from vreplica.sync.job import QuiescePolicy
from vreplica.sync.replica.state import replica_mark, run_mark, snapshot_name
from vreplica.sync.run_context import RunContext
from vreplica.vsphere.errors import ObjectGone, QuiesceFailed, ToolsUnavailable
from vreplica.vsphere.inventory.snapshots import quiesce_evidence
from vreplica.vsphere.model import QuiesceOptions, SnapshotInfo, VmInfo, VmRef
from vreplica.vsphere.session import Session

_REMOVES = re.compile(r"(?i)remove.*snapshot|snapshot.*remove|consolidate|destroy|unregister")
"""Operations after which a snapshot may be gone."""
RETRY_DELAY_S = 5.0
"""Between attempts to quiesce; VSS writers usually settle within seconds."""


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """The snapshot of the source that a run reads, with its consistency level."""

    info: SnapshotInfo
    level: Level
    """The level that was reached."""
    requested: Level
    """The level that was asked for."""
    notes: tuple[str, ...]
    """Reasons why the level is lower than requested."""


def take_source_snapshot(context: RunContext, source: VmInfo) -> SourceSnapshot:
    """Takes the snapshot of the source. Raises LevelNotReached, with the snapshot removed again.

    An image of a VM that is off counts as crash-consistent, unless a failover saw how its guest
    went down (`context.known_level`).
    """
    job, session = context.job, context.sites.source
    notes: list[str] = []
    wanted = job.quiesce is not QuiescePolicy.NEVER
    asks = wanted and source.power_state == "poweredOn" and source.tools_running
    requested = quiesced_level(source) if wanted else Level.CRASH
    before = datetime.now(UTC)
    snapshot = _quiesced(context, source, notes) if asks else None
    if snapshot is None:
        snapshot = session.create_snapshot(
            source.ref, snapshot_name(job.name), _text(context), None
        )
        level = Level.CRASH
        if context.known_level is not None and source.power_state == "poweredOff":
            level = requested = context.known_level
    else:
        evidence = quiesce_evidence(snapshot, source)
        level = Level(evidence) if evidence else Level.CRASH
        if level < requested:
            why = f": {snapshot.vss_problem}" if snapshot.vss_problem else ""
            notes.append(f"quiescing was asked for and reached {level} consistency{why}")
    if level < job.require:
        session.remove_snapshot(source.ref, snapshot.moref)
        raise LevelNotReached(
            required=job.require,
            reached=level,
            reason="; ".join(notes) or "quiescing was not possible",
        )
    for note in notes:
        context.warn(note)
    seen = min(max(snapshot.created, before), datetime.now(UTC))
    if text := clock_problem(source.host or job.source.host, snapshot.created, seen):
        context.warn(text)
    return SourceSnapshot(snapshot, level, requested, tuple(notes))


def check_snapshot_stands(session: Session, source: VmRef, snapshot: SnapshotInfo) -> None:
    """Raises SourceSnapshotLost unless the snapshot is still there, by its identity.

    While it stands its disks do not change. Once it is removed, the guest's writes are merged into
    the files that a copy reads, without any error for the reader. Call after the last read.
    """
    try:
        session.read_snapshot(source, snapshot.moref)
    except ObjectGone as error:
        by = _removers(session, source, snapshot)
        raise SourceSnapshotLost(name=snapshot.name, by=by).at(vm=source.name) from error


def _removers(session: Session, source: VmRef, snapshot: SnapshotInfo) -> str:
    """The tasks on the source since the snapshot that touched snapshots, but for new ones."""
    try:
        tasks = session.recent_tasks(source)
        # The snapshot's time is its host's, those of tasks are vCenter's.
        made = snapshot.created - session.host_clock_ahead(source)
    except VReplicaError:
        return ""
    told = [
        f"{task.operation} by {task.user or 'an unknown user'} at {task.queued:%H:%M:%S} UTC"
        for task in tasks
        if task.queued >= made and _REMOVES.search(task.operation)
    ]
    return f" ({'; '.join(told)})" if told else ""


def _quiesced(context: RunContext, source: VmInfo, notes: list[str]) -> SnapshotInfo | None:
    """A quiesced snapshot after at most `quiesce_attempts`; None where the job allows less."""
    job, session = context.job, context.sites.source
    quiesce = QuiesceOptions(
        timeout_min=job.quiesce_timeout_min, windows=source.guest_family == "windows"
    )
    for attempt in range(1, job.quiesce_attempts + 1):
        try:
            return session.create_snapshot(
                source.ref, snapshot_name(job.name), _text(context), quiesce
            )
        except (QuiesceFailed, ToolsUnavailable) as error:
            failure: ConsistencyError = error
            if attempt < job.quiesce_attempts:
                time.sleep(RETRY_DELAY_S)
    reason = f"quiescing failed {job.quiesce_attempts} times: {failure.message}"
    if job.quiesce is QuiescePolicy.REQUIRE or job.require > Level.CRASH:
        required = max(job.require, Level.FILESYSTEM)
        raise LevelNotReached(required=required, reached=Level.CRASH, reason=reason) from failure
    notes.append(reason)
    return None


def quiesced_level(vm: VmInfo) -> Level:
    """The best level that quiescing can prove of this guest (see `quiesce_evidence`)."""
    levels = {"windows": Level.APPLICATION, "linux": Level.FILESYSTEM}
    return levels.get(vm.guest_family, Level.CRASH)


def _text(context: RunContext) -> str:
    job, run = context.job.name, run_mark(context.run_id)
    replica = replica_mark(context.replica)
    return f"Taken by vreplica for job {job}{run} It is removed when the run ends. {replica}"
