"""Disables a job for the time of a failover, and enables it again.

<job>/disabled      id of the failover that disabled the job; absent: the job is enabled
                    "ID committed": disabled until a failback, the replica is in service

A file that cannot be believed keeps every run off. A failover writes it anew: its journal, and not
this file, says that no other failover is under way.
"""

from __future__ import annotations

from typing import Final

from vreplica.errors import PreflightError
from vreplica.files import replace_durably
from vreplica.stored import Damaged, is_id, read_lines, seal_text
from vreplica.sync.errors import JobDisabled, JobFailedOver, SwitchDamaged
from vreplica.sync.job import Job
from vreplica.sync.job_dir import disabled_path, in_state_dir

UNKNOWN: Final = "unknown"
"""Stands for the failover that a damaged file named."""


def disabled_by(job: Job) -> str | None:
    """Id of the failover that disabled the job; None where it is enabled. It may be `unknown`."""
    try:
        return _read(job)[0]
    except SwitchDamaged:
        return UNKNOWN


def why_disabled(job: Job) -> PreflightError | None:
    """The error that a run of the job would be refused with; None where the job is enabled."""
    try:
        failover, committed = _read(job)
    except SwitchDamaged as error:
        return error
    if failover is None:
        return None
    if committed:
        return JobFailedOver(job=job.name, failover=failover)
    return JobDisabled(job=job.name, failover=failover)


def check_enabled(job: Job, failover: str | None) -> None:
    """Raise JobDisabled or JobFailedOver where another failover than this disabled the job.

    Raise SwitchDamaged where nobody can tell, unless a failover asks.
    """
    refusal = why_disabled(job)
    if isinstance(refusal, SwitchDamaged) and failover is not None:
        return
    if refusal is not None and disabled_by(job) != failover:
        raise refusal


def disable(job: Job, failover: str, *, committed: bool = False) -> None:
    """Disable the job durably; harmless where this failover has disabled it already.

    Call it with the job's lock held: then no run is in flight. `committed`: until a failback.
    Raises JobDisabled or JobFailedOver where another failover has disabled it.
    """
    check_enabled(job, failover)
    with in_state_dir():
        text = f"{failover}{' committed' * committed}\n"
        replace_durably(disabled_path(job), seal_text(text))


def enable(job: Job, failover: str) -> None:
    """Enable the job again; harmless where it is enabled. Raises as `disable`."""
    check_enabled(job, failover)
    disabled_path(job).unlink(missing_ok=True)


def _read(job: Job) -> tuple[str | None, bool]:
    """Id of the failover, and whether it is committed. Raises SwitchDamaged."""
    path = disabled_path(job)
    with in_state_dir():
        try:
            words = " ".join(read_lines(path)).split()
        except (FileNotFoundError, NotADirectoryError):
            return None, False
        except Damaged as error:
            raise SwitchDamaged(job.name, str(path), str(error)) from None
    if not (words and is_id(words[0]) and words[1:] in ([], ["committed"])):
        raise SwitchDamaged(job.name, str(path), "it does not name a failover")
    return words[0], words[1:] == ["committed"]
