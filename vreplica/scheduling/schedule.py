"""When a job is due. Pure: what is known of the job goes in, a moment comes out.

    cron    at the times of an expression, in a zone; of several missed times one is caught up
    every   so long after the last run began
    rpo     in time: a run that begins now still ends before the newest point is too old

                 point P (its data)                    P + rpo
                     |--------------- age -------------->|
                     |                  |<- estimate --->|
                     |            |<--->|  slack: planning and waiting take time too
                     |           due    latest start = the deadline

Times are aware and in UTC; only cron and windows look at a zone's clock. On the day on which
summer time begins a time that is skipped comes at the end of the gap, and none comes twice on
the day on which it ends (cronsim, after Debian's cron).
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

MARGIN: Final = 1.25
"""On the longest of the recent durations: the next run may be longer."""
FIRST_BACKOFF: Final = timedelta(minutes=1)
LONGEST_BACKOFF: Final = timedelta(hours=1)
SLACK_SHARE: Final = 0.1
"""Of the RPO: what a run may wait for its turn before it would be late."""
_UTC_ZONE: Final = ZoneInfo("UTC")
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cron:
    expression: str

    def __post_init__(self) -> None:
        """Raises ValueError for what is no expression, or never comes."""
        try:
            next(CronSim(self.expression, datetime.now(UTC)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(f"{self.expression!r} is no cron expression: {error}") from None


@dataclass(frozen=True, slots=True)
class Every:
    period: timedelta


@dataclass(frozen=True, slots=True)
class Rpo:
    target: timedelta


@dataclass(frozen=True, slots=True)
class Rule:
    """When a job runs. `rpo` beside cron or every is only watched, not planned by."""

    when: Cron | Every | Rpo
    zone: ZoneInfo = _UTC_ZONE
    opening: Opening = field(default_factory=Opening)
    jitter: timedelta = timedelta(0)
    """Cron and every are late by up to this, each job by its own constant share."""
    priority: int = 0
    """Higher goes first."""
    rpo: timedelta | None = None

    @property
    def target(self) -> timedelta | None:
        """The age of the newest point that must not be passed, where there is one."""
        return self.when.target if isinstance(self.when, Rpo) else self.rpo


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a job. Times in UTC."""

    name: str
    rule: Rule
    since: datetime
    """When it was first seen, or switched on again: nothing before that is caught up."""
    last_start: datetime | None = None
    last_end: datetime | None = None
    failures: int = 0
    """In a row, since the last run that made a point."""
    point_time: datetime | None = None
    """When the newest point was taken, by the clock of the mover that made it."""
    durations_s: tuple[float, ...] = ()
    """Of recent runs that made a point, snapshot to commit."""
    running: bool = False
    paused: bool = False
    off: bool = False
    """A failover has switched it off: nothing is planned, nothing is late."""
    holds: tuple[str, ...] = ()
    """What a run of it occupies, as `host:...`, `datastore:...`."""

    @property
    def estimate(self) -> timedelta | None:
        """How long the next run takes; None where no run has shown it."""
        return timedelta(seconds=max(self.durations_s) * MARGIN) if self.durations_s else None


@dataclass(frozen=True, slots=True)
class Due:
    """A run that should begin: since `at`, and by `deadline`."""

    at: datetime
    deadline: datetime


def due(now: datetime, job: Standing) -> Due | None:
    """The run that is due, whatever stands in its way; None where none is."""
    found = next_due(now, job)
    return found if found.at <= now else None


def next_due(now: datetime, job: Standing) -> Due:
    """The run that is due, or else the next one, as things stand now."""
    job = _not_ahead(now, job)
    if job.failures:
        again = not_before(job)
        return Due(again, again)
    match job.rule.when:
        case Cron(expression):
            return _cron(now, job, expression)
        case Every(period):
            at = (job.last_start + period if job.last_start else job.since) + _late(job, period)
            return Due(at, at + period)
        case Rpo(target):
            return _rpo(job, target)


def not_before(job: Standing) -> datetime:
    """After failures in a row the next try waits, longer each time."""
    if not job.failures or job.last_end is None:
        return job.since
    return job.last_end + min(FIRST_BACKOFF * (1 << min(job.failures - 1, 16)), LONGEST_BACKOFF)


def _not_ahead(now: datetime, job: Standing) -> Standing:
    """A clock that was set back leaves times that are still to come: they count as unknown.

    Otherwise a job would stand still for as long as the clock had been ahead; like this it runs
    once too often, which puts its times right.
    """
    known = (job.since, job.last_start, job.last_end, job.point_time)
    if all(t is None or t <= now for t in known):
        return job
    since, last_start, last_end, point_time = (t if t and t <= now else None for t in known)
    if job.point_time is not None and point_time is None:
        # Or vCenter's clock is ahead: then it is no older than the run that made it.
        point_time = last_start
    return replace(
        job,
        since=since or _LONG_AGO,
        last_start=last_start,
        last_end=last_end,
        point_time=point_time,
    )


def next_opening(now: datetime, rule: Rule) -> datetime | None:
    """The first moment from now on at which its windows are open; None: not within a week."""
    wall = rule.opening.next(now.astimezone(rule.zone))
    return wall.astimezone(UTC) if wall else None


def is_open(now: datetime, rule: Rule) -> bool:
    return rule.opening.holds(now.astimezone(rule.zone))


def _cron(now: datetime, job: Standing, expression: str) -> Due:
    late = _late(job, job.rule.jitter)
    before, after = _slots(expression, job.rule.zone, (now - late).replace(second=0, microsecond=0))
    seen = max(job.since, job.last_start - late) if job.last_start else job.since
    return Due(before + late, after + late) if before > seen else Due(after + late, after + late)


@lru_cache(65536)
def _slots(expression: str, zone: ZoneInfo, minute: datetime) -> tuple[datetime, datetime]:
    """The expression's times around a minute: the last one up to it, the next one after it.

    The iterator may begin in the wrong one of two equal hours, so it is held to the moment.
    """
    end = minute + timedelta(minutes=1)
    backwards = CronSim(expression, end.astimezone(zone), reverse=True)
    forwards = CronSim(expression, minute.astimezone(zone))
    before = next(at for slot in backwards if (at := slot.astimezone(UTC)) < end)
    after = next(at for slot in forwards if (at := slot.astimezone(UTC)) > minute)
    return before, after


def _rpo(job: Standing, target: timedelta) -> Due:
    if job.point_time is None:
        return Due(job.since, job.since + target)
    # Without a measured duration: begin halfway.
    estimate = job.estimate if job.estimate is not None else target / 2
    deadline = job.point_time + target - estimate
    return Due(deadline - target * SLACK_SHARE, deadline)


def _late(job: Standing, most: timedelta) -> timedelta:
    """A job's own share of the jitter, the same at every time."""
    if not job.rule.jitter:
        return timedelta(0)
    share = int.from_bytes(blake2b(job.name.encode(), digest_size=4).digest(), "big") / 2**32
    return min(job.rule.jitter, most) * share
