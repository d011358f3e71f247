"""One round of the service: read the catalog, plan, queue what begins.

movers gone? -> their runs are lost          in one transaction, under one lock: two movers
requested failovers -> a mover for each      never plan at the same time
records -> plan_round -> a mover for each
alarms: reported once, when they begin and when they end
failovers that wait for a decision: reported again until somebody decides
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from vreplica.notify.events import OnEvent, age_data
from vreplica.points.model import new_id
from vreplica.scheduling.planner import ConcurrencyLimits, RoundPlan, RunStart, plan_round
from vreplica.scheduling.schedule import ScheduleRule
from vreplica.service.catalog import failover_requests, jobs, movers, runs, undecided
from vreplica.service.catalog.database import Catalog, Connection
from vreplica.service.catalog.movers import Mover
from vreplica.service.catalog.tables import FAILOVER
from vreplica.service.lease import LeaseWatch

log = logging.getLogger("vreplica.service")

_Happened = tuple[str, str, dict[str, Any]]
"""An event to report after the transaction: its name, its job, its data."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A run or a failover that a mover is to execute."""

    id: str
    job: str
    mover: str
    failover: bool = False


def plan_for_fleet(
    c: Connection,
    now: datetime,
    rules: Mapping[str, ScheduleRule],
    limits: ConcurrencyLimits,
    fleet: Sequence[Mover],
) -> RoundPlan:
    """The plan of one round, within the places that the movers have."""
    busy = sum(m.active for m in fleet)
    free = sum(max(0, m.free) for m in fleet)
    limits = replace(limits, total=min(limits.total, busy + free))
    return plan_round(now, jobs.records(c, rules), limits)


@dataclass(slots=True)
class Dispatcher:
    """Plans for the whole fleet when it is this process's turn."""

    catalog: Catalog
    mover: str
    rules: Mapping[str, ScheduleRule]
    limits: ConcurrencyLimits
    on_event: OnEvent
    watch: LeaseWatch = field(default_factory=lambda: LeaseWatch(timedelta(seconds=40)))

    def round(self, resources: Mapping[str, tuple[str, ...]]) -> list[Assignment]:
        """Plans and queues. Returns nothing while another mover is planning.

        `resources`: what a run of each job occupies, where it was read anew.
        """
        happened: list[_Happened] = []
        with self.catalog.planning() as c:
            if c is None:
                return []
            now = self.catalog.now(c)
            jobs.register(c, self.rules, now)
            jobs.set_resources(c, resources)
            happened += self._lose(c, now)
            fleet = movers.registered(c)
            queued = [
                Assignment(*given, failover=True) for given in failover_requests.assign(c, fleet)
            ]
            if queued:
                fleet = movers.registered(c)
            plan = plan_for_fleet(c, now, self.rules, self.limits, fleet)
            happened += self._alarms(c, plan)
            happened += undecided.remind(c, self.catalog, self.mover, now)
            starts = [
                (new_id(), start, mover) for start, mover in self._assign(c, plan.starts, fleet)
            ]
            runs.queue(c, starts, now)
            queued += [Assignment(run, start.job, mover) for run, start, mover in starts]
        for name, job, data in happened:
            self.on_event(name, job, dict(data))
        for waiting in plan.waiting:
            more = {"job": waiting.job, "mover": self.mover}
            log.debug("job %s waits: %s", waiting.job, waiting.why, extra=more)
        return queued

    def _lose(self, c: Connection, now: datetime) -> list[_Happened]:
        """Gives up the runs of movers that are gone."""
        happened: list[_Happened] = []
        for run, kind, job, mover in runs.mark_lost(c, self.watch.gone(), now):
            if kind == FAILOVER and not failover_requests.mark_lost(c, run, now):
                continue
            self.catalog.add_audit_entry(c, self.mover, f"{kind} lost", job, run=run, mover=mover)
            happened.append((f"{kind} lost", job, {"run": run, "mover": mover}))
        return happened

    def _assign(
        self, c: Connection, starts: tuple[RunStart, ...], fleet: list[Mover]
    ) -> list[tuple[RunStart, str]]:
        """A mover for each run: the one that ran the job last, which has its digest maps, else the
        one with the most free places."""
        free = {m.id: m.free for m in fleet}
        last = jobs.last_movers(c, [s.job for s in starts])
        assigned = []
        for start in starts:
            mover = last.get(start.job, "")
            if free.get(mover, 0) <= 0:
                mover = max(free, key=lambda m: free[m])
            free[mover] -= 1
            assigned.append((start, mover))
        return assigned

    def _alarms(self, c: Connection, plan: RoundPlan) -> list[_Happened]:
        """Writes the alarms that have begun or ended since the last round."""
        happened: list[_Happened] = []
        now = {a.job: a for a in plan.alarms}
        known = jobs.alarms(c)
        unwatched = jobs.disabled(c).keys() | jobs.paused(c)
        for job in self.rules:
            alarm = now.get(job)
            kind = str(alarm.kind) if alarm else None
            if known.get(job) == kind:
                continue
            jobs.set_alarm(c, job, kind)
            if kind is None and job in unwatched:
                # Nothing is late, but no target was kept either.
                continue
            name = kind or "RPO kept again"
            data = age_data(alarm.age, alarm.target, ahead=alarm.ahead) if alarm else {}
            self.catalog.add_audit_entry(c, self.mover, name, job, **data)
            happened.append((name, job, data))
        return happened
