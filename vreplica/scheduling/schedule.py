"""Decides when a job is due. Pure: a record of the job and the time in, a moment out.

    cron    at the times of an expression, in a time zone; of several missed times one is caught up
    every   a period after the last run began
    rpo     early enough: a run that begins at the deadline ends before the newest point is too old

                 point P (its data)                    P + rpo
                     |--------------- age -------------->|
                     |                  |<- estimate --->|
                     |            |<--->|  slack: planning and waiting take time too
                     |           due    latest start = the deadline

Times are aware and in UTC; only cron and windows look at a time zone. On the day on which summer
time begins, a time that is skipped counts as the end of the gap. On the day on which it ends, no
time counts twice (cronsim, after Debian's cron).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from vreplica.hours import Opening
from vreplica.units import human_duration

MARGIN: Final = 1.25
"""The estimate is the longest of the recent durations times this: the next run may be longer."""
FIRST_BACKOFF: Final = timedelta(minutes=1)
LONGEST_BACKOFF: Final = timedelta(hours=1)
SLACK_SHARE: Final = 0.1
"""The share of the target by which a run is due before its deadline, to wait for its turn."""
_UTC_ZONE: Final = ZoneInfo("UTC")
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Before all times. The catalog stores it as the time at which a run was due."""


@dataclass(frozen=True, slots=True)
class Cron:
    """Runs begin at the times of a cron expression."""

    expression: str

    def __post_init__(self) -> None:
        """Raises ValueError where the expression is invalid or matches no time."""
        try:
            next(CronSim(self.expression, datetime.now(UTC)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(f"{self.expression!r} is not a cron expression: {error}") from None


@dataclass(frozen=True, slots=True)
class Every:
    """A run begins a period after the last one began."""

    period: timedelta


@dataclass(frozen=True, slots=True)
class Rpo:
    """Runs begin early enough for the newest point never to be older than the target."""

    target: timedelta


@dataclass(frozen=True, slots=True)
class ScheduleRule:
    """The schedule of a job. `rpo` beside cron or every raises alarms and plans nothing."""

    when: Cron | Every | Rpo
    zone: ZoneInfo = _UTC_ZONE
    opening: Opening = field(default_factory=Opening)
    jitter: timedelta = timedelta(0)
    """The longest delay of cron and every; each job has its own constant share of it."""
    priority: int = 0
    """A higher one begins first."""
    rpo: timedelta | None = None

    @property
    def target(self) -> timedelta | None:
        """The oldest age that the newest point may reach, where one is set."""
        return self.when.target if isinstance(self.when, Rpo) else self.rpo

    def __str__(self) -> str:
        match self.when:
            case Cron(expression):
                return f"cron {expression} ({self.zone.key})"
            case Every(period):
                return f"every {human_duration(period.total_seconds())}"
            case Rpo(target):
                return f"to keep the {human_duration(target.total_seconds())} target"


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The planner's knowledge of a job. Times in UTC."""

    name: str
    rule: ScheduleRule
    since: datetime
    """When the job was first seen, or resumed. Times before that are not caught up."""
    last_start: datetime | None = None
    last_end: datetime | None = None
    failures: int = 0
    """Runs that failed in a row, since the last one that made a point."""
    point_time: datetime | None = None
    """When the newest point was taken, by the clock of the mover that made it."""
    asked: bool = True
    """The destination was asked for its points. False: there may be some that are not known."""
    durations_s: tuple[float, ...] = ()
    """Of recent runs that made a point, from snapshot to commit."""
    running: bool = False
    paused: bool = False
    disabled: bool = False
    """By a failover: nothing is planned and nothing is late."""
    resources: tuple[str, ...] = ()
    """The hosts and datastores that a run of it occupies, as `host:...`, `datastore:...`."""

    @property
    def estimate(self) -> timedelta | None:
        """The expected duration of the next run; None where no run has been measured."""
        return timedelta(seconds=max(self.durations_s) * MARGIN) if self.durations_s else None


@dataclass(frozen=True, slots=True)
class DueRun:
    """A run that is due from `at` on, and late after `deadline`."""

    at: datetime
    deadline: datetime


def due(now: datetime, job: JobRecord) -> DueRun | None:
    """The run that is due now; None where none is. Windows and pauses are not looked at."""
    found = next_due(now, job)
    return found if found.at <= now else None


def next_due(now: datetime, job: JobRecord) -> DueRun:
    """The run that is due now, or else the next one."""
    job = _without_future_times(now, job)
    if job.failures:
        again = not_before(job)
        return DueRun(again, again)
    match job.rule.when:
        case Cron(expression):
            return _cron(now, job, expression)
        case Every(period):
            at = (job.last_start + period if job.last_start else job.since) + _jitter(job, period)
            return DueRun(at, at + period)
        case Rpo(target):
            return _rpo(job, target)


def not_before(job: JobRecord) -> datetime:
    """The first moment of the next try: after each failure in a row it waits longer."""
    if not job.failures or job.last_end is None:
        return job.since
    return job.last_end + min(FIRST_BACKOFF * (1 << min(job.failures - 1, 16)), LONGEST_BACKOFF)


def _without_future_times(now: datetime, job: JobRecord) -> JobRecord:
    """The record with times that lie ahead taken as unknown.

    A clock that was set back leaves such times. A job would not run for as long as the clock had
    been ahead; this way it runs once too often, and its times are right again.
    """
    known = (job.since, job.last_start, job.last_end, job.point_time)
    if all(t is None or t <= now for t in known):
        return job
    since, last_start, last_end, point_time = (t if t and t <= now else None for t in known)
    if job.point_time is not None and point_time is None:
        # vCenter's clock may be ahead: the point is at most as old as the run that made it.
        point_time = last_start
    return replace(
        job,
        since=since or _LONG_AGO,
        last_start=last_start,
        last_end=last_end,
        point_time=point_time,
    )


def next_opening(now: datetime, rule: ScheduleRule) -> datetime | None:
    """The first moment from now on at which a window is open; None: not within a week."""
    wall = rule.opening.next(now.astimezone(rule.zone))
    return wall.astimezone(UTC) if wall else None


def is_open(now: datetime, rule: ScheduleRule) -> bool:
    """True where the rule's windows let a run begin now."""
    return rule.opening.holds(now.astimezone(rule.zone))


def _cron(now: datetime, job: JobRecord, expression: str) -> DueRun:
    jitter = _jitter(job, job.rule.jitter)
    minute = (now - jitter).replace(second=0, microsecond=0)
    before, after = _slots(expression, job.rule.zone, minute)
    seen = max(job.since, job.last_start - jitter) if job.last_start else job.since
    return DueRun((before if before > seen else after) + jitter, after + jitter)


@lru_cache(65536)
def _slots(expression: str, zone: ZoneInfo, minute: datetime) -> tuple[datetime, datetime]:
    """The expression's times around a minute: the last one up to it, and the next one after it.

    On the day on which summer time ends, the iterator may begin in the wrong one of two equal
    hours. So times on the wrong side of the minute are skipped.
    """
    end = minute + timedelta(minutes=1)
    backwards = CronSim(expression, end.astimezone(zone), reverse=True)
    forwards = CronSim(expression, minute.astimezone(zone))
    before = next(at for slot in backwards if (at := slot.astimezone(UTC)) < end)
    after = next(at for slot in forwards if (at := slot.astimezone(UTC)) > minute)
    return before, after


def _rpo(job: JobRecord, target: timedelta) -> DueRun:
    if job.point_time is None:
        return DueRun(job.since, job.since + target)
    # Without a measured duration the run begins halfway.
    estimate = job.estimate if job.estimate is not None else target / 2
    deadline = job.point_time + target - estimate
    return DueRun(deadline - target * SLACK_SHARE, deadline)


def _jitter(job: JobRecord, most: timedelta) -> timedelta:
    """The job's own share of the jitter, the same at every time."""
    if not job.rule.jitter:
        return timedelta(0)
    share = int.from_bytes(blake2b(job.name.encode(), digest_size=4).digest(), "big") / 2**32
    return min(job.rule.jitter, most) * share
