"""The state of each scheduled job, as the catalog has it: newest point, next run, failover.

Nothing is asked of a site, and nothing in the catalog is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from vreplica.config import Config
from vreplica.scheduling.planner import AlarmKind, ConcurrencyLimits, plan_round, point_age
from vreplica.scheduling.schedule import (
    Cron,
    Every,
    JobRecord,
    Rpo,
    ScheduleRule,
    next_due,
    next_opening,
)
from vreplica.service.catalog import failover_requests, jobs, observed, runs
from vreplica.service.catalog.database import Catalog, Connection
from vreplica.service.catalog.reading import consult
from vreplica.units import human_duration

NO_POINT: Final = "no recovery point is known here; the destination was not asked"
_IN_SERVICE: Final = {
    "booting": "the replica is starting",
    "running": "not committed",
    "committing": "commit under way",
    "committed": "failover committed",
}
"""States of a failover in which the replica has been powered on."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The state of one job.

    `age`: of the newest point's data; None where no point is known, or where the time of the newest
    lies ahead of now (`point_ahead`). `next_at`: when the next run
    begins, if nothing else happens. `why`: the reason of `state` and `next_at`, for people.
    `error`: of the last run, where that failed; `failures`: how many failed in a row.
    `failover`: the failover that the service is working on, or that disabled the job.
    `flagged`: the oldest point that looks like mass encryption and was not accepted.
    """

    job: str
    state: str
    """idle | running | paused | failing | failing over | disabled"""
    age: timedelta | None
    target: timedelta | None
    alarm: str | None
    next_at: datetime | None
    why: str
    failures: int = 0
    error: str | None = None
    failover: dict[str, Any] | None = None
    flagged: str | None = None
    point_ahead: bool = False

    @property
    def violated(self) -> bool:
        """True where the newest point is older than its target."""
        return self.alarm == str(AlarmKind.VIOLATED)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: durations in seconds, times in UTC."""
        return {
            "job": self.job,
            "state": self.state,
            "age_s": self.age.total_seconds() if self.age is not None else None,
            "target_s": self.target.total_seconds() if self.target else None,
            "alarm": self.alarm,
            "next_at": self.next_at.isoformat() if self.next_at else None,
            "why": self.why,
            "failures": self.failures,
            "error": self.error,
            "failover": self.failover,
            "flagged": self.flagged,
            "point_ahead": self.point_ahead,
        }


def status(config: Config, names: Sequence[str] = ()) -> tuple[JobStatus, ...]:
    """The state of the jobs that have a schedule; of these, or of all where none is named.

    The same values as `vreplica-sync status --json`. Raises UnknownJob, NoJobs, SecretUnavailable,
    CatalogUnreachable, CatalogTooNew and CatalogTooOld; changes nothing.
    """
    rules = {n: rule for n in config.select(names) if (rule := config.rule(n)) is not None}
    sites = {name: config.sites_of(name)[1] for name in rules}
    found = consult(config.catalog_url(), lambda catalog: job_status(catalog, rules, sites))
    return tuple(found) if found is not None else tuple(_without_catalog(rules))


def job_status(
    catalog: Catalog, rules: Mapping[str, ScheduleRule], sites: Mapping[str, str] | None = None
) -> list[JobStatus]:
    """In the order of `rules`. `sites`: the name of each job's destination site."""
    with catalog.transaction() as c:
        now = catalog.now(c)
        known = {s.name: s for s in jobs.records(c, rules)}
        errors = runs.last_errors(c, [s.name for s in known.values() if s.failures])
        flagged = observed.flagged_points(c)
        failovers = _failovers(c)
    found = []
    for name, rule in rules.items():
        one = describe(now, known.get(name) or JobRecord(name, rule, now), errors.get(name))
        if name in failovers:
            state, why = _in_words(failovers[name], (sites or {}).get(name, "the destination"))
            one = replace(one, state=state, why=why, next_at=None, failover=failovers[name])
        found.append(replace(one, flagged=flagged.get(name)))
    return found


