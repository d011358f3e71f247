"""The disks of one run: opened, copied side by side, their digests kept for the commit.

    per disk:  open source snapshot, open replica leaf
               choose what to look at          delta/copy/modes.py, from the settled mode
               digest map of the latest point  -> known; new digests -> its sidecar
               copy                            delta/copy/pipeline.py
               audit a sample of the rest      delta/cbt_audit.py, after a delta
               seal the sidecar                its root goes into the recovery point
    after the commit:  follow() folds the sidecars in

The first disk that fails stops the others; the failures of all are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Self

from vreplica.delta.block_hash import ALGORITHM, hash_blocks
from vreplica.delta.cbt_audit import audit
from vreplica.delta.control import Control
from vreplica.delta.copy import modes
from vreplica.delta.copy.modes import CopyMode
from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CHECKPOINT_S, CopySpec
from vreplica.delta.copy.stats import CopyProgress, CopyStats
from vreplica.delta.copy.transfer import DEFAULT_RETRY
from vreplica.delta.errors import CopyCancelled
from vreplica.disk import Disk
from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.points import DiskPoint, RecoveryPoint
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.errors import DigestMapUnusable
from vreplica.points.digestmap.pending import PendingDigests
from vreplica.points.digestmap.rebuild import rebuild
from vreplica.sync.anomaly import change_stats
from vreplica.sync.copy.resume import progress_of
from vreplica.sync.copy.task import DiskTask
from vreplica.sync.events import Listener, Progress, Step, Warn
from vreplica.sync.job import Job
from vreplica.sync.job_dir import map_path
from vreplica.sync.replica.foreign_changes import need_untouched_seed
from vreplica.sync.replica.reshape import bring_maps
from vreplica.sync.replica.state import ReplicaState, disk_identity
from vreplica.sync.report import DiskRun
from vreplica.sync.sites import Sites
from vreplica.sync.source.snapshot import Frozen
from vreplica.sync.transport import open_leaf, open_snapshot_disk
from vreplica.vsphere.model import VmInfo

RETRY = DEFAULT_RETRY
"""For requests of both disks."""

RETRIES_TOLD = 5

AUDIT_SECONDS = 10.0
"""The most that one disk's audit may add to a run."""


@dataclass(frozen=True, slots=True)
class DiskCopy:
    """What came of one task. `map_path` has a sealed sidecar, or is None."""

    report: DiskRun
    point: DiskPoint
    map_path: Path | None


@dataclass(frozen=True, slots=True)
class Copying:
    """What all disks of one run share."""

    job: Job
    sites: Sites
    vm: VmInfo
    replica: ReplicaState
    frozen: Frozen
    run_id: str
    listener: Listener
    control: Control
    fence: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Done:
    """What one disk came to. `allocated`: None where it was not asked for."""

    stats: CopyStats
    allocated: int | None
    audited: int
    seconds: float
    """At work: without pauses, and without the waits of limits."""

    def to_values(self) -> dict[str, float]:
        """For the sidecar's seal: a run that breaks off later takes the disk as done."""
        known = {} if self.allocated is None else {"allocated": self.allocated}
        more = {"audited": self.audited, "seconds": self.seconds}
        return {**self.stats.to_values(), **known, **more}

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Self:
        allocated = values.get("allocated")
        return cls(
            CopyStats.from_values(values),
            int(allocated) if allocated is not None else None,
            int(values.get("audited", 0)),
            values.get("seconds", 0.0),
        )


def copy_disks(run: Copying, tasks: Sequence[DiskTask]) -> list[DiskCopy]:
    """Copy all disks, `parallel_disks` at a time. Raises the first real failure."""
    origins = {task.source.key: task.origin for task in tasks if task.origin is not None}
    moved = {key: origin for key, origin in origins.items() if key != origin.disk.key}
    bring_maps(run.job.job_dir, moved)
    with ThreadPoolExecutor(run.job.parallel_disks, "vreplica-disk") as pool:
        try:
            futures = [pool.submit(_guarded, run, task) for task in tasks]
            wait(futures)
        except BaseException:
            # Ctrl-C in a program of somebody else: the pool ends before anything is put back.
            run.control.cancel()
            raise
    errors = [error for f in futures if (error := f.exception()) is not None]
    if errors:
        real = [e for e in errors if not isinstance(e, CopyCancelled)] or errors
        for other in real[1:]:
            real[0].add_note(f"another disk failed too: {other}")
        raise real[0]
    return [f.result() for f in futures]


