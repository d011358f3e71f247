"""Is there room at the destination for what this run may write?"""

from __future__ import annotations

from collections.abc import Sequence

from vreplica.sync.copy.resume import progress_of
from vreplica.sync.copy.task import DiskTask
from vreplica.sync.errors import DestinationTooSmall
from vreplica.sync.job import Job
from vreplica.units import MIB, human_size
from vreplica.vsphere.session import Session

MARGIN = 64 * MIB
"""For descriptors, grain tables and snapshot files."""


def check_space(job: Job, session: Session, run: str, tasks: Sequence[DiskTask]) -> None:
    """Raise DestinationTooSmall where the worst case of this run does not fit."""
    needed = sum(_may_write_bytes(job, run, task) for task in tasks) + MARGIN
    for store in session.datastores():
        if store.name == job.placement.datastore and store.free_bytes < needed:
            raise DestinationTooSmall(
                datastore=store.name, free=human_size(store.free_bytes), needed=human_size(needed)
            )


def _may_write_bytes(job: Job, run: str, task: DiskTask) -> int:
    """The most that a delta has still to write; full and rescan are judged before the run."""
    changed = task.settled.changed
    if changed is None:
        return 0
    found = progress_of(job, run, task.source.key) if task.resumes is not None else None
    if found is not None:
        done = task.source.capacity_bytes if found.sealed else found.position
        changed = changed.clip(done, task.source.capacity_bytes)
    return changed.total
