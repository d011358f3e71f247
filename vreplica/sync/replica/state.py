"""Where a job stands, read afresh from both sides: source VM, replica VM, recovery points.

The destination is the truth. A replica is this job's when its extraConfig says so:

    vreplica.job      the job's name
    vreplica.source   instance UUID of the source VM
    vreplica.leaf     the run that is writing to its disks; empty when none is
    vreplica.point*   the recovery point that the leaf stands on (points/model.py)

and it is clean when nothing was written since its newest snapshot:

    leaf empty  and  vreplica.point in the VM == vreplica.point in its current snapshot
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from vreplica.points import RecoveryPoint
from vreplica.points.model import LEAF_KEY
from vreplica.sync.errors import JobBusy, NotOurReplica, StateDirUnusable
from vreplica.sync.job import Job
from vreplica.vsphere.errors import VmNotFound
from vreplica.vsphere.model import SnapshotInfo, VmDisk, VmInfo, VmRef
from vreplica.vsphere.session import Session, connect

JOB_KEY = "vreplica.job"
SOURCE_KEY = "vreplica.source"
SEED_KEY = "vreplica.seed"
"""What a replica without a point began with, as JSON: id and keys of its disks (seed.py)."""
REVERTED_KEY = "vreplica.reverted"
"""When we last took the replica back to a point, by the destination's clock: what was started
before that has left nothing on it."""


@dataclass(slots=True)
class Sites:
    """The two open sessions of a run; a context manager."""

    source: Session
    destination: Session
    _stack: ExitStack

    @classmethod
    def open(cls, job: Job) -> Sites:
        with ExitStack() as stack:
            source = stack.enter_context(connect(job.source))
            same = job.source == job.destination
            destination = source if same else stack.enter_context(connect(job.destination))
            return cls(source, destination, stack.pop_all())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """The replica VM and what stands on it."""

    vm: VmInfo
    points: tuple[RecoveryPoint, ...]
    """Oldest first, in the order of the snapshot chain."""
    foreign: tuple[SnapshotInfo, ...]
    """Snapshots that are not recovery points of this job."""
    snapshots: tuple[SnapshotInfo, ...] = ()
    """All of them, with the disks that they froze."""

    @property
    def latest(self) -> RecoveryPoint | None:
        return self.points[-1] if self.points else None

    def frozen(self, point: RecoveryPoint) -> SnapshotInfo | None:
        """The snapshot that is this point, with its disks."""
        return next((s for s in self.snapshots if s.moref == point.snapshot), None)

    @property
    def seed(self) -> tuple[str, frozenset[int]]:
        """Id and keys of the disks that were seeded; ("", none) once there is a point."""
        try:
            value = json.loads(self.vm.extra_config.get(SEED_KEY) or "{}")
            found = str(value["id"]), frozenset(int(k) for k in value["keys"])
        except (ValueError, KeyError, TypeError):
            return "", frozenset()
        return found if self.latest is None else ("", frozenset())

    @property
    def base(self) -> str:
        """What digest maps of it are of: its latest point, or what it was seeded with, or ""."""
        return self.latest.id if self.latest else self.seed[0]

    @property
    def disks(self) -> tuple[VmDisk, ...]:
        """Its disks as they are when it stands on its latest point."""
        frozen = self.frozen(self.latest) if self.latest and not self.clean else None
        return frozen.disks if frozen else self.vm.disks

    @property
    def stands_on(self) -> RecoveryPoint | None:
        """The point that its disks hold, untouched since; None when they hold anything else."""
        if self.vm.extra_config.get(LEAF_KEY):
            return None
        here = RecoveryPoint.from_extra_config(self.vm.extra_config)
        current = self.vm.current_snapshot
        return next((p for p in self.points if p == here and p.snapshot == current), None)

    @property
    def clean(self) -> bool:
        """True when its disks hold exactly its latest recovery point."""
        return self.latest is not None and self.stands_on == self.latest


def snapshot_name(job_name: str) -> str:
    """The name of this job's snapshot on the source. One at a time."""
    return f"vreplica-{job_name}"