def _without_catalog(rules: Mapping[str, ScheduleRule]) -> list[JobStatus]:
    why = "no service has worked on this job yet; `vreplica-sync serve` starts one"
    now = datetime.now(UTC)
    return [
        replace(describe(now, JobRecord(name, rule, now)), next_at=None, why=why)
        for name, rule in rules.items()
    ]


def _failovers(c: Connection) -> dict[str, dict[str, Any]]:
    """{"id", "state" of the failover, "request": state of the request, "mover"} by job.

    Of jobs whose failover the service is working on, or that a failover disabled.
    """
    states, disabled = observed.failover_states(c), jobs.disabled(c)
    found: dict[str, tuple[Any, ...]] = {job: (id_, None, None) for job, id_ in disabled.items()}
    for job, row in failover_requests.newest_by_job(c).items():
        if row.state in (*failover_requests.OPEN_STATES, "lost"):
            begins = row.order["do"] in failover_requests.ID_PREFIX
            found[job] = (row.id if begins else disabled.get(job), row.state, row.mover or None)
    return {
        job: {"id": id_, "state": states.get(id_), "request": state, "mover": mover}
        for job, (id_, state, mover) in found.items()
    }


def _in_words(failover: dict[str, Any], site: str) -> tuple[str, str]:
    """State of the job, and the reason."""
    id_, state, mover = failover["id"], failover["state"], failover["mover"]
    where = f"failover {id_}: {state}" if state else f"failover {id_}"
    match failover["request"]:
        case "asked" | "queued":
            return "failing over", f"{where}; requested, waits for the run under way"
        case "running":
            return "failing over", f"{where}, on mover {mover}"
        case "lost":
            return "disabled", f"{where}; mover {mover} is gone, start it again to go on"
    if state in _IN_SERVICE:
        return "disabled", f"in service at {site} ({_IN_SERVICE[state]}), {id_}"
    return "disabled", where


def describe(now: datetime, job: JobRecord, error: str | None = None) -> JobStatus:
    """The state of a job without failovers. `error`: of its last run, where that failed."""
    alarms = plan_round(now, [job], ConcurrencyLimits()).alarms
    due = next_due(now, job)
    opens = next_opening(max(now, due.at), job.rule)
    if job.running:
        state, next_at, why = "running", None, "a run is under way"
    elif job.paused:
        state, next_at = "paused", None
        why = f"`vreplica-sync schedule resume {job.name}` plans it again"
    else:
        state = "failing" if job.failures else "idle"
        next_at, why = opens, _why(job, opens, error)
        if opens is not None and opens > max(now, due.at) and not job.failures:
            why += "; waits for its window"
    age = point_age(now, job)
    ahead = job.point_time is not None and age is None
    if ahead:
        why = f"the newest point's time lies ahead of this mover's clock; {why}"
    return JobStatus(
        job=job.name,
        state=state,
        age=age,
        target=job.rule.target,
        alarm=str(alarms[0].kind) if alarms else None,
        next_at=next_at,
        why=why,
        failures=job.failures,
        error=error if job.failures else None,
        point_ahead=ahead,
    )


def _why(job: JobRecord, opens: datetime | None, error: str | None) -> str:
    """The reason of the next run, which begins at `opens`."""
    if opens is None:
        return "no window opens within a week"
    if job.failures:
        runs_failed = "last run" if job.failures == 1 else f"last {job.failures} runs"
        said = f": {error.splitlines()[0]}" if error else ""
        return f"{runs_failed} failed{said}; retry at {opens:%H:%M}Z"
    match job.rule.when:
        case Cron(expression):
            return f"cron {expression} ({job.rule.zone.key})"
        case Every(period):
            return f"every {human_duration(period.total_seconds())}"
        case Rpo(target):
            if job.point_time is None:
                return NO_POINT
            return f"to keep the {human_duration(target.total_seconds())} target"
