"""Copies what destinations and journals have into the catalog. The truth stays with them.

replica's snapshots --> points        after each run, or all of them read again
<job>/failovers/*   --> failovers     after each event of a failover of the service, and at its end
<job>/disabled      --> is the job disabled?
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from vreplica.failover import history
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.record import Outcome, outcome_of
from vreplica.failover.machine.states import ENDED
from vreplica.failover.standing import BOOTED
from vreplica.points import RecoveryPoint
from vreplica.service.catalog import by_hand, jobs, observed, runs, schema
from vreplica.service.catalog.database import Catalog, Connection
from vreplica.service.catalog.observed import PointRow
from vreplica.sync import by_hand as by_hand_log
from vreplica.sync.job import Job
from vreplica.sync.job_dir import failovers_dir
from vreplica.sync.job_switch import disabled_by
from vreplica.sync.report import RunReport


def rebuild(catalog: Catalog, who: str, job: Job, points: Sequence[RecoveryPoint]) -> None:
    """Replaces what the catalog has of a job by its points and its journals."""
    found = history.outcomes(job)
    with catalog.transaction() as c:
        now = catalog.now(c)
        jobs.register(c, [job.name], now)
        write_points(c, job.name, points)
        for outcome in found:
            write_failover(c, job.name, outcome, now)
        jobs.set_disabled(c, job.name, disabled_by(job))
        catalog.add_audit_entry(c, who, "catalog rebuilt", job.name, points=len(points))


def write_points(c: Connection, job: str, points: Sequence[RecoveryPoint]) -> None:
    """Replaces the points of a job."""
    observed.set_points(c, job, [_point_row(point) for point in points])


def write_run(
    catalog: Catalog,
    job: Job,
    report: RunReport,
    read_points: Callable[[Job], Sequence[RecoveryPoint]],
) -> None:
    """Adds the point that a run made and takes out those that it removed.

    Where the catalog had missed others, all points are read again.
    """
    with catalog.transaction() as c:
        jobs.register(c, [job.name], catalog.now(c))
        known = observed.add_point(c, job.name, _point_row(report.point), report.removed_points)
    if known != report.points:
        found = read_points(job)
        with catalog.transaction() as c:
            write_points(c, job.name, found)


def write_points_if_unknown(catalog: Catalog, job: str, points: Sequence[RecoveryPoint]) -> bool:
    """Writes the points of a job whose destination nobody has asked. False: somebody has."""
    with catalog.transaction() as c:
        jobs.register(c, [job], catalog.now(c))
        if job not in jobs.unasked(c, [job]):
            return False
        write_points(c, job, points)
        return True


def write_booted(catalog: Catalog, job: str, failover: str | None) -> None:
    """Writes the failover that has booted a job's replica, as a mark on the replica says.

    Of a failover of which nothing else is known, the journal is lost or on another machine. `None`:
    the replica is not booted; then the job is enabled, where such a mark had disabled it.
    """
    with catalog.transaction() as c:
        now, before = catalog.now(c), seen_booted(c).get(job)
        if failover is not None and failover not in observed.failover_states(c, job):
            observed.set_failover(c, failover, job, state=BOOTED, facts={}, now=now)
            if job not in jobs.disabled(c):
                jobs.set_disabled(c, job, failover)
        if before is not None and before != failover:
            observed.set_failover(c, before, job, state="undone", facts={}, now=now)
            if jobs.disabled(c).get(job) == before:
                jobs.set_disabled(c, job, failover)


def seen_booted(c: Connection) -> dict[str, str]:
    """Id of the failover by job, of which nothing but the mark on the replica is known."""
    return {row.job: row.id for row in observed.failovers(c) if row.state == BOOTED}


def take_in(catalog: Catalog, job_dir: Path) -> None:
    """Takes in what commands have recorded in a job's folder. Nothing where a catalog is older."""
    with catalog.transaction() as c:
        if not schema.has_0004(c):
            return
    with by_hand_log.taken_in(job_dir) as entries, catalog.transaction() as c:
        for entry in by_hand.add(c, entries):
            what = entry.what if entry.what != "run" else f"run {entry.state}"
            data = {"run": entry.id, "state": entry.state, "by_hand": True, **entry.result}
            data |= {"error": entry.error} if entry.error else {}
            time = entry.ended
            catalog.add_audit_entry(c, entry.who, f"{what} by hand", entry.job, time=time, **data)


def write_failovers(catalog: Catalog, job: Job) -> None:
    """Writes all failovers of a job from its journals, and whether the job is disabled."""
    found = history.outcomes(job)
    with catalog.transaction() as c:
        now = catalog.now(c)
        jobs.register(c, [job.name], now)
        for outcome in found:
            write_failover(c, job.name, outcome, now)
        write_disabled(c, [job])


def write_failover(c: Connection, job: str, outcome: Outcome, now: datetime) -> None:
    state, facts = outcome.state.value, outcome.facts
    observed.set_failover(c, outcome.id, job, state=state, facts=facts, now=now)


def write_disabled(c: Connection, of: Iterable[Job]) -> None:
    """Writes which of these jobs are disabled, by the files of this machine.

    A failover whose journal is on another machine, or that has not ended, keeps its job disabled.
    """
    known = jobs.disabled(c)
    for job in of:
        here, there = disabled_by(job), known.get(job.name)
        if here != there and (there is None or _ended(job, there)):
            jobs.set_disabled(c, job.name, here)


def reserve_job(catalog: Catalog, job: Job, failover_id: str) -> str | None:
    """Before a failover begins in this process: movers plan no more runs of the job.

    Returns the mover that has an active run of it, if there is one.
    """
    with catalog.transaction() as c:
        jobs.register(c, [job.name], catalog.now(c))
        if job.name not in jobs.disabled(c):
            jobs.set_disabled(c, job.name, failover_id)
        return runs.mover_of(c, job.name)


def release_job(c: Connection, job: Job, failover_id: str) -> None:
    """Enables a job again whose failover did not begin after all."""
    if jobs.disabled(c).get(job.name) == failover_id and not load(_folder(job, failover_id)):
        jobs.set_disabled(c, job.name, disabled_by(job))


def _point_row(point: RecoveryPoint) -> PointRow:
    return point.id, point.taken, point.level.value, point.to_dict()


def _ended(job: Job, failover_id: str) -> bool:
    folder = _folder(job, failover_id)
    return bool(load(folder)) and outcome_of(folder).state in ENDED


def _folder(job: Job, failover_id: str) -> Path:
    return failovers_dir(job) / failover_id
