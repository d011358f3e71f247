"""The chain orders points: a source's clock that was wrong changes none of it, and is reported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vreplica.points import Retention
from vreplica.points.clock_problems import clock_problems
from vreplica.sync.cycle import run
from vreplica.sync.job import Job
from vreplica.sync.plan.plan import plan
from vreplica.sync.plan.readiness import check_readiness
from vreplica.sync.recovery_points import points
from vreplica.units import MIB

AHEAD_S = 26 * 3600.0


@pytest.fixture
def hosts_ahead(world) -> Iterator[None]:
    """The hosts' clocks are an hour ahead of their vCenters'."""
    for site in world.sites:
        world.control.set_host(site["name"], clock_ahead_s=3600.0)
    yield
    for site in world.sites:
        world.control.set_host(site["name"], clock_ahead_s=0.0)


@pytest.fixture
def stepped(world) -> Iterator[None]:
    world.control.step_clock(AHEAD_S)
    yield
    world.control.step_clock(0.0)


def test_a_source_clock_that_was_ahead_and_is_put_right_costs_no_point(world, stepped) -> None:
    vm = world.make_vm(4 * MIB)
    world.power_on(vm)
    job: Job = world.job(vm, retention=Retention(last=3))
    made = []
    for number in range(3):
        world.write(vm, 2000, 0, bytes([number + 1]) * 512)
        report = run(job)
        made.append(report.point.id)
        assert any("26 h ahead of this mover's" in text for text in report.warnings)
    assert any("26 h ahead of this mover's" in text for text in plan(job).warnings)
    found = [f.text for f in check_readiness(job).findings]
    assert any("26 h ahead of this mover's" in text for text in found)
    world.control.step_clock(0.0)
    for number in range(3, 6):
        world.write(vm, 2000, 0, bytes([number + 1]) * 512)
        expiring = [p.id for p in plan(job).expiring]
        report = run(job)
        assert list(report.removed_points) == expiring == made[:1]
        made = [*made[1:], report.point.id]
        assert [p.id for p in points(job)] == made
        set_back = any("was set back in between" in text for text in report.warnings)
        assert set_back == (number == 3)
        assert bool(clock_problems(points(job), report.started)) == (number < 5)
        newest = points(job)[-1]
        disk = world.point_disks(job, newest.snapshot or "")[2000]
        data = world.image(1, disk, world.work / "newest.raw").read_bytes()
        assert data[:512] == bytes([number + 1]) * 512
    assert not any("clock" in text for text in plan(job).warnings)


def test_a_power_on_is_seen_where_the_host_is_ahead_of_its_vcenter(world, hosts_ahead) -> None:
    vm = world.make_vm(4 * MIB)
    job: Job = world.job(vm)
    report = run(job)
    with world.connect(0) as session:
        host = session.read_vm(session.find_vm(vm)).host
    wrong = f"the clock of {host} is 60 min ahead of this mover's"
    assert any(wrong in text for text in report.warnings)
    assert any(wrong in text for text in plan(job).warnings)
    assert plan(job).foreign_changes == ()
    there = world.sites[1]["name"]
    world.control.power(there, job.placement.name, on=True)
    world.control.power(there, job.placement.name, on=False)
    (said,) = plan(job).foreign_changes
    assert "it was powered on at" in said
