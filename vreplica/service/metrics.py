"""Serves metrics for Prometheus: the work of this mover, and the fleet as the catalog has it.

    events, rounds --> counters of this process          | one page, http://HOST:PORT/metrics,
    catalog --read at each scrape--> jobs, runs, movers  | without a password

Every mover shows the same of jobs and movers, so queries take `max by (job)`. docs/service.md lists
the names.
"""

from __future__ import annotations

import logging
from collections import Counter as Counts
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from vreplica.errors import ConfigError
from vreplica.notify.events import ServiceEvent, run_seconds
from vreplica.scheduling.planner import AlarmKind, ConcurrencyLimits, point_age
from vreplica.scheduling.schedule import ScheduleRule
from vreplica.service.catalog import jobs, movers, observed
from vreplica.service.catalog.database import Catalog
from vreplica.service.dispatcher import plan_for_fleet
from vreplica.service.outbox import Notifier

log = logging.getLogger("vreplica.service")

_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200)
_BYTES = {
    "looked_at": "In the blocks that CBT named or a full copy or rescan went through.",
    "read": "Asked of the source.",
    "redundant": "Looked at: data that the replica had already.",
    "zero_already": "Looked at: zeros that the replica had as zeros, or that needed no write.",
    "zeroed": "Looked at: written as zeros.",
    "data": "Looked at: written, in blocks that are not all zeros.",
    "written": "Zeroed and data.",
    "audited": "Read of what CBT calls unchanged.",
}
"""The counts of a run, each with its help text; docs/glossary.md says the same."""


@dataclass(eq=False)
class MetricsUnavailable(ConfigError):
    template = "cannot serve metrics at {address}: {reason}"
    remedy = "Set `metrics` of [service] to another port of this machine."
    retryable = True
    address: str
    reason: str


