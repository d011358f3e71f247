"""The metrics page: what Prometheus reads of jobs, movers and runs."""

from __future__ import annotations

import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from vreplica.config import load
from vreplica.config.errors import JobFileInvalid
from vreplica.notify.events import ServiceEvent
from vreplica.scheduling.planner import ConcurrencyLimits
from vreplica.scheduling.schedule import Rpo, ScheduleRule
from vreplica.service.catalog import jobs, movers, observed
from vreplica.service.catalog.database import Catalog
from vreplica.service.metrics import Metrics, MetricsUnavailable

RULE = ScheduleRule(Rpo(timedelta(minutes=15)))


def test_the_page_tells_of_jobs_movers_and_runs(tmp_path: Path) -> None:
    catalog = Catalog.open(f"sqlite:///{tmp_path}/c.sqlite")
    with catalog.transaction() as c:
        now = catalog.now(c)
        jobs.register(c, ["a", "b", "c"], now)
        movers.join(c, "m1", 8, now, timedelta(seconds=30))
        flagged = {"flagged": True}
        observed.set_points(c, "a", [("p1", now - timedelta(minutes=20), "crash", flagged)])
        c.execute(sa.text("UPDATE vr_job SET holds = '[\"host:h1\"]'"))
        jobs.set_disabled(c, "c", "fo-1")
        jobs.set_alarm(c, "a", "RPO violated")
    metrics = Metrics(catalog, dict.fromkeys("abc", RULE), ConcurrencyLimits(per_host=1))
    counts = (
        "looked_at",
        "read",
        "redundant",
        "zero_already",
        "zeroed",
        "data",
        "written",
        "audited",
    )
    disk = {f"{name}_bytes": 10 + n for n, name in enumerate(counts)}
    metrics(ServiceEvent("run done", "a", "m1", {"duration_s": 2.0, "disks": [disk, disk]}))
    metrics(ServiceEvent("run failed", "b", "m1", {"error": "x"}))
    metrics(ServiceEvent("RPO violated", "b", "m1", {}))
    metrics.round(0.2)
    server = metrics.serve("127.0.0.1:0")
    try:
        with pytest.raises(MetricsUnavailable, match="in use"):
            metrics.serve(f"127.0.0.1:{server.port}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
            page = answer.read().decode()
    finally:
        server.close()
        catalog.close()
    found = {
        (s.name, *s.labels.values()): s.value
        for family in text_string_to_metric_families(page)
        for s in family.samples
    }
    assert 1200 <= found["vreplica_job_point_age_seconds", "a"] < 1260
    assert ("vreplica_job_point_age_seconds", "b") not in found
    assert found["vreplica_job_rpo_target_seconds", "b"] == 900
    assert found["vreplica_job_rpo_violated", "a"] == 1
    assert found["vreplica_job_rpo_violated", "b"] == 0
    assert 0 < found["vreplica_mover_lease_seconds", "m1"] <= 30
    assert found["vreplica_runs_total", "a", "done"] == 1
    assert found["vreplica_runs_total", "b", "failed"] == 1
    for n, name in enumerate(counts):
        assert found[f"vreplica_{name}_bytes_total", "a"] == 2 * (10 + n)
    assert found["vreplica_run_duration_seconds_count",] == 1
    assert found["vreplica_planner_round_seconds_count",] == 1
    assert found["vreplica_catalog_up",] == 1
    assert found["vreplica_jobs_waiting", "host"] == 1
    assert [found["vreplica_job_off", job] for job in "abc"] == [0, 0, 1]
    assert [found["vreplica_job_point_flagged", job] for job in "abc"] == [1, 0, 0]


@pytest.mark.parametrize("address", ["9464", "host", "host:x", "h:70000"])
def test_an_address_that_cannot_be_one_is_refused(tmp_path: Path, address: str) -> None:
    file = tmp_path / "vreplica.toml"
    file.write_text(f'[service]\nmetrics = "{address}"\n')
    with pytest.raises(JobFileInvalid, match=r":2: service\.metrics: is not an address"):
        load(file)
