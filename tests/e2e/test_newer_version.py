"""Two movers of different versions over one replica: the older one leaves alone what it cannot
read, says which version wrote it, and never calls it foreign."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vreplica.failover.preview import preview
from vreplica.points import Retention
from vreplica.points.model import FORMAT
from vreplica.points.vm_keys import POINT_KEY
from vreplica.sync.cycle import run
from vreplica.sync.errors import PointIsNewer, PreflightFailed
from vreplica.sync.events import ReplicationEvent, Step
from vreplica.sync.job import Job
from vreplica.sync.plan.plan import plan
from vreplica.sync.plan.readiness import check_readiness
from vreplica.sync.recovery_points import points, read_points
from vreplica.sync.verify.verify import verify
from vreplica.units import BLOCK, MIB

Content = Callable[..., Path]
NEWER = "20300101T000000Z-newer1"


def a_newer_mover_makes_a_point(world: Any, job: Job) -> None:
    """What a mover of the next format leaves: its description, and the snapshot that freezes it."""
    with world.connect(1) as session:
        replica = session.find_vm(job.placement.name)
        value = json.loads(session.read_vm(replica).extra_config[POINT_KEY])
        del value["sum"]
        value |= {"v": FORMAT + 1, "id": NEWER, "time": {"of": "the next format"}}
        session.set_extra_config(replica, {POINT_KEY: json.dumps(value)})
        session.create_snapshot(replica, NEWER, "made by a newer version", None)


def snapshots(world: Any, job: Job) -> list[str]:
    with world.connect(1) as session:
        return [s.name for s in session.read_vm(session.find_vm(job.placement.name)).snapshots]


def test_an_older_mover_names_the_point_of_a_newer_one_and_touches_nothing(
    world: Any, content: Content
) -> None:
    vm = world.make_vm(content(8 * MIB))
    job = world.job(vm)
    made = run(job).point
    a_newer_mover_makes_a_point(world, job)
    says = f"point {NEWER} was written by a newer version of vreplica (format {FORMAT + 1})"

    (problem,) = plan(job).problems
    assert says in problem
    assert f"reads up to {FORMAT}" in problem
    assert "Upgrade vreplica" in problem
    assert "no recovery points" not in problem, "it is not taken for a foreign snapshot"
    assert not plan(job).expiring
    assert [f.text for f in check_readiness(job).problems] == [problem]
    with pytest.raises(PreflightFailed) as refused:
        run(job)
    assert refused.value.exit_code == 3
    assert says in " ".join(refused.value.explain())
    for ask in (points, verify):
        with pytest.raises(PointIsNewer) as unread:
            ask(job)
        assert unread.value.exit_code == 3
        assert says in str(unread.value)
    known = read_points(job)
    assert [p.id for p in known.points] == [made.id]
    assert [p.id for p in known.newer] == [NEWER]
    assert any(says in remark for remark in preview(job).remarks)
    assert snapshots(world, job) == [made.id, NEWER]
    assert not world.source_snapshots(vm)

    with world.connect(1) as session:
        replica = session.find_vm(job.placement.name)
        (newest,) = [s for s in session.read_snapshots(replica) if s.name == NEWER]
        session.remove_snapshot(replica, newest.moref)
    report, equal = world.run_and_compare(job)
    assert equal == [True], "once the newer version's retention has removed it"
    assert snapshots(world, job) == [made.id, report.point.id]


def test_retention_removes_nothing_beside_a_newer_point(world: Any, content: Content) -> None:
    vm = world.make_vm(content(8 * MIB))
    job = dataclasses.replace(world.job(vm), retention=Retention(1))
    first = run(job).point

    def meanwhile(event: ReplicationEvent) -> None:
        if isinstance(event, Step) and event.name == "release":
            a_newer_mover_makes_a_point(world, job)

    report = run(job, listener=meanwhile)
    assert snapshots(world, job) == [first.id, report.point.id, NEWER]
    assert not report.removed_points
    assert any(NEWER in text and "no recovery point is removed" in text for text in report.warnings)


def test_a_failing_run_does_not_take_a_newer_point_back(world: Any, content: Content) -> None:
    vm = world.make_vm(content(8 * MIB))
    job = world.job(vm)
    first = run(job).point
    world.power_on(vm)
    world.write(vm, 2000, MIB, b"x" * BLOCK)

    def meanwhile(event: ReplicationEvent) -> None:
        if isinstance(event, Step) and event.name == "commit":
            a_newer_mover_makes_a_point(world, job)
            raise PointIsNewer("x", read_points(job).newer[0])

    with pytest.raises(PointIsNewer) as failed:
        run(job, listener=meanwhile)
    assert "left as it is: point" in str(failed.value.where.replica_state)
    assert snapshots(world, job) == [first.id, NEWER]
    with world.connect(1) as session:
        replica = session.read_vm(session.find_vm(job.placement.name))
        newest = session.read_snapshots(replica.ref)[-1]
    assert replica.current_snapshot == newest.moref, "the replica was not reverted"
