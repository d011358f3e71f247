"""Which runs begin now. A pure function of what is known and the time.

    standings --> due? --> open? --> room? --> starts, in the order of their deadlines
                             |         `-----> waiting, with what it waits for
                             `---------------> waiting for its window
    and of every job with a target:  too old already, or going to be   --> alarms

Room is counted per resource over everything that runs: an ESXi host's NFC service and a
datastore take only so many copies at a time. Priority goes first, then the earliest deadline;
a run that cannot begin holds nothing back for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from vreplica.scheduling.schedule import Due, Standing, due, is_open, next_opening, not_before

TICK_S: Final = 30.0
CLOCKS_APART: Final = timedelta(minutes=1)
"""Clocks of movers that are kept in step differ by less."""
"""Between two plans where nothing else calls for one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many runs at a time. Keys of `resources` are as in `Standing.holds`."""

    per_host: int = 4
    per_datastore: int = 4
    total: int = 1000
    resources: Mapping[str, int] = field(default_factory=dict)
    """Exceptions by name."""

    def of(self, resource: str) -> int:
        if resource in self.resources:
            return self.resources[resource]
        return self.per_host if resource.startswith("host:") else self.per_datastore


@dataclass(frozen=True, slots=True)
class Start:
    """A run to begin. `slot` names it: the same run is not begun twice."""

    job: str
    due: Due
    holds: tuple[str, ...]

    @property
    def slot(self) -> str:
        return f"{self.due.at:%Y%m%dT%H%M%S}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that is due and cannot begin: `why` names the window or the full resource, `what` is
    its kind: window | host | datastore | runs."""

    job: str
    due: Due
    why: str
    what: str


class Alarm(Enum):
    """What is wrong with a job's newest point."""

    VIOLATED = "RPO violated"
    PREDICTED = "RPO will be violated"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class RpoAlarm:
    """A point that is too old at `at`.

    `age` is how old it is now. None: there is no point, or its time lies `ahead` of now.
    """

    job: str
    alarm: Alarm
    target: timedelta
    age: timedelta | None
    at: datetime
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """The plan of one moment."""

    starts: tuple[Start, ...]
    waiting: tuple[Waiting, ...]
    alarms: tuple[RpoAlarm, ...]


def plan_tick(now: datetime, jobs: Iterable[Standing], limits: Limits) -> Tick:
    """What begins now, what waits and why, and whose point is or will be too old."""
    used: Counter[str] = Counter()
    running = 0
    wanted: list[tuple[int, datetime, str, Standing, Due]] = []
    waiting: list[Waiting] = []
    alarms: list[RpoAlarm] = []
    for job in jobs:
        target = job.rule.target
        if target is not None and not job.off and (alarm := _alarm(now, job, target)):
            alarms.append(alarm)
        if job.running:
            running += 1
            used.update(job.holds)
            continue
        if job.paused or job.off or (found := due(now, job)) is None:
            continue
        if is_open(now, job.rule):
            wanted.append((-job.rule.priority, found.deadline, job.name, job, found))
        else:
            opens = next_opening(now, job.rule)
            why = f"its window opens at {opens or 'no time'}"
            waiting.append(Waiting(job.name, found, why, "window"))
    starts: list[Start] = []
    for _, _, name, job, found in sorted(wanted, key=lambda w: w[:3]):
        full = next((r for r in job.holds if used[r] >= limits.of(r)), None)
        if running + len(starts) >= limits.total:
            full = "all runs"
        if full is not None:
            kind, colon, _ = full.partition(":")
            waiting.append(Waiting(name, found, f"{full} is busy", kind if colon else "runs"))
            continue
        used.update(job.holds)
        starts.append(Start(name, found, job.holds))
    return Tick(tuple(starts), tuple(waiting), tuple(alarms))


def point_age(now: datetime, job: Standing) -> timedelta | None:
    """The age of the newest point.

    None where there is no point, or where its time lies ahead: a clock was set back since, and
    the age is not known.
    """
    if job.point_time is None or job.point_time > now + CLOCKS_APART:
        return None
    return max(now - job.point_time, timedelta(0))


def _alarm(now: datetime, job: Standing, target: timedelta) -> RpoAlarm | None:
    age = point_age(now, job)
    if job.point_time is not None and age is None:
        # A point of unknown age keeps no target.
        return RpoAlarm(job.name, Alarm.VIOLATED, target, None, now, ahead=True)
    limit = (job.point_time or job.since) + target
    if now > limit:
        return RpoAlarm(job.name, Alarm.VIOLATED, target, age, limit)
    end = _expected_end(now, job)
    if end is None or end > limit:
        return RpoAlarm(job.name, Alarm.PREDICTED, target, age, limit)
    return None


def _expected_end(now: datetime, job: Standing) -> datetime | None:
    """When the run that is under way, or one that begins as soon as it may, is over; None: never.

    A job that is paused has none. One without a measured duration is taken to be quick, since
    nothing says otherwise.
    """
    estimate = job.estimate or timedelta(0)
    if job.running and job.last_start is not None:
        return max(now, job.last_start + estimate)
    if job.paused:
        return None
    begins = next_opening(max(now, not_before(job)), job.rule)
    return begins + estimate if begins else None
