"""Simulates a large fleet with the real planner and its admission rules.

    python -m benchmarks.fleet [--vms 10000] [--hours 3] [--json fleet.json] [--plots docs/plots]

    clock ──► plan_round (vreplica.scheduling.planner, as the service calls it) ──► starts
      ▲                                                                        │ duration model
      └──────────── next end of a run, or the next round ◄─────────────────────┘

There are two scenes. In `steady` every job is inside its RPO at the beginning. In `recovery` no job
has run for a day, so all are due at once, and each has four times its usual change to copy. The
result is the share of jobs that kept their RPO, the time to work off the backlog beside a lower
bound, and the cost of a planning round. The lower bound is the first runs of all jobs on the
busiest host, datastore or mover slots: no planner could be faster.

Durations are a model, not a measurement of vSphere: a fixed part (snapshot, quiescing, removal;
lognormal, median 20 s) and the changed bytes at 76 MB/s, which the Forklift project measured for a
warm copy of one disk. The change is lognormal, around 150 MB an hour for each VM.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.plots import curve
from vreplica.scheduling.planner import ConcurrencyLimits, plan_round
from vreplica.scheduling.schedule import JobRecord, Rpo, ScheduleRule
from vreplica.service.catalog.runs import KEPT_DURATIONS

START = datetime(2026, 1, 1, tzinfo=UTC)
RPOS = ((timedelta(minutes=15), 0.2), (timedelta(hours=1), 0.5), (timedelta(hours=4), 0.3))
RATE = 76e6
"""Bytes per second of one run (Forklift, warm copy of a disk)."""
FIXED_S = 20.0
HOURLY_BYTES = 150e6
ROUND_S = 5.0
"""The service plans no more often than this."""


@dataclass(frozen=True, slots=True)
class Size:
    """The fleet: each VM on one of `hosts`, its replica on one of as many at the other site."""

    vms: int = 10_000
    hosts: int = 200
    datastores: int = 100
    movers: int = 20
    runs_per_mover: int = 24
    runs_per_host: int = 4
    runs_per_datastore: int = 6


@dataclass(slots=True)
class Fleet:
    """The jobs as the planner sees them, and their simulated runs."""

    size: Size
    random: random.Random
    change_factor: float = 1.0
    records: dict[str, JobRecord] = field(default_factory=dict)
    hourly: dict[str, float] = field(default_factory=dict)
    ends: list[tuple[datetime, str, datetime, float]] = field(default_factory=list)
    late: set[str] = field(default_factory=set)
    peak: Counter[str] = field(default_factory=Counter)
    work_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    runs: int = 0

    @classmethod
    def make(cls, size: Size, seed: int, *, behind: bool) -> Fleet:
        rng = random.Random(seed)
        fleet = cls(size, rng, change_factor=4.0 if behind else 1.0)
        for n in range(size.vms):
            target = rng.choices([r for r, _ in RPOS], [share for _, share in RPOS])[0]
            resources = (
                f"host:a/{rng.randrange(size.hosts)}",
                f"datastore:a/{rng.randrange(size.datastores)}",
                f"host:b/{rng.randrange(size.hosts)}",
                f"datastore:b/{rng.randrange(size.datastores)}",
            )
            name = f"vm{n:05d}"
            fleet.hourly[name] = HOURLY_BYTES * rng.lognormvariate(0, 1)
            age = timedelta(days=1) if behind else target * rng.random() * 0.7
            usual = fleet.seconds(name, target * 0.7, 1.0)
            fleet.records[name] = JobRecord(
                name=name,
                rule=ScheduleRule(Rpo(target)),
                since=START - timedelta(days=30),
                last_start=START - age,
                last_end=START - age,
                point_time=START - age,
                durations_s=(usual,),
                resources=resources,
            )
        return fleet

    def seconds(self, name: str, interval: timedelta, factor: float) -> float:
        """The duration of a run that copies the change of an interval."""
        changed = self.hourly[name] * (interval / timedelta(hours=1)) * factor
        return FIXED_S * self.random.lognormvariate(0, 0.4) + changed / RATE

    def begin(self, now: datetime, name: str) -> None:
        job = self.records[name]
        assert job.point_time is not None
        interval = min(now - job.point_time, timedelta(hours=4))
        seconds = self.seconds(name, interval, self.change_factor)
        self.records[name] = replace(job, running=True, last_start=now)
        heapq.heappush(self.ends, (now + timedelta(seconds=seconds), name, now, seconds))
        self.runs += 1
        # The lower bound counts the first run of each job, which no planner can leave out.
        for resource in (*job.resources, "all") if _last_end(job) < START else ():
            self.work_s[resource] += seconds

    def finish(self, until: datetime) -> None:
        while self.ends and self.ends[0][0] <= until:
            end, name, began, seconds = heapq.heappop(self.ends)
            job = self.records[name]
            assert job.point_time is not None
            target = job.rule.target
            assert target is not None
            if end > job.point_time + target:
                self.late.add(name)
            self.records[name] = replace(
                job,
                running=False,
                last_end=end,
                point_time=began,
                durations_s=(*job.durations_s, seconds)[-KEPT_DURATIONS:],
            )

    def check_limits(self, limits: ConcurrencyLimits) -> None:
        used: Counter[str] = Counter()
        for _, name, _, _ in self.ends:
            used.update(self.records[name].resources)
        for resource, n in used.items():
            assert n <= limits.of(resource), f"{n} runs on {resource}"
        kinds = {"host": 0, "datastore": 0, "all": len(self.ends)}
        for resource, n in used.items():
            kind = resource.partition(":")[0]
            kinds[kind] = max(kinds[kind], n)
        for kind, n in kinds.items():
            self.peak[kind] = max(self.peak[kind], n)


def simulate(size: Size, seed: int, hours: float, *, behind: bool) -> dict[str, Any]:
    """Runs one scene: for some hours (steady), or until every job has run once (behind)."""
    fleet = Fleet.make(size, seed, behind=behind)
    limits = ConcurrencyLimits(
        per_host=size.runs_per_host,
        per_datastore=size.runs_per_datastore,
        total=size.movers * size.runs_per_mover,
    )
    costs, backlog = [], []
    now, end = START, START + timedelta(hours=hours)
    caught_up: datetime | None = None
    todo = set(fleet.records) if behind else set()
    while now < end:
        fleet.finish(now)
        began = time.perf_counter()
        tick = plan_round(now, fleet.records.values(), limits)
        costs.append(time.perf_counter() - began)
        for start in tick.starts:
            fleet.begin(now, start.job)
        fleet.check_limits(limits)
        hours_in = (now - START) / timedelta(hours=1)
        backlog.append({"hours": hours_in + 1e-9, "waiting": len(tick.waiting)})
        if behind:
            todo = {n for n in todo if _last_end(fleet.records[n]) < START}
            if not todo and caught_up is None:
                caught_up = now
                break
        now += timedelta(seconds=ROUND_S)
    slots = {"host": size.runs_per_host, "datastore": size.runs_per_datastore}
    bounds = [
        seconds / slots[resource.partition(":")[0]]
        for resource, seconds in fleet.work_s.items()
        if resource != "all"
    ]
    bound = max(*bounds, fleet.work_s["all"] / limits.total)
    return {
        "scene": "recovery" if behind else "steady",
        "vms": size.vms,
        "hosts": size.hosts,
        "movers": size.movers,
        "runs": fleet.runs,
        "rpo_kept": None if behind else 1 - len(fleet.late) / size.vms,
        "makespan_s": (caught_up - START).total_seconds() if caught_up else None,
        "lower_bound_s": bound if behind else None,
        "round_s_median": statistics.median(costs),
        "round_s_max": max(costs),
        "peak": dict(fleet.peak),
        "backlog": backlog[:: max(1, len(backlog) // 200)],
    }


def _last_end(job: JobRecord) -> datetime:
    assert job.last_end is not None
    return job.last_end


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--vms", type=int, default=Size().vms)
    parser.add_argument("--hosts", type=int, default=Size().hosts)
    parser.add_argument("--movers", type=int, default=Size().movers)
    parser.add_argument("--hours", type=float, default=3.0, help="of the steady scene")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path)
    options = parser.parse_args()
    size = Size(vms=options.vms, hosts=options.hosts, movers=options.movers)
    scenes = [
        simulate(size, options.seed, options.hours, behind=False),
        simulate(size, options.seed, 24.0, behind=True),
    ]
    for scene in scenes:
        print(json.dumps({k: v for k, v in scene.items() if k != "backlog"}))
    if options.json:
        options.json.write_text(json.dumps(scenes, indent=1) + "\n")
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        for scene in scenes:
            title = f"{scene['scene']}: jobs that are due and wait, of {scene['vms']:,}, over hours"
            drawn = curve(scene["backlog"], "hours", "waiting", title, logarithmic=False)
            (options.plots / f"fleet-{scene['scene']}.svg").write_text(drawn)


if __name__ == "__main__":
    main()