def follow(run: Copying, copies: Sequence[DiskCopy], point: RecoveryPoint) -> None:
    """After the commit: fold the digests of this run into the maps. One that cannot be written
    now is made to follow by the next run."""
    for made in copies:
        if made.map_path is None:
            continue
        try:
            DigestMap.open(made.map_path, latest_point=point.id).close()
        except (VReplicaError, OSError) as error:
            run.listener(Warn(f"{made.report.label}: {error}"))


def _guarded(run: Copying, task: DiskTask) -> DiskCopy:
    try:
        return _copy_one(run, task)
    except BaseException as error:
        run.control.cancel()
        if isinstance(error, VReplicaError):
            error.at(disk=task.source.label)
        raise


def _copy_one(run: Copying, task: DiskTask) -> DiskCopy:
    label, started = task.source.label, perf_counter()
    found = progress_of(run.job, run.run_id, task.source.key) if task.resumes is not None else None
    if found is not None and found.sealed:
        return _copied(run, task, _Done.of(found.counts), found.root.hex(), map_of(run, task))
    with ExitStack() as stack:
        source = stack.enter_context(
            closing(
                open_snapshot_disk(
                    run.job,
                    run.sites.source,
                    run.vm.ref,
                    run.frozen.snapshot.moref,
                    task.source,
                    first_of_two=True,
                )
            )
        )
        target = stack.enter_context(
            closing(open_leaf(run.job, run.sites.destination, run.replica.vm.ref, task.target))
        )
        digests = _open_map(run, task, target)
        if digests is not None:
            stack.enter_context(closing(digests))
        plan, allocated = _what_to_copy(task, source, target, digests)
        pending, position = _sidecar(run, task, digests)
        earlier = CopyStats.from_values(pending.counts if pending is not None else {})

        def tell(progress: CopyProgress) -> None:
            # A batch of which nothing has to be written is one too.
            run.fence()
            run.listener(
                Progress(
                    "copy",
                    label,
                    progress.done_bytes,
                    progress.total_bytes,
                    progress.written_bytes,
                )
            )

        stats = copy(
            CopySpec(
                source,
                target,
                plan.extents.clip(position, task.source.capacity_bytes),
                known=digests if plan.use_known else None,
                sink=pending,
                seed=digests.seed if digests is not None else 0,
                source_zero=plan.source_zero,
                target_zero=plan.target_zero,
                progress=tell,
                control=run.control,
                earlier=earlier,
                fence=run.fence,
                checkpoint_s=CHECKPOINT_S,
                retry=RETRY,
                on_retry=_teller(run, label),
            )
        )
        audited = _audit(run, task, source, digests)
        waited = stats.total_s - earlier.total_s - stats.busy_s
        done = _Done(stats, allocated, audited, perf_counter() - started - waited)
        root = ""
        if digests is not None and pending is not None:
            pending.counts = done.to_values()
            root = digests.seal(pending)
    return _copied(run, task, done, root, digests.path if digests is not None else None)


def _copied(run: Copying, task: DiskTask, done: _Done, root: str, path: Path | None) -> DiskCopy:
    stats = done.stats
    return DiskCopy(
        report=_report(task, done),
        point=DiskPoint(
            key=task.source.key,
            label=task.source.label,
            uuid=disk_identity(task.source),
            capacity_bytes=task.source.capacity_bytes,
            change_id=task.settled.change_id,
            mode=task.settled.mode.value,
            written_bytes=stats.written_bytes,
            root=root,
            stats=change_stats(
                stats,
                task.settled.mode,
                disk_identity(task.source),
                done.allocated,
                task.source.capacity_bytes,
                run.replica.latest,
                task.source.key,
                done.seconds,
            ),
        ),
        map_path=path,
    )


def _sidecar(
    run: Copying, task: DiskTask, digests: DigestMap | None
) -> tuple[PendingDigests | None, int]:
    """Where the digests of this run go, and the byte up to which the disk is done already."""
    if digests is None:
        return None, 0
    if task.resumes is not None and progress_of(run.job, run.run_id, task.source.key) is not None:
        pending = digests.resume()
        if pending is not None:
            return pending, pending.position
    return digests.begin(run.run_id), 0


def map_of(run: Copying, task: DiskTask) -> Path:
    return map_path(run.job.job_dir, task.source.key)


