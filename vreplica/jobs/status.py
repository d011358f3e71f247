"""Where each scheduled job stands, and what comes next and why; read from the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from vreplica.jobs import ledger
from vreplica.jobs.catalog import Catalog
from vreplica.jobs.planner import Alarm, Limits, plan_tick
from vreplica.jobs.schedule import Cron, Every, Rule, Standing, next_due, next_opening


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job. `age` is that of the newest point's data; None: there is none."""

    job: str
    state: str
    """idle | running | paused | failing"""
    age: timedelta | None
    target: timedelta | None
    alarm: str | None
    next_at: datetime | None
    why: str

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
        }


def job_status(catalog: Catalog, rules: Mapping[str, Rule]) -> list[JobStatus]:
    """In the order of `rules`. A job that the service has not seen yet is known from now on."""
    with catalog.transaction() as c:
        now = catalog.now(c)
        ledger.know(c, rules, now)
        standings = {s.name: s for s in ledger.standings(c, rules)}
    return [describe(now, standings[name]) for name in rules]


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
    return JobStatus(
        job=job.name,
        state=state,
        age=now - job.point_time if job.point_time else None,
        target=job.rule.target,
        alarm=str(alarms[0].alarm) if alarms else None,
        next_at=next_at,
        why=why,
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
