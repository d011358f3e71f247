"""Where each scheduled job stands, and what comes next and why; read from the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from vreplica.scheduling.planner import Alarm, Limits, plan_tick, point_age
from vreplica.scheduling.schedule import Cron, Every, Rule, Standing, next_due, next_opening
from vreplica.service.catalog import failover_requests, jobs, observed
from vreplica.service.catalog.database import Catalog, Connection


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job. `age` is that of the newest point's data.

    None: there is no point, or the age of the newest is not known, because its time lies ahead
    of now (`point_ahead`).

    `failover`: what the service has in hand, or what has switched the job off; `flagged`: the
    oldest point that looks like mass encryption and was not accepted.
    """

    job: str
    state: str
    """idle | running | paused | failing | failing over | off"""
    age: timedelta | None
    target: timedelta | None
    alarm: str | None
    next_at: datetime | None
    why: str
    failover: dict[str, Any] | None = None
    flagged: str | None = None
    point_ahead: bool = False

    @property
    def violated(self) -> bool:
        return self.alarm == str(Alarm.VIOLATED)

    def to_dict(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "state": self.state,
            "age_s": self.age.total_seconds() if self.age is not None else None,
            "target_s": self.target.total_seconds() if self.target else None,
            "alarm": self.alarm,
            "next_at": self.next_at.isoformat() if self.next_at else None,
            "why": self.why,
            "failover": self.failover,
            "flagged": self.flagged,
            "point_ahead": self.point_ahead,
        }


def job_status(catalog: Catalog, rules: Mapping[str, Rule]) -> list[JobStatus]:
    """In the order of `rules`. A job that the service has not seen yet is known from now on."""
    with catalog.transaction() as c:
        now = catalog.now(c)
        jobs.register(c, rules, now)
        standings = {s.name: s for s in jobs.standings(c, rules)}
        flagged = observed.flagged_points(c)
        failovers = _failovers(c)
    told = []
    for name in rules:
        one = describe(now, standings[name])
        if name in failovers:
            state, why = _in_words(failovers[name])
            one = replace(one, state=state, why=why, next_at=None, failover=failovers[name])
        told.append(replace(one, flagged=flagged.get(name)))
    return told


def _failovers(c: Connection) -> dict[str, dict[str, Any]]:
    """{"id", "state": where it stands, "order", "mover"} of jobs whose failover the service has
    in hand, or that one has switched off."""
    states, off = observed.failover_states(c), jobs.disabled(c)
    found: dict[str, tuple[Any, ...]] = {job: (id_, None, None) for job, id_ in off.items()}
    for job, order in failover_requests.newest_of_all(c).items():
        if order.state in (*failover_requests.OPEN, "lost"):
            id_ = order.id if order.order["do"] in failover_requests.PREFIX else off.get(job)
            found[job] = (id_, order.state, order.mover or None)
    return {
        job: {"id": id_, "state": states.get(id_), "order": state, "mover": mover}
        for job, (id_, state, mover) in found.items()
    }


def _in_words(failover: dict[str, Any]) -> tuple[str, str]:
    id_, state, mover = failover["id"], failover["state"], failover["mover"]
    where = f"{id_} is {state}" if state else str(id_)
    match failover["order"]:
        case "asked" | "queued":
            return "failing over", f"failover {where}: asked, waits for the run under way"
        case "running":
            return "failing over", f"failover {where}, on mover {mover}"
        case "lost":
            return "off", f"failover {where}: mover {mover} is gone and goes on when it is back"
        case _:
            return "off", f"by failover {where}"


def describe(now: datetime, job: Standing) -> JobStatus:
    alarms = plan_tick(now, [job], Limits()).alarms
    due = next_due(now, job)
    opens = next_opening(max(now, due.at), job.rule)
    if job.running:
        state, next_at, why = "running", None, "a run is under way"
    elif job.paused:
        state, next_at, why = "paused", None, "`schedule resume` plans it again"
    else:
        state = "failing" if job.failures else "idle"
        next_at, why = opens, _why(job)
        if opens is None:
            why = "its windows do not open within a week"
        elif opens > max(now, due.at):
            why += "; then its window opens"
    ahead = job.point_time is not None and point_age(now, job) is None
    if ahead:
        why = f"the newest point's time lies ahead of this mover's clock; {why}"
    return JobStatus(
        job=job.name,
        state=state,
        age=point_age(now, job),
        target=job.rule.target,
        alarm=str(alarms[0].alarm) if alarms else None,
        next_at=next_at,
        why=why,
        point_ahead=ahead,
    )


def _why(job: Standing) -> str:
    if job.failures:
        return f"failed {job.failures} times in a row; tried again"
    match job.rule.when:
        case Cron(expression):
            return f"cron {expression} ({job.rule.zone.key})"
        case Every(period):
            return f"every {period}"
        case _ if job.point_time is None:
            return "there is no point yet"
        case _:
            return "so that it ends before the newest point is too old"
