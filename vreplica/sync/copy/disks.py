"""Copies all disks of one run, some at a time.

The first disk that fails stops the others; the failures of all are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from vreplica.delta.errors import CopyCancelled
from vreplica.errors import VReplicaError
from vreplica.sync.copy.digest_maps import move_maps
from vreplica.sync.copy.one_disk import DiskCopy, copy_disk
from vreplica.sync.copy.task import DiskTask
from vreplica.sync.prepared_run import PreparedRun
from vreplica.sync.run_context import RunContext


def copy_disks(
    context: RunContext, prepared: PreparedRun, tasks: Sequence[DiskTask]
) -> list[DiskCopy]:
    """Copies all disks, `parallel_disks` at a time. Raises the first failure that is a cause."""
    origins = {task.source.key: task.origin for task in tasks if task.origin is not None}
    moved = {key: origin for key, origin in origins.items() if key != origin.disk.key}
    move_maps(context.job.job_dir, moved)
    with ThreadPoolExecutor(context.job.parallel_disks, "vreplica-disk") as pool:
        try:
            futures = [pool.submit(_guarded, context, prepared, task) for task in tasks]
            wait(futures)
        except BaseException:
            # Ctrl-C: the disks end before either side is rolled back.
            context.control.cancel()
            raise
    errors = [error for f in futures if (error := f.exception()) is not None]
    if errors:
        causes = [e for e in errors if not isinstance(e, CopyCancelled)] or errors
        for other in causes[1:]:
            causes[0].add_note(f"another disk failed too: {other}")
        raise causes[0]
    return [f.result() for f in futures]


def _guarded(context: RunContext, prepared: PreparedRun, task: DiskTask) -> DiskCopy:
    """Copies one disk; its failure ends the other disks."""
    try:
        return copy_disk(context, prepared, task)
    except BaseException as error:
        context.control.cancel()
        if isinstance(error, VReplicaError):
            error.at(disk=task.source.label)
        raise
