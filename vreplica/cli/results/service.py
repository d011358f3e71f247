"""Results of status, history, schedule, catalog and notify."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from vreplica.cli.results.common import Document, Seconds, Time


class FailoverOfJob(TypedDict):
    """The failover that disabled the job, or that the service is working on.

    `request`: the state of its request to the service.
    """

    id: str | None
    state: str | None
    request: str | None
    mover: str | None


class Status(Document):
    """The state of a job. `age_s`: null without a point, and where its time lies ahead."""

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
    """A run or failover of the service. `kind`: run or failover."""

    id: str
    kind: str
    request: dict[str, Any] | None
    job: str
    state: str
    mover: str
    resources: list[str]
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
    """The number of points of a job that the catalog holds now."""

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
    """The answer of a receiver to the test."""

    receiver: str
    answer: str
