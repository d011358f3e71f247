"""Copies one disk of a run, and keeps its digests for the commit.

open source snapshot, open replica leaf
choose what to look at                  delta/copy/modes.py, from the confirmed plan
digest map of the latest point          -> known; new digests -> its sidecar
copy                                    delta/copy/pipeline.py
audit a sample of the rest              delta/cbt_audit.py, after a delta
seal the sidecar                        its root goes into the recovery point
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Self

from vreplica.delta.cbt_audit import audit
from vreplica.delta.copy import modes
from vreplica.delta.copy.modes import CopyMode
from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CHECKPOINT_S, CopySpec
from vreplica.delta.copy.stats import CopyProgress, CopyStats
from vreplica.delta.copy.transfer import DEFAULT_RETRY
from vreplica.disk import Disk
from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.points import DiskPoint
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.errors import DigestMapUnusable
from vreplica.sync.anomaly import change_stats
from vreplica.sync.copy.digest_maps import open_map, open_pending
from vreplica.sync.copy.resume import progress_of
from vreplica.sync.copy.task import DiskTask
from vreplica.sync.events import Progress
from vreplica.sync.job_dir import map_path
from vreplica.sync.prepared_run import PreparedRun
from vreplica.sync.replica.state import disk_identity
from vreplica.sync.report import DiskRun, audit_off
from vreplica.sync.run_context import RunContext
from vreplica.sync.transport.disks import open_leaf, open_snapshot_disk

RETRY = DEFAULT_RETRY
"""For requests of both disks."""

RETRIES_REPORTED = 5
"""Warnings about repeated requests of one disk; a bad line would give thousands."""

AUDIT_S = 10.0
"""The most that one disk's audit may add to a run."""


@dataclass(frozen=True, slots=True)
class DiskCopy:
    """The result of one task."""

    report: DiskRun
    point: DiskPoint
    map_path: Path | None
    """The digest map beside which a sealed sidecar stands; None without a map."""


@dataclass(frozen=True, slots=True)
class _Counts:
    """The counts of one disk's copy."""

    stats: CopyStats
    allocated_bytes: int | None
    """None: the source was not asked for it."""
    audited_bytes: int
    seconds: float
    """At work: without pauses, and without the waits of limits."""

    def to_values(self) -> dict[str, float]:
        """Values for the sidecar's seal: a run that breaks off later takes the disk as done."""
        known = {} if self.allocated_bytes is None else {"allocated": self.allocated_bytes}
        more = {"audited": self.audited_bytes, "seconds": self.seconds}
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


def copy_disk(context: RunContext, prepared: PreparedRun, task: DiskTask) -> DiskCopy:
    """Copies one disk, or takes it as done where the run that is resumed had finished it."""
    if task.resumes is not None:
        found = progress_of(context.job, context.run_id, task.source.key)
        if found is not None and found.sealed:
            path = map_path(context.job.job_dir, task.source.key)
            return _result(prepared, task, _Counts.of(found.counts), found.root.hex(), path)
    started = perf_counter()
    with ExitStack() as stack:
        source = stack.enter_context(closing(_open_source(context, prepared, task)))
        target = stack.enter_context(closing(_open_target(context, prepared, task)))
        digests, problem = None, None
        try:
            digests = stack.enter_context(closing(open_map(context, prepared, task, target)))
        except DigestMapUnusable as error:
            problem = error.reason
            if (text := audit_off(task.source.label, problem)) not in context.warnings:
                context.warn(text)
        plan, allocated_bytes = _what_to_copy(task, source, target, digests)
        pending, position = open_pending(context, task, digests)
        earlier = CopyStats.from_values(pending.counts if pending is not None else {})
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
                progress=_progress_reporter(context, task.source.label),
                control=context.control,
                earlier=earlier,
                fence=context.fence,
                checkpoint_s=CHECKPOINT_S,
                retry=RETRY,
                on_retry=_retry_reporter(context, task.source.label),
            )
        )
        audited_bytes = 0
        try:
            audited_bytes = _audit(context, task, source, digests)
        except DigestMapUnusable as error:
            digests, problem = None, error.reason
            context.warn(audit_off(task.source.label, problem))
        waited_s = stats.total_s - earlier.total_s - stats.busy_s
        seconds = perf_counter() - started - waited_s
        counts = _Counts(stats, allocated_bytes, audited_bytes, seconds)
        root = ""
        if digests is not None and pending is not None:
            pending.counts = counts.to_values()
            try:
                root = digests.seal(pending)
            except DigestMapUnusable as error:
                digests, problem = None, error.reason
                context.warn(audit_off(task.source.label, problem))
    map_of_disk = digests.path if digests is not None else None
    return _result(prepared, task, counts, root, map_of_disk, problem)


def _open_source(context: RunContext, prepared: PreparedRun, task: DiskTask) -> Disk:
    return open_snapshot_disk(
        context.job,
        context.sites.source,
        prepared.source.ref,
        prepared.snapshot.info.moref,
        task.source,
        first_of_two=True,
    )


