"""Reads what is known of the jobs here: the catalog's rows, and the files of this machine.

catalog                points, runs, failovers, movers, as movers and commands wrote them
<job>/failovers/*      journals of this machine: the truth where they are
<job>/by-hand.jsonl    runs of commands that the catalog has not taken in
<job>/lock             a process of this machine works on the job
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vreplica.errors import VReplicaError
from vreplica.failover.history import outcomes_below
from vreplica.failover.standing import Standing
from vreplica.scheduling.schedule import Every, JobRecord, ScheduleRule
from vreplica.sync import by_hand
from vreplica.sync.by_hand import HandEntry
from vreplica.sync.job_dir import pid_below

if TYPE_CHECKING:
    from vreplica.service.catalog.database import Catalog
    from vreplica.service.catalog.movers import Mover


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalog has of all jobs; as it is made here, there is no catalog."""

    now: datetime
    place: str | None = None
    as_of: datetime | None = None
    movers: tuple[Mover, ...] = ()
    records: Mapping[str, JobRecord] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    flagged: Mapping[str, str] = field(default_factory=dict)
    newest: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Id and level of each job's newest point."""
    seen: Mapping[str, datetime] = field(default_factory=dict)
    disabled: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, Any] = field(default_factory=dict)
    failovers: Mapping[str, tuple[Standing, ...]] = field(default_factory=dict)
    by_hand: Mapping[str, HandEntry] = field(default_factory=dict)

    @property
    def at_work(self) -> bool:
        """A service is running."""
        return any(mover.at_work(self.now) for mover in self.movers)


@dataclass(frozen=True, slots=True)
class JobFolder:
    """What this machine has of a job."""

    failovers: tuple[Standing, ...] = ()
    by_hand: HandEntry | None = None
    pid: int | None = None
    trouble: str | None = None
    """Why its failovers are not known: a journal cannot be read."""


def read_catalog(catalog: Catalog, rules: Mapping[str, ScheduleRule | None]) -> Known:
    from vreplica.service.catalog import by_hand as hand_rows
    from vreplica.service.catalog import failover_requests, jobs, movers, observed, runs

    with catalog.transaction() as c:
        records = {r.name: r for r in jobs.records(c, with_any_rule(rules))}
        failovers: dict[str, list[Standing]] = {}
        for row in observed.failovers(c):
            failovers.setdefault(row.job, []).append(Standing(row.id, row.state))
        return Known(
            now=catalog.now(c),
            place=catalog.place,
            as_of=catalog.as_of(c),
            movers=tuple(movers.registered(c)),
            records=records,
            errors=runs.last_errors(c, [r.name for r in records.values() if r.failures]),
            flagged=observed.flagged_points(c),
            newest={job: (p[0], p[2]) for job, p in observed.newest_points(c).items()},
            seen=observed.seen(c),
            disabled=jobs.disabled(c),
            requests=failover_requests.newest_by_job(c),
            failovers={job: tuple(sorted(each, key=by_time)) for job, each in failovers.items()},
            by_hand=hand_rows.last_by_job(c),
        )


def with_any_rule(rules: Mapping[str, ScheduleRule | None]) -> dict[str, ScheduleRule]:
    """Jobs without a schedule have records as well; what is planned for them is not shown."""
    return {name: rule or ScheduleRule(Every(timedelta(days=1))) for name, rule in rules.items()}


def read_folder(job_dir: Path) -> JobFolder:
    entries = by_hand.read(job_dir)
    found, trouble = tuple[Standing, ...](), None
    try:
        found = tuple(Standing(o.id, o.state.value) for o in outcomes_below(job_dir))
    except VReplicaError as error:
        trouble = str(error)
    return JobFolder(
        failovers=found,
        by_hand=next((e for e in reversed(entries) if e.what == "run"), None),
        pid=pid_below(job_dir),
        trouble=trouble,
    )


def by_time(one: Standing) -> str:
    """The time in the id of a failover."""
    return one.id[3:]
