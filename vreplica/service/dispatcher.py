"""One round of the service: see what is, plan, queue what begins. Whoever plans, plans alone.

movers gone? -> their runs are lost          in one transaction, under one lock:
failovers that are asked -> a mover          two movers never plan at the same time
standings -> plan_tick -> a mover for each
alarms: told once, when they come and when they go
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from vreplica.notify.events import NOT_KNOWN
from vreplica.points.model import new_id
from vreplica.scheduling.planner import Limits, Start, Tick, plan_tick
from vreplica.scheduling.schedule import Rule
from vreplica.service.catalog import failover_requests, jobs, movers, runs
from vreplica.service.catalog.database import Catalog, Connection
from vreplica.service.lease import Watch
from vreplica.service.run_worker import Tell

log = logging.getLogger("vreplica.service")


@dataclass(frozen=True, slots=True)
class Queued:
    """A run or a failover that a mover is to execute."""

    id: str
    job: str
    mover: str
    failover: bool = False


def plan(
    c: Connection,
    now: datetime,
    rules: Mapping[str, Rule],
    limits: Limits,
    fleet: Sequence[movers.Mover],
) -> Tick:
    """What the planner says with the room that the movers have."""
    busy = sum(m.active for m in fleet)
    room = sum(max(0, m.free) for m in fleet)
    limits = replace(limits, total=min(limits.total, busy + room))
    return plan_tick(now, jobs.standings(c, rules), limits)


@dataclass(slots=True)
class Dispatcher:
    """Plans for the whole fleet when it is this process's turn."""

    catalog: Catalog
    mover: str
    rules: Mapping[str, Rule]
    limits: Limits
    tell: Tell
    watch: Watch = field(default_factory=lambda: Watch(timedelta(seconds=40)))

    def round(self, places: Mapping[str, tuple[str, ...]]) -> list[Queued]:
        """Plan and queue. Empty also where another mover is planning."""
        told: list[tuple[str, str, dict[str, str]]] = []
        with self.catalog.planning() as c:
            if c is None:
                return []
            now = self.catalog.now(c)
            jobs.register(c, self.rules, now)
            jobs.set_resources(c, places)
            told += self._lose(c, now)
            fleet = movers.registered(c)
            queued = [
                Queued(*given, failover=True) for given in failover_requests.hand_out(c, fleet)
            ]
            if queued:
                fleet = movers.registered(c)
            tick = plan(c, now, self.rules, self.limits, fleet)
            told += self._alarms(c, tick)
            begun = [
                (new_id(), start, mover) for start, mover in self._assign(c, tick.starts, fleet)
            ]
            runs.queue(c, begun, now)
            queued += [Queued(run, start.job, mover) for run, start, mover in begun]
        for what, job, data in told:
            self.tell(what, job, dict(data))
        for waiting in tick.waiting:
            more = {"job": waiting.job, "mover": self.mover}
            log.debug("job %s waits: %s", waiting.job, waiting.why, extra=more)
        return queued

    def _lose(self, c: Connection, now: datetime) -> list[tuple[str, str, dict[str, str]]]:
        told = []
        for run, kind, job, mover in runs.mark_lost(c, self.watch.gone(), now):
            if kind == failover_requests.KIND and not failover_requests.lose(c, run, now):
                continue
            self.catalog.note(c, self.mover, f"{kind} lost", job, run=run, mover=mover)
            told.append((f"{kind} lost", job, {"run": run, "mover": mover}))
        return told

    def _assign(
        self, c: Connection, starts: tuple[Start, ...], fleet: list[movers.Mover]
    ) -> list[tuple[Start, str]]:
        """The mover that ran the job last, since its digest maps are there; else the freest."""
        free = {m.id: m.free for m in fleet}
        before = jobs.last_movers(c, [s.job for s in starts])
        assigned = []
        for start in starts:
            wanted = before.get(start.job, "")
            if free.get(wanted, 0) <= 0:
                wanted = max(free, key=lambda m: free[m])
            free[wanted] -= 1
            assigned.append((start, wanted))
        return assigned

    def _alarms(self, c: Connection, tick: Tick) -> list[tuple[str, str, dict[str, str]]]:
        told = []
        now = {a.job: a for a in tick.alarms}
        known = jobs.alarms(c)
        off = jobs.disabled(c)
        for job in self.rules:
            alarm = now.get(job)
            name = str(alarm.alarm) if alarm else None
            if known.get(job) == name:
                continue
            jobs.set_alarm(c, job, name)
            if name is None and job in off:
                # Nothing is late, but nothing was kept.
                continue
            what = name or "RPO kept again"
            data = {"target": str(alarm.target), "age": str(alarm.age)} if alarm else {}
            if alarm is not None and alarm.ahead:
                data["age"] = NOT_KNOWN
            self.catalog.note(c, self.mover, what, job, **data)
            told.append((what, job, data))
        return told
