"""`schedule` of a job: when the service runs it.

schedule = { rpo = "15m" }
schedule = { every = "4h", windows = ["mon-fri 22:00-06:00", "sat,sun"] }
schedule = { cron = "30 2 * * *", timezone = "Europe/Berlin", rpo = "26h", jitter = "10m" }
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from vreplica import hours
from vreplica.config.schema.base import Model, Text, Whole, problem
from vreplica.scheduling.schedule import Cron, Every, Rpo, ScheduleRule

_DURATION = re.compile(r"(\d+)\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(value: Any) -> timedelta:
    """Parses `90s`, `15m`, `4h`, `1d`."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise problem("is not a duration", 'Write a number and a unit: "90s", "15m", "4h", "1d".')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _cron(value: str) -> str:
    try:
        Cron(value)
    except ValueError as error:
        raise problem(
            str(error), 'Five fields: minute hour day month weekday, e.g. "30 2 * * *".'
        ) from None
    return value


def zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise problem(
            "is no time zone", 'Give a name of the IANA database, e.g. "Europe/Berlin".'
        ) from None
    return value


def _span(value: str) -> str:
    try:
        hours.parse(value)
    except ValueError as error:
        raise problem(
            str(error),
            'Write "mon-fri 22:00-06:00", "sat,sun" or "2026-12-24 18:00/2026-12-27 06:00".',
        ) from None
    return value


Duration = Annotated[timedelta, BeforeValidator(duration)]
Span = Annotated[Text, AfterValidator(_span)]


class ScheduleTable(Model):
    """The schedule of a job: cron, every or rpo. Beside the others rpo is only watched."""

    cron: Annotated[Text, AfterValidator(_cron)] | None = None
    """Minute, hour, day, month, weekday."""
    every: Duration | None = None
    """A run begins so long after the last one began: "4h"."""
    rpo: Duration | None = None
    """The newest recovery point is never older than this: "15m"."""
    timezone: Annotated[Text, AfterValidator(zone)] = "UTC"
    """The time zone of cron, windows and blackout, by its IANA name."""
    windows: tuple[Span, ...] = ()
    """When runs may begin: "mon-fri 22:00-06:00"; empty: always."""
    blackout: tuple[Span, ...] = ()
    """When no run may begin, also once: "2026-12-24 18:00/2026-12-27 06:00"."""
    jitter: Duration | None = None
    """cron and every begin up to so much later, each job by its own constant share."""
    priority: Whole = Field(default=0, ge=-100, le=100)
    """A higher one begins first where hosts are busy."""

    @model_validator(mode="after")
    def _one_plan(self) -> ScheduleTable:
        if self.cron and self.every:
            raise problem("has both cron and every", "Give one of them.")
        if not (self.cron or self.every or self.rpo):
            raise problem("has no time", "Give one of cron, every and rpo.")
        return self

    def rule(self) -> ScheduleRule:
        when: Cron | Every | Rpo
        if self.cron:
            when = Cron(self.cron)
        elif self.every:
            when = Every(self.every)
        else:
            assert self.rpo is not None
            when = Rpo(self.rpo)
        return ScheduleRule(
            when=when,
            zone=ZoneInfo(self.timezone),
            opening=hours.Opening(
                tuple(map(hours.parse, self.windows)), tuple(map(hours.parse, self.blackout))
            ),
            jitter=self.jitter or timedelta(0),
            priority=self.priority,
            rpo=self.rpo,
        )
