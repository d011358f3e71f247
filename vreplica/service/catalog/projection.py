"""What destinations and journals say of a job, kept in the catalog. The truth stays with them.

replica's snapshots --> points        after each run, or all of them read afresh
<job>/failovers/*   --> failovers     after each event that the service drives, and at the end
<job>/disabled      --> is the job off?
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from vreplica.failover import history
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.record import Outcome, outcome_of
from vreplica.failover.machine.states import ENDED
from vreplica.points import RecoveryPoint
from vreplica.service.catalog import jobs, observed, runs
from vreplica.service.catalog.database import Catalog, Connection
from vreplica.sync.job import Job
from vreplica.sync.job_switch import disabled_by
from vreplica.sync.report import RunReport


def rebuild(catalog: Catalog, who: str, job: Job, points: Sequence[RecoveryPoint]) -> None:
    """Write what the destination and the journals say of one job, over what the catalog said."""
    found = history.outcomes(job)
    with catalog.transaction() as c:
        now = catalog.now(c)
        jobs.register(c, [job.name], now)
        keep_points(c, job.name, points)
        for outcome in found:
            keep_failover(c, job.name, outcome, now)
        jobs.set_disabled(c, job.name, disabled_by(job))
        catalog.note(c, who, "catalog rebuilt", job.name, points=len(points))


def keep_points(c: Connection, job: str, points: Sequence[RecoveryPoint]) -> None:
    """These are all that there are."""
    observed.set_points(c, job, [(p.id, p.taken, p.level.value, p.to_dict()) for p in points])


def keep_run(
    catalog: Catalog,
    job: Job,
    report: RunReport,
    read: Callable[[Job], Sequence[RecoveryPoint]],
) -> None:
    """What a run has made and removed; all is read afresh where the catalog knew other points."""
    made = report.point
    with catalog.transaction() as c:
        jobs.register(c, [job.name], catalog.now(c))
        row = (made.id, made.taken, made.level.value, made.to_dict())
        known = observed.add_point(c, job.name, row, report.removed_points)
    if known != report.points:
        found = read(job)
        with catalog.transaction() as c:
            keep_points(c, job.name, found)


def keep_failovers(catalog: Catalog, job: Job) -> None:
    """All failovers of a job as their journals have them, and whether it is off."""
    found = history.outcomes(job)
    with catalog.transaction() as c:
        now = catalog.now(c)
        jobs.register(c, [job.name], now)
        for outcome in found:
            keep_failover(c, job.name, outcome, now)
        keep_offs(c, [job])


def keep_failover(c: Connection, job: str, outcome: Outcome, now: datetime) -> None:
    observed.set_failover(c, outcome.id, job, outcome.state.value, outcome.facts, now)


def keep_offs(c: Connection, those: Iterable[Job]) -> None:
    """Which jobs are off, by the files here.

    What the catalog says of a failover whose journal is elsewhere, or that has not ended, stays.
    """
    known = jobs.disabled(c)
    for job in those:
        here, there = disabled_by(job), known.get(job.name)
        if here != there and (there is None or _ended(job, there)):
            jobs.set_disabled(c, job.name, here)


def reserve(catalog: Catalog, job: Job, failover_id: str) -> str | None:
    """A failover begins here: the planner leaves the job alone from now on.

    Returns the mover that has a run of it under way, if there is one.
    """
    with catalog.transaction() as c:
        jobs.register(c, [job.name], catalog.now(c))
        if job.name not in jobs.disabled(c):
            jobs.set_disabled(c, job.name, failover_id)
        return runs.mover_of(c, job.name)


def release(c: Connection, job: Job, failover_id: str) -> None:
    """It did not begin after all."""
    if jobs.disabled(c).get(job.name) == failover_id and not load(_folder(job, failover_id)):
        jobs.set_disabled(c, job.name, disabled_by(job))


def _ended(job: Job, failover_id: str) -> bool:
    folder = _folder(job, failover_id)
    return bool(load(folder)) and outcome_of(folder).state in ENDED


def _folder(job: Job, failover_id: str) -> Path:
    return job.job_dir / "failovers" / failover_id
