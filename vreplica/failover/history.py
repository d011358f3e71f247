"""Reads a job's failovers from their journals: all of them, the unfinished one, the one in service.

    <job>/failovers/<id>/     one folder each; fo-... is a failover, fb-... a failback

At most one of them has not ended. The newest committed one says where the job's VM is in service.
Nothing is taken over by reading.
"""

from __future__ import annotations

from pathlib import Path

from vreplica.failover.machine.errors import FailedOverAlready, FailoverUnderWay, NoFailover
from vreplica.failover.machine.journal import begun_below, load
from vreplica.failover.machine.record import Outcome, Record, outcome_of, record_of
from vreplica.failover.machine.states import ENDED, FailoverState
from vreplica.points.model import new_id
from vreplica.sync.job import Job
from vreplica.sync.job_dir import failovers_below, failovers_dir


def new_failover_id() -> str:
    return f"fo-{new_id()}"


def new_failback_id() -> str:
    return f"fb-{new_id()}"


def folders(job: Job) -> list[Path]:
    """The folders of the job's failovers and failbacks, oldest first."""
    return begun_below(failovers_dir(job))


def outcomes(job: Job) -> list[Outcome]:
    """The state of each failover and failback, oldest first."""
    return outcomes_below(job.job_dir)


def outcomes_below(job_dir: Path) -> list[Outcome]:
    """The same for the job whose folder this is."""
    return [outcome_of(folder) for folder in begun_below(failovers_below(job_dir))]


def records(job: Job) -> list[Record]:
    """The figures of each failover and failback, oldest first."""
    return records_below(job.job_dir, job.name)


def records_below(job_dir: Path, job: str) -> list[Record]:
    """The same for the job of this name whose folder this is."""
    found = begun_below(failovers_below(job_dir))
    return [record_of(job, folder.name, load(folder)) for folder in found]


def unfinished(job: Job) -> Outcome | None:
    """The failover that has begun and not ended."""
    return next((each for each in outcomes(job) if each.state not in ENDED), None)


def current(job: Job) -> Path:
    """The folder of the unfinished failover, else of the newest. Raises NoFailover."""
    found = folders(job)
    if not found:
        raise NoFailover(job=job.name)
    return next((f for f in found if outcome_of(f).state not in ENDED), found[-1])


def failed_over(job: Job) -> Outcome | None:
    """The committed failover by which the replica is in service; None: the original is."""
    last: Outcome | None = None
    for folder in folders(job):
        outcome = outcome_of(folder)
        if outcome.state is FailoverState.COMMITTED:
            last = None if is_failback(folder) else outcome
    return last


def is_failback(folder: Path) -> bool:
    entries = load(folder)
    return bool(entries) and "back" in entries[0].data


def check_none_under_way(job: Job) -> None:
    """Raises FailoverUnderWay where a failover or failback has not ended."""
    found = unfinished(job)
    if found is not None:
        raise FailoverUnderWay(job=job.name, failover=found.id, state=found.state.value)


def check_free(job: Job) -> None:
    """Raises FailoverUnderWay where one has not ended, FailedOverAlready after a commit."""
    check_none_under_way(job)
    there = failed_over(job)
    if there is not None:
        raise FailedOverAlready(job=job.name, failover=there.id)