class Metrics:
    """The counters of this process. A listener of `EventPublisher`."""

    def __init__(
        self,
        catalog: Catalog,
        rules: Mapping[str, ScheduleRule],
        limits: ConcurrencyLimits,
        notifier: Notifier | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        more: Any = {"registry": self.registry}
        self._runs = Counter("vreplica_runs", "Runs that ended here.", ("job", "result"), **more)
        self._took = Histogram(
            "vreplica_run_duration_seconds", "Of runs that made a point.", buckets=_SECONDS, **more
        )
        self._bytes = {
            what: Counter(f"vreplica_{what}_bytes", f"Bytes of runs. {text}", ("job",), **more)
            for what, text in _BYTES.items()
        }
        self._rounds = Histogram(
            "vreplica_planner_round_seconds", "Of rounds of planning, with queueing.", **more
        )
        self._both_on = Gauge(
            "vreplica_job_both_on", "1: source and replica are on.", ("job",), **more
        )
        self.registry.register(_Fleet(catalog, rules, limits, notifier))

    def __call__(self, event: ServiceEvent) -> None:
        kind, _, result = event.name.partition(" ")
        if kind != "run":
            return
        self._runs.labels(event.job, result).inc()
        seconds = run_seconds(event.data)
        if result == "done" and seconds is not None:
            self._took.observe(seconds)
            for what, counter in self._bytes.items():
                disks = event.data.get("disks", ())
                counter.labels(event.job).inc(sum(d[f"{what}_bytes"] for d in disks))

    def both_on(self, found: Mapping[str, str | None]) -> None:
        """Takes the jobs whose sites were read, with both VMs by name where both are on."""
        for job, both in found.items():
            self._both_on.labels(job).set(float(both is not None))

    def round(self, seconds: float) -> None:
        """Counts a round of planning that took `seconds`."""
        self._rounds.observe(seconds)

    def serve(self, address: str) -> Server:
        """Raises MetricsUnavailable."""
        host, _, port = address.rpartition(":")
        try:
            server, thread = start_http_server(int(port), host.strip("[]"), self.registry)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise MetricsUnavailable(address, reason) from None
        thread.name = "vreplica-metrics"
        return Server(server, thread)


@dataclass(frozen=True, slots=True)
class Server:
    """The HTTP server of the metrics, and its thread."""

    server: Any
    thread: Any

    @property
    def port(self) -> int:
        return int(self.server.server_port)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class _Fleet:
    """Reads the catalog at each scrape."""

    def __init__(
        self,
        catalog: Catalog,
        rules: Mapping[str, ScheduleRule],
        limits: ConcurrencyLimits,
        notifier: Notifier | None,
    ) -> None:
        self._catalog, self._rules, self._notifier = catalog, rules, notifier
        self._limits = limits

    def describe(self) -> list[Metric]:
        """Nothing, so that the registry does not read the catalog only to find the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._notifications()
        try:
            found = list(self._read())
        except Exception as error:
            log.warning("metrics: cannot read the catalog: %s", error)
            found = []
        up = GaugeMetricFamily("vreplica_catalog_up", "1: the catalog could be read.")
        up.add_metric((), float(bool(found)))
        yield up
        yield from found

    def _read(self) -> Iterator[Metric]:
        with self._catalog.transaction() as c:
            now = self._catalog.now(c)
            records = jobs.records(c, self._rules)
            alarms = jobs.alarms(c)
            fleet = movers.registered(c)
            leases = movers.leases(c)
            flagged = observed.flagged_points(c)
            round_plan = plan_for_fleet(c, now, self._rules, self._limits, fleet)
        age = _gauge("job_point_age_seconds", "Age of the newest point's data.", "job")
        target = _gauge("job_rpo_target_seconds", "Age that must not be passed.", "job")
        violated = _gauge("job_rpo_violated", "1: the newest point is too old.", "job")
        at_risk = _gauge("job_rpo_at_risk", "1: it is going to be.", "job")
        failures = _gauge("job_failures_in_a_row", "Since the last run that made a point.", "job")
        paused = _gauge("job_paused", "1: its schedule is paused.", "job")
        disabled = _gauge("job_off", "1: a failover has disabled it.", "job")
        suspect = _gauge("job_point_flagged", "1: a point looks like mass encryption.", "job")
        for job in records:
            key = (job.name,)
            if (known := point_age(now, job)) is not None:
                age.add_metric(key, known.total_seconds())
            if job.rule.target is not None:
                target.add_metric(key, job.rule.target.total_seconds())
                violated.add_metric(key, alarms.get(job.name) == str(AlarmKind.VIOLATED))
                at_risk.add_metric(key, alarms.get(job.name) == str(AlarmKind.PREDICTED))
            failures.add_metric(key, job.failures)
            paused.add_metric(key, job.paused)
            disabled.add_metric(key, job.disabled)
            suspect.add_metric(key, job.name in flagged)
        active = _gauge("mover_active_runs", "Queued or running.", "mover")
        capacity = _gauge("mover_capacity_runs", "That it takes at a time.", "mover")
        lease = _gauge("mover_lease_seconds", "Until its lease is over.", "mover")
        for mover in fleet:
            active.add_metric((mover.id,), mover.active)
            capacity.add_metric((mover.id,), mover.capacity)
            lease.add_metric((mover.id,), (leases[mover.id] - now).total_seconds())
        waiting = _gauge("jobs_waiting", "Due, and cannot begin.", "for")
        for kind, n in Counts(w.kind for w in round_plan.waiting).items():
            waiting.add_metric((kind,), n)
        yield from (age, target, violated, at_risk, failures, paused, disabled, suspect)
        yield from (active, capacity, lease, waiting)

    def _notifications(self) -> Iterator[Metric]:
        if self._notifier is None:
            return
        counters = CounterMetricFamily(
            "vreplica_notifications", "Events.", labels=("receiver", "result")
        )
        for name, outbox in self._notifier.outboxes.items():
            counts = outbox.counts
            counters.add_metric((name, "sent"), counts.sent)
            counters.add_metric((name, "failed"), counts.failed)
            counters.add_metric((name, "dropped"), counts.dropped)
        yield counters


def _gauge(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"vreplica_{name}", text, labels=(label,))
