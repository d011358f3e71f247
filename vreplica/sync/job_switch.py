"""Disables a job for the time of a failover, and enables it again.

<job>/disabled      id of the failover that disabled the job; absent: the job is enabled
                    "ID committed": disabled until a failback, the replica is in service
"""

from __future__ import annotations

from vreplica.errors import PreflightError
from vreplica.files import replace_durably
from vreplica.sync.errors import JobDisabled, JobFailedOver
from vreplica.sync.job import Job
from vreplica.sync.job_dir import disabled_path, in_state_dir


def disabled_by(job: Job) -> str | None:
    """Id of the failover that disabled the job; None where it is enabled."""
    return _read(job)[0]


def why_disabled(job: Job) -> PreflightError | None:
    """The error that a run of the job would be refused with; None where the job is enabled."""
    failover, committed = _read(job)
    if failover is None:
        return None
    if committed:
        return JobFailedOver(job=job.name, failover=failover)
    return JobDisabled(job=job.name, failover=failover)


def check_enabled(job: Job, failover: str | None) -> None:
    """Raise JobDisabled or JobFailedOver where another failover than this disabled the job."""
    refusal = why_disabled(job)
    if refusal is not None and disabled_by(job) != failover:
        raise refusal


def disable(job: Job, failover: str, *, committed: bool = False) -> None:
    """Disable the job durably; harmless where this failover has disabled it already.

    Call it with the job's lock held: then no run is in flight. `committed`: until a failback.
    Raises JobDisabled or JobFailedOver where another failover has disabled it.
    """
    check_enabled(job, failover)
    replace_durably(disabled_path(job), f"{failover}{' committed' * committed}\n")


def enable(job: Job, failover: str) -> None:
    """Enable the job again; harmless where it is enabled. Raises as `disable`."""
    check_enabled(job, failover)
    disabled_path(job).unlink(missing_ok=True)


def _read(job: Job) -> tuple[str | None, bool]:
    """Id of the failover, and whether it is committed."""
    with in_state_dir():
        try:
            words = disabled_path(job).read_text().split()
        except (FileNotFoundError, NotADirectoryError):
            return None, False
    return " ".join(words[:1]) or "unknown", words[1:] == ["committed"]
