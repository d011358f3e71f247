"""A run on behalf of a failover: it names the point, knows the source, and holds the job.

<job>/disabled      the id of the failover that has switched the job off; absent: it is on
                    "<id> committed": for good, the replica is what is in service now
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vreplica.errors import PreflightError
from vreplica.files import replace_durably
from vreplica.points import Level
from vreplica.sync.errors import JobDisabled, JobFailedOver
from vreplica.sync.job import Job
from vreplica.sync.replica.state import in_state_dir


def _open() -> None:
    """The fence of a run that nobody can take over."""


def _forget(source: tuple[str, ...], destination: tuple[str, ...]) -> None:
    """For whoever keeps no record."""


@dataclass(frozen=True, slots=True)
class Errand:
    """`point`: the id of the recovery point to make; `known_level`: what a source that is off is
    worth; `fence`: called before every step, read and write, stops the run by raising, and nothing
    is put back then: that is for whoever has the run now; `failover`: whose run this is; `started`:
    gets the keys of the tasks that the run starts, at the source and at the destination, also
    where it fails."""

    point: str | None = None
    known_level: Level | None = None
    fence: Callable[[], None] = _open
    failover: str | None = None
    started: Callable[[tuple[str, ...], tuple[str, ...]], None] = _forget


def disabled_by(job: Job) -> str | None:
    """The failover that has switched the job off, or None."""
    return _holder(job)[0]


def why_disabled(job: Job) -> PreflightError | None:
    """What a run of the job would be refused with; None where it is on."""
    failover, committed = _holder(job)
    if failover is None:
        return None
    if committed:
        return JobFailedOver(job=job.name, failover=failover)
    return JobDisabled(job=job.name, failover=failover)


def check_enabled(job: Job, failover: str | None) -> None:
    """Raise JobDisabled or JobFailedOver where somebody else has switched the job off."""
    refusal = why_disabled(job)
    if refusal is not None and disabled_by(job) != failover:
        raise refusal


def _holder(job: Job) -> tuple[str | None, bool]:
    with in_state_dir():
        try:
            words = (job.job_dir / "disabled").read_text().split()
        except (FileNotFoundError, NotADirectoryError):
            return None, False
    return " ".join(words[:1]) or "unknown", words[1:] == ["committed"]


def disable(job: Job, failover: str, *, committed: bool = False) -> None:
    """Switch the job off, durably; harmless when it is off for this failover already.

    Call with the job's lock held: then no run is in flight. `committed`: for good. Raises
    JobDisabled where another failover has it.
    """
    check_enabled(job, failover)
    replace_durably(job.job_dir / "disabled", f"{failover}{' committed' * committed}\n")


def enable(job: Job, failover: str) -> None:
    """Switch the job on again; harmless when it is on."""
    check_enabled(job, failover)
    (job.job_dir / "disabled").unlink(missing_ok=True)
