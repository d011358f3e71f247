"""A recovery point whose description is damaged stops neither runs nor a failover."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.reporting import quiet
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.runner import begin_failover
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.preview import preview
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.points.vm_keys import DISK_KEY, POINT_KEY
from vreplica.sync.cycle import run
from vreplica.sync.errors import PointIsDamaged
from vreplica.sync.events import ignore
from vreplica.sync.job import Job
from vreplica.sync.plan.plan import plan
from vreplica.sync.recovery_points import read_points
from vreplica.sync.verify.verify import verify
from vreplica.units import BLOCK, MIB


def damage_newest_point(world: Any, job: Job, key: str, change: Callable[[str], str]) -> str:
    """Replaces the newest point's snapshot by one with a changed description. Returns its name."""
    with world.connect(1) as session:
        replica = session.find_vm(job.placement.name)
        newest = session.read_snapshots(replica)[-1]
        session.set_extra_config(replica, {key: change(newest.extra_config[key])})
        session.remove_snapshot(replica, newest.moref)
        session.create_snapshot(replica, newest.name, "the same point, damaged", None)
        return str(newest.name)


def later(text: str) -> str:
    """A changeId of a later moment: a delta from there would leave out what changed before."""
    value = json.loads(text)
    generation, _, number = value["changeId"].rpartition("/")
    return text.replace(value["changeId"], f"{generation}/{int(number) + 1}")


def test_a_damaged_newest_point_is_left_out_and_the_next_one_is_right(
    world: Any, content: Callable[..., Path]
) -> None:
    vm = world.make_vm(content(8 * MIB))
    job = world.job(vm)
    world.power_on(vm)
    good = run(job).point
    world.write(vm, 2000, MIB, b"1" * BLOCK)
    run(job)
    damaged = damage_newest_point(world, job, f"{DISK_KEY}2000", later)
    world.write(vm, 2000, 2 * MIB, b"2" * BLOCK)

    known = read_points(job)
    assert [p.id for p in known.points] == [good.id]
    assert [(p.id, p.reason) for p in known.damaged] == [(damaged, "its checksum does not fit")]
    assert not plan(job).problems
    assert any(damaged in text for text in plan(job).warnings)
    with pytest.raises(PointIsDamaged):
        verify(job, point=damaged)
    report, equal = world.run_and_compare(job)
    assert equal == [True]
    assert any(damaged in text for text in report.warnings)
    assert [p.id for p in read_points(job).points] == [good.id, report.point.id]
    assert [p.id for p in read_points(job).damaged] == [damaged]


def test_a_failover_goes_past_a_damaged_point(world: Any, content: Callable[..., Path]) -> None:
    vm = world.make_vm(content(8 * MIB), guest_id="windows2019srv_64Guest")
    job = world.job(vm)
    world.power_on(vm)
    run(job)
    run(job)
    damaged = damage_newest_point(
        world, job, POINT_KEY, lambda text: text.replace('"time":"2', '"time":"9')
    )
    assert any(damaged in remark for remark in preview(job).remarks)
    folder = job.job_dir / "failovers" / "f1"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with VSpherePorts(job, "f1", ignore) as ports:
        choices = FailoverChoices(shutdown_timeout_s=20, heartbeat_timeout_s=20)
        outcome = begin_failover(folder, ports, choices, quiet)
    assert outcome.state is FailoverState.RUNNING
    assert outcome.facts["point"] == "f1-b"
