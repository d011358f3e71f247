"""Failover on the lab: what vCenter's own tasks say was done, and what boots."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.reporting import quiet
from vreplica.delta.copy.modes import CopyMode
from vreplica.failover.machine.choices import FailoverChoices, FinalSync
from vreplica.failover.machine.errors import SourceIsOn
from vreplica.failover.machine.journal import load
from vreplica.failover.machine.record import Outcome
from vreplica.failover.machine.runner import begin_failover, commit_failover, undo_failover
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.points import Level
from vreplica.sync.cycle import run
from vreplica.sync.errors import JobDisabled
from vreplica.sync.events import Step, ignore
from vreplica.sync.job import Customize, Guest, Job
from vreplica.sync.recovery_points import points
from vreplica.units import BLOCK, MIB
from vreplica.vsphere.model import GuestCustomization, NicRule

Content = Callable[..., Path]
YES = FailoverChoices(shutdown_timeout_s=20, heartbeat_timeout_s=20)
WINDOWS = "windows2019srv_64Guest"


def drive(call: Callable[..., Outcome], job: Job, *more: object) -> Outcome:
    """begin, resume, undo or commit failover `f1` of a job."""
    folder = job.job_dir / "failovers" / "f1"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with VSpherePorts(job, "f1", ignore) as ports:
        return call(folder, ports, *more, quiet)


def ready(world, content: Content, **settings: object) -> tuple[str, Job]:
    """A running VM with one point, and writes since."""
    vm = world.make_vm(content(16 * MIB), **{"guest_id": WINDOWS, **settings})
    job = world.job(vm)
    world.power_on(vm)
    run(job)
    world.write(vm, 2000, 3 * MIB, b"since" * 100 + bytes(12))
    return vm, job


def tasks_of(world, vm: str) -> list[str]:
    with world.connect(0) as session:
        return [t.operation for t in session.recent_tasks(session.find_vm(vm))]


def events_of(world, vm: str) -> list[str]:
    with world.connect(0) as session:
        return [e.type for e in session.events(session.find_vm(vm))]


def is_on(world, number: int, vm: str) -> bool:
    with world.connect(number) as session:
        return session.power_state(session.find_vm(vm)) == "poweredOn"


def test_yes_shuts_the_guest_down_and_pulls_no_plug(world, content: Content) -> None:
    vm, job = ready(world, content)
    outcome = drive(begin_failover, job, YES)
    assert outcome.state is FailoverState.RUNNING
    assert outcome.facts["level_a"] == Level.APPLICATION.value
    assert outcome.facts["level"] == Level.CLEAN_SHUTDOWN.value
    assert outcome.facts["answered"] is True
    assert not any("powerOff" in t.lower() or "PowerOff" in t for t in tasks_of(world, vm))
    assert "VmGuestShutdownEvent" in events_of(world, vm)
    assert not is_on(world, 0, vm)
    assert is_on(world, 1, job.placement.name)
    point = points(job)[-1]
    assert point.id == outcome.facts["point"]
    with world.connect(0) as session:
        (disk,) = session.read_vm(session.find_vm(vm)).disks
    assert world.equal((0, disk.path), (1, world.point_disks(job, point.snapshot)[2000]))
    assert drive(commit_failover, job).state is FailoverState.COMMITTED


def nics(world, number: int, vm: str) -> list[bool]:
    with world.connect(number) as session:
        return [n.start_connected for n in session.read_vm(session.find_vm(vm)).nics]


def test_only_the_side_in_service_is_on_the_network(world, content: Content) -> None:
    vm, job = ready(world, content)
    name = job.placement.name
    assert (nics(world, 0, vm), nics(world, 1, name)) == ([True], [False])
    drive(begin_failover, job, replace(YES, disconnect_source_nics=True))
    assert (nics(world, 0, vm), nics(world, 1, name)) == ([False], [True])
    drive(undo_failover, job)
    assert (nics(world, 0, vm), nics(world, 1, name)) == ([True], [False])


def test_a_job_in_a_failover_runs_for_nobody_else(world, content: Content) -> None:
    _, job = ready(world, content)
    drive(begin_failover, job, YES)
    with pytest.raises(JobDisabled, match="f1"):
        run(job)


def test_a_sync_in_flight_ends_before_anything_else(world, content: Content) -> None:
    _, job = ready(world, content)
    copying, go_on = threading.Event(), threading.Event()

    def listener(event: object) -> None:
        if isinstance(event, Step) and event.name == "copy":
            copying.set()
            go_on.wait(60)

    with ThreadPoolExecutor(2) as pool:
        sync = pool.submit(run, job, listener=listener)
        assert copying.wait(60)
        begun = pool.submit(drive, begin_failover, job, YES)
        folder = job.job_dir / "failovers" / "f1"
        try:
            while not [e for e in load(folder) if e.kind == "intent"]:
                time.sleep(0.05)
            # It looks for the job's lock each second.
            time.sleep(2.5)
            assert [e.step for e in load(folder)[1:]] == ["disable job"], "it does no more yet"
        finally:
            go_on.set()
        point = sync.result().point
        assert begun.result().state is FailoverState.RUNNING
    assert [p.id for p in points(job)][1:] == [point.id, "f1-a", "f1-b"]


def test_undo_puts_both_back_and_replication_goes_on(world, content: Content) -> None:
    vm, job = ready(world, content)
    outcome = drive(begin_failover, job, YES)
    # What the replica's guest writes meanwhile must be gone afterwards.
    world.control.guest_write(
        world.sites[1]["name"], job.placement.name, 2000, 0, b"elsewhere" * 56 + bytes(8)
    )
    assert drive(undo_failover, job).state is FailoverState.UNDONE
    assert is_on(world, 0, vm)
    assert not is_on(world, 1, job.placement.name)
    world.write(vm, 2000, 9 * MIB, b"after" * 100 + bytes(12))
    report = run(job, verify=True)
    assert report.disks[0].mode is CopyMode.DELTA
    assert report.written_bytes == BLOCK
    assert report.verified is not None
    assert report.verified.equal
    assert outcome.facts["point"] in [p.id for p in points(job)]


def test_a_plug_that_an_administrator_pulls_meanwhile_is_told(world, content: Content) -> None:
    vm, job = ready(world, content)
    world.control.set_guest(world.here, vm, shutdown="hangs")

    class Meddled(VSpherePorts):
        def shut_down_source(self) -> None:
            super().shut_down_source()
            with world.connect(0) as session:
                session.power_off(session.find_vm(vm))

    folder = job.job_dir / "failovers" / "f1"
    folder.parent.mkdir(parents=True)
    with Meddled(job, "f1", ignore) as ports:
        outcome = begin_failover(folder, ports, YES, quiet)
    assert outcome.facts["level"] == Level.CRASH.value


def test_no_boots_the_last_consistent_point_without_a_sync(world, content: Content) -> None:
    vm, job = ready(world, content)
    before = points(job)
    outcome = drive(begin_failover, job, replace(YES, final_sync=FinalSync.NO))
    assert outcome.state is FailoverState.RUNNING
    assert points(job) == before
    assert outcome.facts["point"] == before[-1].id
    assert not is_on(world, 0, vm)


def test_a_lost_source_is_not_contacted(world, content: Content) -> None:
    vm, job = ready(world, content)
    nobody = replace(job, source=replace(job.source, port=1))
    outcome = drive(begin_failover, nobody, replace(YES, source_lost=True))
    assert outcome.state is FailoverState.RUNNING
    assert outcome.facts["source"] == "declared lost by the operator"
    world.control.power(world.here, vm, on=False)


def test_a_source_that_somebody_starts_again_keeps_the_replica_off(world, content: Content) -> None:
    vm, job = ready(world, content)
    folder = job.job_dir / "failovers" / "f1"
    folder.parent.mkdir(parents=True)

    class Meddled(VSpherePorts):
        def replica_stands_on(self) -> str | None:
            world.power_on(vm)
            return super().replica_stands_on()

    with Meddled(job, "f1", ignore) as ports, pytest.raises(SourceIsOn):
        begin_failover(folder, ports, YES, quiet)
    assert not is_on(world, 1, job.placement.name)
    assert drive(undo_failover, job).state is FailoverState.UNDONE


@pytest.mark.parametrize("how", list(Customize))
def test_the_replica_is_on_its_network_with_the_addresses_of_the_other_site(
    world, content: Content, how: Customize
) -> None:
    _, job = ready(world, content, guest_id="ubuntu64Guest")
    replica, site = job.placement.name, world.sites[1]["name"]
    rules = GuestCustomization("web01-dr", None, (NicRule("10.9.0.5/24", "10.9.0.1"),))
    job = replace(job, guest=Guest("root", lambda: "guest", how, customization=rules))
    # What stands for sh only takes note: the script is not for this machine.
    note = [sys.executable, "-c", "import shutil, sys; shutil.copy(sys.argv[1], 'noted')"]
    world.control.set_programs(site, replica, {"/bin/sh": note})
    with world.connect(1) as session:
        (before,) = session.read_vm(session.find_vm(replica)).nics
    assert not before.start_connected
    outcome = drive(begin_failover, job, YES)
    assert outcome.state is FailoverState.RUNNING
    assert "guest_trouble" not in outcome.facts
    with world.connect(1) as session:
        ref = session.find_vm(replica)
        (nic,) = session.read_vm(ref).nics
        guest = session.read_guest(ref)
    assert nic.connected
    if how is Customize.SPEC:
        assert (guest.host_name, guest.ip_address) == ("web01-dr", "10.9.0.5")
    else:
        noted = world.control.guest_path(site, replica, "/noted").read_text()
        assert f"found=$(device {nic.mac})" in noted
    assert drive(undo_failover, job).state is FailoverState.UNDONE
    with world.connect(1) as session:
        (after,) = session.read_vm(session.find_vm(replica)).nics
    assert not after.start_connected, "a replica that is taken back talks to nobody"


def test_a_script_that_fails_is_told_and_stops_nothing(world, content: Content) -> None:
    _, job = ready(world, content, guest_id="ubuntu64Guest")
    rules = GuestCustomization("web01-dr")
    wrong = Guest("root", lambda: "wrong", Customize.SCRIPT, customization=rules)
    outcome = drive(begin_failover, replace(job, guest=wrong), YES)
    assert outcome.state is FailoverState.RUNNING
    assert "the guest refused the login" in outcome.facts["guest_trouble"]
