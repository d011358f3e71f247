"""Lets one process of this machine at a time begin, or adopt, a failover of a job."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from vreplica.files import make_private_folder, open_private
from vreplica.sync.job import Job
from vreplica.sync.job_dir import failovers_dir, in_state_dir


@contextmanager
def begin_alone(job: Job) -> Iterator[None]:
    """Inside, no other process begins: it waits, and finds the journal of this one."""
    root = failovers_dir(job)
    with in_state_dir():
        make_private_folder(root)
    with open_private(root / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
