"""A job goes on with its own two VMs, whatever they are called; sites are looked at once."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask

from vreplica.sync import known_vms, sites
from vreplica.sync.cycle import run
from vreplica.sync.errors import PreflightFailed, SeveralReplicas, SiteNotTried
from vreplica.sync.plan.plan import plan
from vreplica.sync.plan.readiness import check_readiness
from vreplica.sync.recovery_points import points
from vreplica.sync.sites import SiteSessions
from vreplica.units import MIB
from vreplica.vsphere.connection.link import ServerLink

Content = Callable[..., Path]


def rename(world, site: int, vm: str, name: str) -> None:
    with world.managed(site, vm) as found:
        WaitForTask(found.Rename_Task(name))


def names_like(world, vm: str) -> list[str]:
    return [name for name in world.vm_names(1) if name.startswith(vm)]


def test_both_vms_may_be_renamed_between_two_runs(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm)
    run(job)
    rename(world, 0, vm, f"{vm}-old")
    rename(world, 1, f"{vm}-replica", f"{vm}-dr")
    report = run(job)
    assert report.disks[0].mode.value == "delta"
    assert len(points(job)) == 2
    said = " ".join(report.warnings)
    assert f"'{vm}-old' by now: correct source.vm" in said
    assert f"'{vm}-dr' by now: correct destination.name" in said
    assert names_like(world, vm) == [f"{vm}-dr"]


def test_a_vm_that_took_the_old_name_is_not_replicated_over_the_points(
    world, content: Content
) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm)
    run(job)
    rename(world, 0, vm, f"{vm}-old")
    world.control.create_vm(world.here, vm, disks=[(4 * MIB, True, None)])
    with pytest.raises(PreflightFailed) as caught:
        run(job)
    (problem,) = caught.value.problems
    assert "has the old name" in problem
    uuid = known_vms.source_uuid(job) or ""
    assert uuid in problem
    # The remedy of the message ends it.
    assert run(replace(job, source_vm=uuid)).disks[0].mode.value == "delta"


def test_another_name_in_the_job_file_means_another_vm(world, content: Content) -> None:
    vm, other = world.make_vm(content(4 * MIB)), world.make_vm(content(4 * MIB))
    job = world.job(vm)
    run(job)
    assert known_vms.source_uuid(replace(job, source_vm=other)) is None
    with pytest.raises(PreflightFailed) as caught:
        run(replace(job, source_vm=other))
    assert "was made from another VM" in " ".join(caught.value.problems)


@pytest.mark.parametrize("damage", ["", "[]", '{"source": 7, "replica": {"name": 1}}', "\0"])
def test_a_lost_memory_costs_nothing(world, content: Content, damage: str) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm)
    run(job)
    (job.job_dir / "vms.json").write_text(damage)
    assert run(job).disks[0].mode.value == "delta"
    assert json.loads((job.job_dir / "vms.json").read_text())["source"]["name"] == vm


def test_a_replica_that_was_renamed_is_found_by_its_marks(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm)
    run(job)
    (job.job_dir / "vms.json").unlink()
    rename(world, 1, f"{vm}-replica", f"{vm}-dr")
    assert plan(job).base_point is not None
    checked = [f.text for f in check_readiness(job).findings]
    assert not any("can be created" in text for text in checked)
    assert any("delta" in text for text in checked)
    assert len(run(job).warnings) >= 1
    assert names_like(world, vm) == [f"{vm}-dr"]


def test_two_vms_with_the_marks_and_points_of_a_replica_are_not_chosen_from(
    world, content: Content
) -> None:
    vm = world.make_vm(content(4 * MIB))
    job, other = world.job(vm), world.job(vm, name="other")
    other = replace(other, placement=replace(other.placement, name=f"{vm}-copy"))
    for one in (job, other):
        run(one)
    (job.job_dir / "vms.json").unlink()
    with world.connect(1) as session:
        copy = session.find_vm(f"{vm}-copy")
        (point,) = session.read_snapshots(session.find_vm(f"{vm}-replica"))
        session.set_extra_config(copy, point.extra_config)
        session.create_snapshot(copy, point.name, "", None)
    rename(world, 1, f"{vm}-replica", f"{vm}-dr")
    with pytest.raises(SeveralReplicas):
        run(job)
    assert names_like(world, vm) == [f"{vm}-copy", f"{vm}-dr"]


def test_four_jobs_are_checked_with_one_login_and_one_look(
    world, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [world.job(world.make_vm(content(4 * MIB))) for _ in range(4)]
    asked: list[str] = []
    ask = ServerLink.ask

    def noted(link: ServerLink, operation: str, *more: Any, **named: Any) -> Any:
        asked.append(operation)
        return ask(link, operation, *more, **named)

    monkeypatch.setattr(ServerLink, "ask", noted)
    counts = []
    with SiteSessions(one_look=True) as sessions:
        for job in jobs:
            before = len(asked)
            assert not check_readiness(job, sessions).problems
            counts.append(len(asked) - before)
    for once in ("reading the service content", "reading the inventory", "reading the VM folders"):
        assert asked.count(once) <= 2, once  # two sites
    assert max(counts[1:]) < counts[0] / 2


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_site_that_is_down_costs_one_time_out(
    world, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, tried = sites.connect, []

    def impatient(endpoint: Any, **_: Any) -> Any:
        tried.append(endpoint.port)
        return connect(endpoint, timeout_s=0.5)

    monkeypatch.setattr(sites, "connect", impatient)
    with silent_server() as port, SiteSessions(one_look=True) as sessions:
        job = world.job(world.make_vm(content(4 * MIB)))
        down = replace(job, destination=replace(job.destination, port=port))
        reports = [check_readiness(down, sessions) for _ in range(50)]
        assert tried.count(port) == 1
        assert [r.only_said_before for r in reports] == [False] + [True] * 49
        with pytest.raises(SiteNotTried):
            run(down, sessions=sessions)
    assert tried.count(port) == 1
