"""Results of status, history, schedule, catalog and notify."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from vreplica.cli.results.common import Document, Seconds, Time


class FailoverOfJob(TypedDict):
    """The failover that has switched the job off, or that the service has in hand."""

    id: str | None
    state: str | None
    order: str | None
    mover: str | None


class Status(Document):
    """One job. `age_s` is null without a point, and where the point's time lies ahead."""

    job: str
    state: str
    age_s: Seconds | None
    target_s: Seconds | None
    alarm: str | None
    next_at: Time | None
    why: str
    failures: int
    error: str | None
    failover: FailoverOfJob | None
    flagged: str | None
    point_ahead: bool


class History(Document):
    """One run or failover of the service. `kind`: run or failover."""

    id: str
    kind: str
    order: dict[str, Any] | None
    job: str
    state: str
    mover: str
    holds: list[str]
    epoch: int | None
    due: Time
    queued: Time
    started: Time | None
    ended: Time | None
    tries: int
    outcome: dict[str, Any] | None
    error: str | None


class Schedule(Document):
    """`changed`: false where it was so already."""

    job: str
    paused: bool
    changed: bool


class Rebuilt(Document):
    """How many points of a job the catalog holds now."""

    job: str
    points: int


Migrated = TypedDict(
    "Migrated",
    {
        "version": Literal[1],
        "result": str,
        "catalog": str,
        "from": str | None,
        "to": str,
    },
)
"""The catalog's schema, before and after. A key that is a Python keyword needs this form."""


class Notified(Document):
    """What a receiver answered to the test."""

    receiver: str
    answer: str