def _open_target(context: RunContext, prepared: PreparedRun, task: DiskTask) -> Disk:
    """Opens the replica's leaf, then reads the claim.

    In this order: while the leaf is open no other writer can take the replica over.
    """
    replica, destination, claim = prepared.replica.vm.ref, context.sites.destination, context.claim
    target = open_leaf(context.job, destination, replica, task.target, on_reopen=claim.check)
    try:
        claim.check()
    except BaseException:
        target.close()
        raise
    return target


def _what_to_copy(
    task: DiskTask, source: Disk, target: Disk, digests: DigestMap | None
) -> tuple[modes.CopyPlan, int | None]:
    """The blocks to look at, and the source's allocated bytes where they were asked for."""
    capacity = task.source.capacity_bytes
    if task.plan.changed is not None:
        return modes.delta(task.plan.changed, capacity), None
    allocated = source.allocated()
    if task.plan.mode is CopyMode.RESCAN and digests is not None:
        return modes.rescan(allocated, digests.not_zero(), capacity), allocated.total
    return modes.full(allocated, target.allocated(), capacity), allocated.total


# -- what is reported meanwhile ---------------------------------------------------------------


def _progress_reporter(context: RunContext, label: str) -> Callable[[CopyProgress], None]:
    def report(progress: CopyProgress) -> None:
        # Also for a batch of which nothing has to be written.
        context.fence()
        context.report(
            Progress(
                "copy", label, progress.done_bytes, progress.total_bytes, progress.written_bytes
            )
        )

    return report


def _retry_reporter(context: RunContext, label: str) -> Callable[[VReplicaError], None]:
    """Reports the first requests that are repeated; a line that stays bad has thousands."""
    number = count(1)

    def report(error: VReplicaError) -> None:
        nth = next(number)
        if nth <= RETRIES_REPORTED:
            rest = "; further retries are not reported" if nth == RETRIES_REPORTED else ""
            context.warn(f"{label}: {error.message}; trying again{rest}")

    return report


# -- after the copy ---------------------------------------------------------------------------


def _audit(context: RunContext, task: DiskTask, source: Disk, digests: DigestMap | None) -> int:
    """Compares a sample of what tracking calls unchanged. Returns the bytes that were read.

    The whole disk is sampled, holes too: writes that tracking lost may have gone where nothing
    was before. Raises CbtMissedChanges; DigestMapUnusable where the map is to blame.
    """
    changed = task.plan.changed
    if changed is None or digests is None or not context.job.audit_share:
        return 0
    report = audit(
        source,
        digests,
        changed,
        Extents.of(0, task.source.capacity_bytes),
        seed=digests.seed,
        share=context.job.audit_share,
        max_seconds=AUDIT_S,
    )
    if len(report.different) and digests.damaged(report.different):
        raise DigestMapUnusable(path=str(digests.path), reason="it is damaged")
    report.raise_if_different()
    return report.read_bytes


def _result(
    prepared: PreparedRun,
    task: DiskTask,
    counts: _Counts,
    root: str,
    path: Path | None,
    map_problem: str | None = None,
) -> DiskCopy:
    report = replace(_report(task, counts), digest_map_problem=map_problem)
    return DiskCopy(report, _point(prepared, task, counts, root), path)


def _point(prepared: PreparedRun, task: DiskTask, counts: _Counts, root: str) -> DiskPoint:
    disk = task.source
    return DiskPoint(
        key=disk.key,
        label=disk.label,
        uuid=disk_identity(disk),
        capacity_bytes=disk.capacity_bytes,
        change_id=task.plan.change_id,
        mode=task.plan.mode.value,
        written_bytes=counts.stats.written_bytes,
        root=root,
        stats=change_stats(
            counts.stats,
            prepared.replica.latest,
            key=disk.key,
            uuid=disk_identity(disk),
            mode=task.plan.mode,
            capacity_bytes=disk.capacity_bytes,
            allocated_bytes=counts.allocated_bytes,
            seconds=counts.seconds,
        ),
    )


def _report(task: DiskTask, counts: _Counts) -> DiskRun:
    stats = counts.stats
    return DiskRun(
        key=task.source.key,
        label=task.source.label,
        mode=task.plan.mode,
        reason=task.plan.reason,
        capacity_bytes=task.source.capacity_bytes,
        allocated_bytes=counts.allocated_bytes,
        looked_at_bytes=stats.looked_at_bytes,
        read_bytes=stats.read_bytes,
        redundant_bytes=stats.redundant_bytes,
        zero_already_bytes=stats.zero_already_bytes,
        zeroed_bytes=stats.zeroed_bytes,
        data_bytes=stats.data_bytes,
        audited_bytes=counts.audited_bytes,
        seconds=stats.total_s,
        retries=stats.retries,
        compressibility=stats.content.compressibility if stats.content.pieces else None,
        high_entropy_share=stats.content.high_entropy_share if stats.content.pieces else None,
    )