def _open_map(run: Copying, task: DiskTask, target: Disk) -> DigestMap | None:
    """The digest map that this copy works with; None where a delta has to do without."""
    path = map_of(run, task)
    if task.resumes is not None:
        # A run is resumed only where its maps are good; that of a full copy can be made again.
        with suppress(DigestMapUnusable):
            return DigestMap.open(path, latest_point=task.resumes)
    if task.settled.mode is CopyMode.FULL:
        return DigestMap.create(
            path, capacity_bytes=task.source.capacity_bytes, algorithm=ALGORITHM
        )
    latest = run.replica.base
    assert latest, "only a full copy starts with nothing"
    try:
        if run.replica.latest is None:
            need_untouched_seed(run.sites.destination, run.replica, path)
        if task.origin is not None:
            latest = task.origin.base(task.source.key)
        found = DigestMap.open(path, latest_point=latest)
        capacity = task.source.capacity_bytes
        if found.capacity_bytes == capacity:
            return found
        with closing(found):
            if task.origin is None or found.capacity_bytes > capacity:
                raise DigestMapUnusable(path=str(path), reason="it is of a disk of another size")
            found.grow(capacity)
        return DigestMap.open(path, latest_point=latest)
    except DigestMapUnusable as error:
        if task.settled.mode is CopyMode.DELTA:
            run.listener(
                Warn(f"{task.source.label}: {error.message}; redundant writes are written too")
            )
            return None
        run.listener(Step("digest", f"reading the replica's {task.source.label}: {error.message}"))

    def heed(done: int, total: int) -> None:
        run.fence()

    return rebuild(path, target, hash_blocks, point=latest, algorithm=ALGORITHM, progress=heed)


def _what_to_copy(
    task: DiskTask, source: Disk, target: Disk, digests: DigestMap | None
) -> tuple[modes.CopyPlan, int | None]:
    """What the copy looks at, and the source's allocated bytes where they were asked for."""
    capacity = task.source.capacity_bytes
    if task.settled.changed is not None:
        return modes.delta(task.settled.changed, capacity), None
    allocated = source.allocated()
    if task.settled.mode is CopyMode.RESCAN and digests is not None:
        return modes.rescan(allocated, digests.not_zero(), capacity), allocated.total
    return modes.full(allocated, target.allocated(), capacity), allocated.total


def _teller(run: Copying, label: str) -> Callable[[VReplicaError], None]:
    """Tells of requests that are repeated, but not of each on a line that stays bad."""
    number = count(1)

    def tell(error: VReplicaError) -> None:
        told = next(number)
        if told <= RETRIES_TOLD:
            rest = "; further ones are not told" if told == RETRIES_TOLD else ""
            run.listener(Warn(f"{label}: {error.message}; trying again{rest}"))

    return tell


def _audit(run: Copying, task: DiskTask, source: Disk, digests: DigestMap | None) -> int:
    """Bytes read of what tracking calls unchanged. Raises CbtMissedChanges.

    The whole disk is sampled, holes too: writes that tracking lost may have gone where nothing
    was before.
    """
    changed = task.settled.changed
    if changed is None or digests is None or not run.job.audit_share:
        return 0
    report = audit(
        source,
        digests,
        changed,
        Extents.of(0, task.source.capacity_bytes),
        seed=digests.seed,
        share=run.job.audit_share,
        max_seconds=AUDIT_SECONDS,
    )
    report.raise_if_different()
    return report.read_bytes


def _report(task: DiskTask, done: _Done) -> DiskRun:
    stats = done.stats
    return DiskRun(
        key=task.source.key,
        label=task.source.label,
        mode=task.settled.mode,
        reason=task.settled.reason,
        capacity_bytes=task.source.capacity_bytes,
        allocated_bytes=done.allocated,
        looked_at_bytes=stats.looked_at_bytes,
        read_bytes=stats.read_bytes,
        redundant_bytes=stats.redundant_bytes,
        zero_already_bytes=stats.zero_already_bytes,
        zeroed_bytes=stats.zeroed_bytes,
        data_bytes=stats.data_bytes,
        audited_bytes=done.audited,
        seconds=stats.total_s,
        retries=stats.retries,
        compressibility=stats.content.compressibility if stats.content.pieces else None,
        high_entropy_share=stats.content.high_entropy_share if stats.content.pieces else None,
    )
