"""One copy has one set of counts: in its report, in its point, after a reading, and in metrics."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from vreplica.notify.events import ServiceEvent
from vreplica.scheduling.planner import ConcurrencyLimits
from vreplica.service.catalog.database import Catalog
from vreplica.service.metrics import Metrics
from vreplica.sync.cycle import run
from vreplica.sync.recovery_points import points
from vreplica.units import BLOCK, MIB

PARTS = ("redundant", "zero_already", "zeroed", "data")
EXPECTED = {"redundant": 2, "zero_already": 3, "zeroed": 4, "data": 5}
"""Blocks of each kind that the guest writes."""


def of_kinds(counts: dict[str, Any]) -> dict[str, int]:
    return {part: counts[f"{part}_bytes"] // BLOCK for part in PARTS}


def assert_adds_up(counts: dict[str, Any]) -> None:
    assert of_kinds(counts) == EXPECTED
    looked_at = sum(counts[f"{part}_bytes"] for part in PARTS)
    assert counts["looked_at_bytes"] == looked_at == 14 * BLOCK
    assert counts["written_bytes"] == counts["zeroed_bytes"] + counts["data_bytes"]


def metrics_of(report: dict[str, Any], folder: Path) -> dict[str, float]:
    catalog = Catalog.open(f"sqlite:///{folder}/c.sqlite")
    try:
        metrics = Metrics(catalog, {}, ConcurrencyLimits())
        metrics(ServiceEvent("run done", report["job"], "m1", report))
        page = generate_latest(metrics.registry).decode()
    finally:
        catalog.close()
    return {
        sample.name.removeprefix("vreplica_").removesuffix("_total"): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.endswith("_bytes_total")
    }


def test_the_four_kinds_add_up_to_what_was_looked_at_everywhere(
    world: Any, content: Callable[..., Path], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    data = random.Random(7).randbytes(32 * BLOCK)
    raw.write_bytes(data + bytes(4 * MIB - len(data)))
    vm = world.make_vm(raw)
    job = world.job(vm)
    run(job)
    world.power_on(vm)
    world.write(vm, 2000, 0, data[: 2 * BLOCK])
    world.write(vm, 2000, 40 * BLOCK, bytes(3 * BLOCK))
    world.write(vm, 2000, 4 * BLOCK, bytes(4 * BLOCK))
    world.write(vm, 2000, 50 * BLOCK, random.Random(8).randbytes(5 * BLOCK))

    report, equal = world.run_and_compare(job)
    assert equal == [True]
    told = json.loads(json.dumps(report.to_dict()))
    (disk,) = told["disks"]
    assert_adds_up(disk)
    assert disk["read_bytes"] == disk["looked_at_bytes"]
    (made,) = report.point.to_dict()["disks"]
    assert_adds_up(made["stats"])
    assert made["written_bytes"] == disk["written_bytes"]
    (read,) = points(job)[-1].to_dict()["disks"]
    assert read["stats"] == made["stats"], "as the replica's extraConfig has it"
    counted = metrics_of(told, tmp_path)
    assert_adds_up(counted)
    assert {name: disk[name] for name in counted} == counted
