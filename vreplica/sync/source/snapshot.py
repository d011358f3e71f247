"""The source's snapshot, and the consistency level that it really reached.

    quiesce asked?  Tools running?  evidence in the snapshot        level
    ----------------------------------------------------------------------------
    no              -               -                               crash
    yes             no              (the request would be ignored)  crash
    yes             yes             flag, and writers in manifest   application
    yes             yes             flag only                       filesystem
    yes             yes             none                            crash

vSphere ignores a quiesce request without a fault when the VM is off or Tools are not running
(API reference of CreateSnapshot_Task), so asking proves nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from vreplica.errors import ConsistencyError
from vreplica.points import Level
from vreplica.sync.errors import LevelNotReached
from vreplica.sync.events import Listener, Warn
from vreplica.sync.job import Job, QuiescePolicy
from vreplica.sync.replica.state import snapshot_name
from vreplica.vsphere.errors import QuiesceFailed, ToolsUnavailable
from vreplica.vsphere.inventory.snapshots import quiesce_evidence
from vreplica.vsphere.model import QuiesceOptions, SnapshotInfo, VmInfo
from vreplica.vsphere.session import Session

RETRY_DELAY_S = 5.0
"""Between attempts to quiesce; VSS writers usually settle within seconds."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """The source's snapshot with what it is worth."""

    snapshot: SnapshotInfo
    level: Level
    requested: Level
    notes: tuple[str, ...]


def freeze(
    job: Job,
    session: Session,
    vm: VmInfo,
    run_id: str,
    known_level: Level | None,
    listener: Listener,
) -> Frozen:
    """Take the snapshot. Raises LevelNotReached, with the snapshot removed again.

    `known_level` is what the caller knows of a VM that is off (it saw its guest shut down);
    without it such an image counts as crash-consistent.
    """
    notes: list[str] = []
    wanted = job.quiesce is not QuiescePolicy.NEVER
    asks = wanted and vm.power_state == "poweredOn" and vm.tools_running
    requested = quiesced_level(vm) if wanted else Level.CRASH
    snapshot = _quiesced(job, session, vm, run_id, notes) if asks else None
    if snapshot is None:
        snapshot = session.create_snapshot(
            vm.ref, snapshot_name(job.name), _text(job, run_id), None
        )
        level = Level.CRASH
        if known_level is not None and vm.power_state == "poweredOff":
            level = requested = known_level
    else:
        evidence = quiesce_evidence(snapshot, vm)
        level = Level(evidence) if evidence else Level.CRASH
        if level < requested:
            why = f": {snapshot.vss_problem}" if snapshot.vss_problem else ""
            notes.append(f"quiescing was asked for and reached {level} consistency{why}")
    if level < job.require:
        session.remove_snapshot(vm.ref, snapshot.moref)
        raise LevelNotReached(
            required=job.require,
            reached=level,
            reason="; ".join(notes) or "quiescing was not possible",
        )
    for note in notes:
        listener(Warn(note))
    return Frozen(snapshot, level, requested, tuple(notes))


def _quiesced(
    job: Job, session: Session, vm: VmInfo, run_id: str, notes: list[str]
) -> SnapshotInfo | None:
    """A quiesced snapshot after at most `quiesce_attempts`; None where the job allows less."""
    quiesce = QuiesceOptions(
        timeout_min=job.quiesce_timeout_min, windows=vm.guest_family == "windows"
    )
    for attempt in range(1, job.quiesce_attempts + 1):
        try:
            return session.create_snapshot(
                vm.ref, snapshot_name(job.name), _text(job, run_id), quiesce
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
    """The best that quiescing can prove of this guest (`quiesce_evidence` says why)."""
    levels = {"windows": Level.APPLICATION, "linux": Level.FILESYSTEM}
    return levels.get(vm.guest_family, Level.CRASH)


def _text(job: Job, run_id: str) -> str:
    return f"Taken by vreplica for job {job.name}, run {run_id}. It is removed when the run ends."
