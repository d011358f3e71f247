"""Results of status, history, schedule, catalog and notify."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from vreplica.cli.results.common import Document, LiveJob, Seconds, Time


class FailoverOfJob(TypedDict):
    """The failover that disabled the job, or that the service is working on.

    `request`: the state of its request to the service.
    """

    id: str | None
    state: str | None
    request: str | None
    mover: str | None


class Status(Document):
    """The state of a job. `age_s`: null without a point, and where its time lies ahead.

    `points_known`: false where nobody asked the destination; `points_seen`: when it was read last.
    `vm_at`: the site where the VM is in service; null: off at both (`vm_off`), on at both, or not
    known. `live`: null without --live.
    """

    job: str
    state: Literal["idle", "running", "paused", "failing", "failing over", "disabled"]
    scheduled: bool
    source_site: str
    destination_site: str
    vm_at: str | None
    vm_off: bool
    point: str | None
    level: str | None
    points_known: bool
    points_seen: Time | None
    age_s: Seconds | None
    target_s: Seconds | None
    alarm: str | None
    next_at: Time | None
    why: str
    failures: int
    error: str | None
    failed_at: Time | None
    failover: FailoverOfJob | None
    flagged: str | None
    point_ahead: bool
    live: LiveJob | None


class Mover(TypedDict):
    """`at_work`: its lease is valid. `version`: null where it does not say."""

    mover: str
    version: str | None
    lease_until: Time | None
    at_work: bool
    active_runs: int
    capacity_runs: int


class StatusService(Document):
    """The service, after the jobs. `catalog`: null where none was made.

    `as_of`, `age_s`: when somebody last wrote to it, and how long ago. `at_work`: a mover is.
    """

    catalog: str | None
    as_of: Time | None
    age_s: float | None
    at_work: bool
    movers: list[Mover]


class History(Document):
    """A run or failover. `kind`: run or failover.

    `who`: the user and machine of one that a command carried out; null: the service.
    """

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
    who: str | None


class JobListed(Document):
    """A job of the job file. `schedule`: in words; null: it is run by hand."""

    job: str
    source_site: str
    source_vm: str
    destination_site: str
    replica_vm: str
    schedule: str | None
    target_s: Seconds | None
    groups: list[str]


class FailoverListed(Document):
    """A failover or failback. `here`: its journal is on this machine.

    Of one whose journal is elsewhere the catalog knows the state, as of `seen`, and the point.
    """

    job: str
    failover: str
    back: bool
    from_site: str
    to_site: str
    state: str
    started: Time | None
    ended: Time | None
    downtime_s: Seconds | None
    point: str | None
    level: str | None
    here: bool
    seen: Time | None


class AuditEntry(Document):
    """An entry of the audit trail. `who`: a user, or a mover. `data`: depends on `what`."""

    n: int
    time: Time
    who: str
    what: str
    job: str | None
    data: dict[str, Any]


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
