"""Waits until the writer that was taken over cannot write any more.

A host opens a disk for one writer at a time. So once each leaf of the replica could be opened for
writing, no write of the old owner is on its way: it has to open its disk again, and then it reads
the claim before it writes.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

from vreplica.errors import DiskError, VReplicaError, VSphereError
from vreplica.sync.claim.held_claim import Taken
from vreplica.sync.errors import ReplicaStillOpen
from vreplica.sync.job import Job
from vreplica.sync.transport.disks import open_leaf
from vreplica.vsphere.model import VmDisk, VmInfo
from vreplica.vsphere.session import Session

WAIT_S: Final = 30.0
"""How long a takeover waits for the old owner's disks. A host closes those of a dead process at
once, and those of a dead machine after minutes."""
PAUSE_S: Final = 1.0


def wait_until_closed(job: Job, session: Session, replica: VmInfo, taken: Taken) -> None:
    """Returns once every leaf could be opened for writing.

    Raises ReplicaStillOpen, with the old owner's claim put back: it may go on where it was.
    """
    assert taken.before is not None, "a takeover"
    end = time.monotonic() + WAIT_S
    for disk in replica.disks:
        while (reason := _locked(job, session, replica, disk)) is not None:
            if time.monotonic() > end:
                with suppress(VReplicaError):
                    taken.held.give_back(taken.before)
                raise ReplicaStillOpen(
                    job=job.name, vm=replica.ref.name, claim=taken.before.text, reason=reason
                )
            time.sleep(PAUSE_S)


def _locked(job: Job, session: Session, replica: VmInfo, disk: VmDisk) -> str | None:
    """Opens a leaf for writing, and closes it. Returns the reason where it cannot be opened."""
    try:
        open_leaf(job, session, replica.ref, disk).close()
    except (DiskError, VSphereError) as error:
        return error.message
    return None
