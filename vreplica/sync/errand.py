"""A run on behalf of a failover: it names the point, knows the source, and holds the job.

<job>/disabled      the id of the failover that has switched the job off; absent: it is on
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from vreplica.points import Level
from vreplica.sync.errors import JobDisabled
from vreplica.sync.job import Job


def _open() -> None:
    """The fence of a run that nobody can take over."""


@dataclass(frozen=True, slots=True)
class Errand:
    """`point`: the id of the recovery point to make; `known_level`: what a source that is off is
    worth; `fence`: called before every write and before the commit, stops the run by raising;
    `failover`: whose run this is."""

    point: str | None = None
    known_level: Level | None = None
    fence: Callable[[], None] = _open
    failover: str | None = None


def disabled_by(job: Job) -> str | None:
    """The failover that has switched the job off, or None."""
    try:
        return (job.job_dir / "disabled").read_text().strip()
    except FileNotFoundError:
        return None


def check_enabled(job: Job, failover: str | None) -> None:
    """Raise JobDisabled where somebody else has switched the job off."""
    holder = disabled_by(job)
    if holder is not None and holder != failover:
        raise JobDisabled(job=job.name, failover=holder)


def disable(job: Job, failover: str) -> None:
    """Switch the job off, durably; harmless when it is off for this failover already.

    Call with the job's lock held: then no run is in flight. Raises JobDisabled where another
    failover has it.
    """
    check_enabled(job, failover)
    path = job.job_dir / "disabled"
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        file.write(f"{failover}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def enable(job: Job, failover: str) -> None:
    """Switch the job on again; harmless when it is on."""
    check_enabled(job, failover)
    (job.job_dir / "disabled").unlink(missing_ok=True)
