"""Decides which runs begin now. Pure: records of the jobs and the time in, a plan out.

    records --> due? --> window open? --> resources free? --> starts, the earliest deadline first
                              |                  `----------> waiting for a resource
                              `-----------------------------> waiting for the window
    each job with a target: newest point too old, or going to be --> alarms

A run occupies resources: the ESXi hosts and the datastores of both ends. Each of them takes a
limited number of runs at a time, counted over all runs. Jobs of a higher priority begin first; of
equal ones, the job with the earlier deadline. A run that has to wait reserves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from vreplica.clocks import age_of
from vreplica.scheduling.schedule import (
    DueRun,
    JobRecord,
    due,
    is_open,
    next_opening,
    not_before,
)

ROUND_S: Final = 30.0
"""Between two rounds of planning, where nothing asks for one earlier."""


@dataclass(frozen=True, slots=True)
class ConcurrencyLimits:
    """Limits of the runs at a time.

    `exceptions`: limits of single resources, by names as in `JobRecord.resources`.
    """

    per_host: int = 4
    per_datastore: int = 4
    total: int = 1000
    exceptions: Mapping[str, int] = field(default_factory=dict)

    def of(self, resource: str) -> int:
        """The limit of one resource."""
        if resource in self.exceptions:
            return self.exceptions[resource]
        return self.per_host if resource.startswith("host:") else self.per_datastore


@dataclass(frozen=True, slots=True)
class RunStart:
    """A run that begins now, and the resources that it occupies."""

    job: str
    due: DueRun
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A run that is due and cannot begin.

    `why`: the reason, for people. `kind`: what it waits for, window | host | datastore | runs.
    """

    job: str
    due: DueRun
    why: str
    kind: str


class AlarmKind(Enum):
    """The kinds of alarms about the age of a job's newest point."""

    VIOLATED = "RPO violated"
    PREDICTED = "RPO will be violated"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class RpoAlarm:
    """A newest point that is older than its target from `at` on.

    `age`: its age now. None where there is no point, or where its time lies `ahead` of now.
    """

    job: str
    kind: AlarmKind
    target: timedelta
    age: timedelta | None
    at: datetime
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """The plan of one round."""

    starts: tuple[RunStart, ...]
    waiting: tuple[WaitingRun, ...]
    alarms: tuple[RpoAlarm, ...]


def plan_round(now: datetime, jobs: Iterable[JobRecord], limits: ConcurrencyLimits) -> RoundPlan:
    """The runs that begin, the runs that wait, and the points that are or will be too old."""
    used: Counter[str] = Counter()
    running = 0
    wanted: list[tuple[int, datetime, str, JobRecord, DueRun]] = []
    waiting: list[WaitingRun] = []
    alarms: list[RpoAlarm] = []
    for job in jobs:
        # Whoever paused a job, or failed it over, knows that no points are made.
        target = None if job.paused or job.disabled else job.rule.target
        if target is not None and (alarm := _alarm(now, job, target)):
            alarms.append(alarm)
        if job.running:
            running += 1
            used.update(job.resources)
            continue
        if job.paused or job.disabled or (found := due(now, job)) is None:
            continue
        if is_open(now, job.rule):
            wanted.append((-job.rule.priority, found.deadline, job.name, job, found))
        else:
            opens = next_opening(now, job.rule)
            why = f"its window opens at {opens}" if opens else "no window opens within a week"
            waiting.append(WaitingRun(job.name, found, why, "window"))
    starts: list[RunStart] = []
    for _, _, name, job, found in sorted(wanted, key=lambda w: w[:3]):
        full = next((r for r in job.resources if used[r] >= limits.of(r)), None)
        if running + len(starts) >= limits.total:
            waiting.append(WaitingRun(name, found, "all places for runs are taken", "runs"))
        elif full is not None:
            waiting.append(WaitingRun(name, found, f"{full} is busy", full.partition(":")[0]))
        else:
            used.update(job.resources)
            starts.append(RunStart(name, found, job.resources))
    return RoundPlan(tuple(starts), tuple(waiting), tuple(alarms))


def point_age(now: datetime, job: JobRecord) -> timedelta | None:
    """The age of the newest point.

    None where there is no point, or where its time lies ahead: a clock was set back since, and
    the age is not known.
    """
    return age_of(job.point_time, now) if job.point_time is not None else None


def _alarm(now: datetime, job: JobRecord, target: timedelta) -> RpoAlarm | None:
    age = point_age(now, job)
    if job.point_time is not None and age is None:
        # A point of unknown age keeps no target.
        return RpoAlarm(job.name, AlarmKind.VIOLATED, target, None, now, ahead=True)
    limit = (job.point_time or job.since) + target
    if now > limit:
        return RpoAlarm(job.name, AlarmKind.VIOLATED, target, age, limit)
    if not job.asked:
        return None
    end = _expected_end(now, job)
    if end is None or end > limit:
        return RpoAlarm(job.name, AlarmKind.PREDICTED, target, age, limit)
    return None


def _expected_end(now: datetime, job: JobRecord) -> datetime | None:
    """The end of the run that is under way, or of one that begins as soon as it may.

    None where no run begins. A job without a measured duration counts as quick, since nothing
    says otherwise.
    """
    estimate = job.estimate or timedelta(0)
    if job.running and job.last_start is not None:
        return max(now, job.last_start + estimate)
    begins = next_opening(max(now, not_before(job)), job.rule)
    return begins + estimate if begins else None
