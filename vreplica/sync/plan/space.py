"""Checks that the destination has room for what a run may write."""

from __future__ import annotations

from collections.abc import Sequence

from vreplica.sync.copy.resume import progress_of
from vreplica.sync.copy.task import DiskTask
from vreplica.sync.errors import DestinationTooSmall
from vreplica.sync.run_context import RunContext
from vreplica.units import MIB, human_size

MARGIN = 64 * MIB
"""For descriptors, grain tables and snapshot files."""


def check_space(context: RunContext, tasks: Sequence[DiskTask]) -> None:
    """Raise DestinationTooSmall where the worst case of this run does not fit."""
    needed = sum(_may_write_bytes(context, task) for task in tasks) + MARGIN
    for store in context.sites.destination.datastores():
        if store.name == context.job.placement.datastore and store.free_bytes < needed:
            raise DestinationTooSmall(
                datastore=store.name, free=human_size(store.free_bytes), needed=human_size(needed)
            )


def _may_write_bytes(context: RunContext, task: DiskTask) -> int:
    """The most that a delta has still to write; preflight has judged full copies and rescans."""
    changed = task.plan.changed
    if changed is None:
        return 0
    if task.resumes is not None:
        found = progress_of(context.job, context.run_id, task.source.key)
        if found is not None:
            done = task.source.capacity_bytes if found.sealed else found.position
            changed = changed.clip(done, task.source.capacity_bytes)
    return changed.total
