"""Is there room at the destination for what this run may write?"""

from __future__ import annotations

from collections.abc import Sequence

from vreplica.sync.copying import DiskTask
from vreplica.sync.errors import DestinationTooSmall
from vreplica.sync.job import Job
from vreplica.units import MIB, human_size
from vreplica.vsphere import Session

MARGIN = 64 * MIB
"""For descriptors, grain tables and snapshot files."""


def check_space(job: Job, session: Session, tasks: Sequence[DiskTask]) -> None:
    """Raise DestinationTooSmall where the worst case of this run does not fit."""
    needed = sum(task.may_write_bytes for task in tasks) + MARGIN
    for store in session.datastores():
        if store.name == job.placement.datastore and store.free_bytes < needed:
            raise DestinationTooSmall(
                datastore=store.name, free=human_size(store.free_bytes), needed=human_size(needed)
            )