def identity(vm: VmInfo) -> str:
    """What stays the same of a VM when it is renamed or moved."""
    return vm.instance_uuid or vm.bios_uuid or vm.ref.moref


def foreign_snapshots(session: Session, job: Job, vm: VmInfo) -> list[SnapshotInfo]:
    """Snapshots of the source that are neither ours nor recovery points of the other direction.

    A VM that was a replica keeps those beneath it; no run writes to them any more.
    """
    if all(s.name == snapshot_name(job.name) for s in vm.snapshots):
        return []
    found = []
    for snapshot in session.read_snapshots(vm.ref):
        point = RecoveryPoint.from_extra_config(snapshot.extra_config)
        other = point is not None and point.job == job.other_way and point.id == snapshot.name
        if snapshot.name != snapshot_name(job.name) and not other:
            found.append(snapshot)
    return found


def disk_identity(disk: VmDisk) -> str:
    """The disk's UUID; a key alone is only a position that another disk can take."""
    return disk.uuid or disk.disk_object_id or ""


def find_replica(session: Session, job: Job) -> ReplicaState | None:
    """The job's replica, None where there is none. Raises NotOurReplica."""
    try:
        ref = session.find_vm(job.placement.name)
    except VmNotFound:
        return None
    return read_replica(session, job, ref)


def read_replica(session: Session, job: Job, ref: VmRef) -> ReplicaState:
    vm = session.read_vm(ref)
    if vm.extra_config.get(JOB_KEY) != job.name:
        raise NotOurReplica(name=job.placement.name, job=job.name).at(vm=vm.ref.name)
    accepted = _accepted(job)
    points: list[RecoveryPoint] = []
    foreign: list[SnapshotInfo] = []
    snapshots = session.read_snapshots(ref)
    for snapshot in snapshots:
        point = RecoveryPoint.from_extra_config(snapshot.extra_config, snapshot.moref)
        if point is not None and point.job == job.name:
            points.append(replace(point, accepted=point.id in accepted))
        else:
            foreign.append(snapshot)
    return ReplicaState(vm, tuple(points), tuple(foreign), snapshots)


def put_on(session: Session, replica: VmRef, snapshot: str) -> None:
    """Disks and hardware of a replica as a recovery point has them."""
    session.revert_to_snapshot(replica, snapshot)
    session.set_extra_config(replica, {REVERTED_KEY: session.refresh().isoformat()})


def accepted_path(job: Job) -> Path:
    """Where sync/recovery_points.py keeps what the operator has accepted."""
    return job.job_dir / "accepted"


def _accepted(job: Job) -> frozenset[str]:
    with in_state_dir():
        try:
            return frozenset(accepted_path(job).read_text().split())
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()


def points(job: Job) -> tuple[RecoveryPoint, ...]:
    """The job's recovery points, oldest first, as the destination has them."""
    with connect(job.destination) as session:
        replica = find_replica(session, job)
        return replica.points if replica else ()


@contextmanager
def in_state_dir() -> Iterator[None]:
    """What the operating system refuses here, before anything is changed: StateDirUnusable."""
    try:
        yield
    except OSError as error:
        raise StateDirUnusable(f"{error.filename}: {error.strerror}") from None


def state_dir_problem(job: Job) -> StateDirUnusable | None:
    """Looks at what is there of the job's folder, and makes nothing."""
    folder = job.job_dir
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            return StateDirUnusable(f"{folder} is no folder")
    except OSError as error:
        return StateDirUnusable(f"{error.filename}: {error.strerror}")
    if not os.access(folder, os.W_OK | os.X_OK):
        return StateDirUnusable(f"{folder} may not be written to")
    return None


@contextmanager
def job_lock(job: Job) -> Iterator[None]:
    """One run of a job at a time on this machine; the lock dies with the process."""
    with in_state_dir():
        job.job_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        opened = (job.job_dir / "lock").open("a+")
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise JobBusy(job=job.name, pid=file.read().strip() or "unknown") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
