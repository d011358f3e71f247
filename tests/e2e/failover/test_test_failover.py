"""Test failovers: booted apart from production, replication goes on, nothing is left behind."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.reporting import quiet
from tests.support.results import check_document
from vreplica.cli.results.document import document
from vreplica.failover.machine.point_choice import PointChoice
from vreplica.failover.testing import run as testing
from vreplica.failover.testing.errors import (
    NoGuestLogin,
    NoRoomForTest,
    ProductionNetwork,
    VmInTheWay,
)
from vreplica.points import Level, Retention
from vreplica.sync.cycle import run
from vreplica.sync.errors import BeingTested
from vreplica.sync.job import Customize, Guest, Job
from vreplica.sync.recovery_points import points
from vreplica.sync.replica.test_vm import OwnerMark, hold_point
from vreplica.units import MIB
from vreplica.vsphere.errors import PlacementNotFound
from vreplica.vsphere.model import GuestCustomization, GuestLogin, NicRule
from vreplica.vsphere.session import Session

Content = Callable[..., Path]
LINUX = "ubuntu64Guest"
SOON = testing.TestOptions(network="Isolated", heartbeat_timeout_s=10)


def password() -> str:
    return "guest"


@pytest.fixture
def job(world, content: Content) -> Iterator[Job]:
    """A running VM with one point, and the password of its guest."""
    vm = world.make_vm(content(8 * MIB), guest_id=LINUX)
    made = world.job(vm, guest=Guest("root", password))
    world.power_on(vm)
    run(made)
    yield made
    testing.clean(made)
    world.control.power(world.here, vm, on=False)


def copy_of(world, job: Job) -> str:
    return f"{job.placement.name}-test"


def there(world, job: Job) -> bool:
    return copy_of(world, job) in world.vm_names(1)


def write(world, job: Job, number: int) -> None:
    world.write(job.source_vm, 2000, number * 64 * 1024, bytes([number]) * 4096)


def test_it_boots_apart_is_looked_at_and_thrown_away(world, job: Job) -> None:
    (point,) = points(job)
    said: list[str] = []
    report = testing.run_test(job, SOON, said.append)
    check_document(document("test-failover", report.to_dict()))
    assert report.passed, report.trouble
    assert (report.point.id, report.network, report.removed) == (point.id, "Isolated", True)
    assert report.host_name
    assert not there(world, job)
    with world.connect(1) as session:
        replica = session.read_vm(session.find_vm(job.placement.name))
    assert replica.power_state == "poweredOff"
    assert points(job) == (point,)
    assert not set(report.macs) & {nic.mac for nic in replica.nics}
    assert not world.control.conflicts(world.sites[1]["name"])


def test_a_script_in_the_guest_decides(world, job: Job, tmp_path: Path) -> None:
    world.control.set_programs(world.sites[1]["name"], job.placement.name, {"/bin/sh": ["sh"]})
    script = tmp_path / "check.sh"
    script.write_text("echo seen by the script; echo and wrong >&2; exit 3\n")
    report = testing.run_test(job, replace(SOON, script=script), quiet)
    check_document(document("test-failover", report.to_dict()))
    assert report.script is not None
    assert report.script.exit_code == 3
    assert report.script.output == "seen by the script\nand wrong\n"
    assert not report.passed
    script.write_text("#!/bin/sh\nexit 0\n")
    assert testing.run_test(job, replace(SOON, script=script), quiet).passed
    script.write_text("sleep 60\n")
    slow = testing.run_test(job, replace(SOON, script=script, script_timeout_s=0.5), quiet)
    assert slow.script is not None
    assert slow.script.exit_code is None
    wrong = replace(job, guest=Guest("root", lambda: "wrong"))
    refused = testing.run_test(wrong, replace(SOON, script=script), quiet)
    assert "the guest refused the login" in (refused.trouble or "")
    assert refused.removed
    with pytest.raises(NoGuestLogin):
        testing.run_test(replace(job, guest=Guest()), replace(SOON, script=script), quiet)
    assert "wrong" not in repr(GuestLogin("root", "wrong"))


def test_replication_and_retention_go_on_but_never_below_the_test_vm(
    world, job: Job, tmp_path: Path
) -> None:
    (first,) = points(job)
    assert testing.run_test(job, replace(SOON, keep=True), quiet).kept
    with world.connect(1) as session:
        (disk,) = session.read_vm(session.find_vm(copy_of(world, job))).disks
    before = world.image(1, disk.path, tmp_path / "before.raw").read_bytes()
    few = replace(job, retention=Retention(2))
    for number in range(1, 5):
        write(world, job, number)
        run(few)
    kept = [p.id for p in points(job)]
    assert kept[0] == first.id
    assert len(kept) == 3, "the held one and two more"
    assert world.image(1, disk.path, tmp_path / "after.raw").read_bytes() == before
    with pytest.raises(VmInTheWay):
        testing.run_test(job, SOON, quiet)
    assert testing.clean(job) == copy_of(world, job)
    report = run(few)
    assert first.id in report.removed_points
    assert report.points == 2


def test_production_networks_are_refused_and_unknown_ones_named(world, job: Job) -> None:
    with pytest.raises(ProductionNetwork):
        testing.run_test(job, replace(SOON, network="VM Network"), quiet)
    with pytest.raises(PlacementNotFound, match="Isolatd") as caught:
        testing.run_test(job, replace(SOON, network="Isolatd"), quiet)
    assert caught.value.exit_code == 3, "refused before anything was made"
    forced = replace(SOON, network="VM Network", force=True)
    assert testing.run_test(job, forced, quiet).passed
    without = testing.run_test(job, replace(SOON, network=None), quiet)
    assert without.passed
    assert without.network is None


def test_a_silent_guest_fails_the_test_and_the_vm_goes(world, job: Job) -> None:
    site = world.sites[1]["name"]
    world.control.set_guest(site, job.placement.name, tools="notRunning")
    report = testing.run_test(job, replace(SOON, heartbeat_timeout_s=0.5), quiet)
    assert (report.passed, report.heartbeat_s, report.removed) == (False, None, True)
    assert not there(world, job)


@pytest.mark.parametrize("method", ["CloneVM_Task", "ReconfigVM_Task", "PowerOnVM_Task"])
def test_what_fails_on_the_way_is_told_and_cleaned_up(world, job: Job, method: str) -> None:
    site = world.sites[1]["name"]
    world.control.add_fault(site, method=method, fault="NoDiskSpace", count=1)
    report = testing.run_test(job, SOON, quiet)
    assert report.trouble
    assert not there(world, job)
    assert testing.run_test(job, SOON, quiet).passed


KILLER = """
import os, pickle, signal, sys
from vreplica.failover.testing import run as testing

job, options, place = pickle.load(open(sys.argv[1], "rb"))
when, _, step = place.partition(" ")

def die(now, what):
    if now == when and what.startswith(step):
        os.kill(os.getpid(), signal.SIGKILL)

def do(self, what, call):
    die("before", what)
    result = real(self, what, call)
    die("after", what)
    return result

real = testing._TestRun._do
testing._TestRun._do = do
testing.run_test(job, options, lambda text: None)
"""


STEPS = ("clone", "attach", "power on", "power off", "destroy")
QUICK = {("after clone", "run"), ("before power on", "test"), ("after destroy", "run")}
KILLS = [
    pytest.param(place, then, marks=() if (place, then) in QUICK else pytest.mark.slow)
    for place in (f"{when} {step}" for step in STEPS for when in ("before", "after"))
    for then in ("run", "test")
]


@pytest.mark.parametrize(("place", "then"), KILLS)
def test_killed_anywhere_the_next_run_or_test_removes_it(
    world, job: Job, tmp_path: Path, place: str, then: str
) -> None:
    script, data = tmp_path / "killer.py", tmp_path / "data.pickle"
    script.write_text(KILLER)
    data.write_bytes(pickle.dumps((job, SOON, place)))
    done = subprocess.run(
        [sys.executable, str(script), str(data)], timeout=60, check=False, capture_output=True
    )
    assert done.returncode == -9, done.stderr.decode()
    left = there(world, job)
    assert left == (place not in ("before clone", "after destroy"))
    if then == "run":
        told = f"removed test VM {copy_of(world, job)}, whose process is gone"
        assert (told in run(job).recovered) == left
    else:
        assert testing.run_test(job, SOON, quiet).passed
    assert not there(world, job)


def test_a_test_that_is_under_way_is_not_cleaned_up(world, job: Job) -> None:
    testing.run_test(job, replace(SOON, keep=True), quiet)
    with world.connect(1) as session:
        found = session.find_vm(copy_of(world, job))
        mark = OwnerMark.load(session.read_vm(found).extra_config["vreplica.test"])
        assert mark is not None
        session.set_extra_config(found, {"vreplica.test": replace(mark, keep=False).dump()})
    with hold_point(job, replace(mark, keep=False)):
        assert not run(job).recovered
        with pytest.raises(BeingTested):
            testing.clean(job)
    assert there(world, job)


@pytest.mark.parametrize("how", list(Customize))
def test_the_rules_for_the_other_site_are_applied(world, job: Job, how: Customize) -> None:
    site, name = world.sites[1]["name"], job.placement.name
    customization = GuestCustomization(
        "web01-dr", "dr.example", (NicRule("10.9.0.5/24", "10.9.0.1"),)
    )
    wanted = replace(job, guest=replace(job.guest, customize=how, customization=customization))
    # The script is not to be run here: what stands for sh only shows it.
    show = {"/bin/sh": [sys.executable, "-c", "import sys; print(open(sys.argv[1]).read())"]}
    world.control.set_programs(site, name, show)
    report = testing.run_test(wanted, SOON, quiet)
    assert report.passed, report.trouble
    if how is Customize.SPEC:
        assert (report.host_name, report.addresses) == ("web01-dr", ("10.9.0.5",))
    else:
        assert report.customization_script is not None
        (mac,) = report.macs
        assert f"found=$(device {mac.lower()})" in report.customization_script.output
        assert 'card "$found" 10.9.0.5/24 10.9.0.1' in report.customization_script.output


def test_a_specification_of_vcenter_is_taken_by_its_name(world, job: Job) -> None:
    named = replace(job, guest=replace(job.guest, customize=Customize.SPEC, spec="nobody's"))
    report = testing.run_test(named, SOON, quiet)
    assert "no customization specification nobody's" in (report.trouble or "")
    assert report.removed
    world.control.set_guest(world.sites[1]["name"], job.placement.name, tools="notInstalled")
    ruled = replace(
        job.guest, customize=Customize.SPEC, customization=GuestCustomization("web01-dr")
    )
    refused = testing.run_test(replace(job, guest=ruled), SOON, quiet)
    assert "Tools is not installed" in (refused.trouble or "")
    world.control.set_guest(world.sites[1]["name"], job.placement.name, tools="running")
    world.control.set_guest(world.sites[1]["name"], job.placement.name, customize="fails")
    failed = testing.run_test(replace(job, guest=ruled), SOON, quiet)
    assert "The customization failed in the guest" in (failed.trouble or "")


@pytest.fixture
def single_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The destination is an ESXi host by itself, which has no CloneVM_Task."""
    real = Session.about.fget
    alone = property(lambda self: replace(real(self), is_vcenter=False))
    monkeypatch.setattr(Session, "about", alone)


def files_of_copy(world, job: Job) -> list[str]:
    folder = world.file(1, f"[{job.placement.datastore}] {copy_of(world, job)}/x").parent
    return sorted(p.name for p in folder.glob("*.vmdk"))


@pytest.mark.usefixtures("single_host")
def test_a_host_that_cannot_clone_copies_the_point(world, job: Job, tmp_path: Path) -> None:
    write(world, job, 5)
    run(job)
    first, _ = points(job)
    site = world.sites[1]["name"]
    world.control.add_fault(site, method="CloneVM_Task", fault="NotSupported", count=1)
    report = testing.run_test(
        job, replace(SOON, boot=PointChoice(point=first.id), keep=True), quiet
    )
    world.control.clear_faults(site)
    assert report.passed, report.trouble
    with world.connect(1) as session:
        found = session.read_vm(session.find_vm(copy_of(world, job)))
        replica = session.read_vm(session.find_vm(job.placement.name))
    assert [nic.network for nic in found.nics] == ["Isolated"]
    assert found.bios_uuid == replica.bios_uuid
    assert not {nic.mac for nic in found.nics} & {nic.mac for nic in replica.nics}
    for disk in found.disks:
        assert not disk.parents, "it stands on nothing of the replica's"
        frozen = world.point_disks(job, first.snapshot or "")[disk.key]
        assert world.equal((1, disk.path), (1, frozen))
    path = found.disks[0].path
    before = world.image(1, path, tmp_path / "before.raw").read_bytes()
    assert first.id in run(replace(job, retention=Retention(1))).removed_points, "it let go of it"
    assert world.image(1, path, tmp_path / "after.raw").read_bytes() == before
    assert testing.clean(job) == copy_of(world, job)
    assert not files_of_copy(world, job)
    with world.datastore_left(1, job.placement.datastore, MIB), pytest.raises(NoRoomForTest):
        testing.run_test(job, SOON, quiet)


@pytest.mark.usefixtures("single_host")
def test_copies_that_a_killed_test_left_go_with_the_next_run(
    world, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = testing._TestRun._do

    def do(self: object, what: str, call: Callable[[], object]) -> object:
        if what == "attach the copies":
            raise KeyboardInterrupt
        return real(self, what, call)

    with monkeypatch.context() as patched:
        patched.setattr(testing._TestRun, "_do", do)
        patched.setattr(testing._TestRun, "_remove_vm", lambda *_: False)
        with pytest.raises(KeyboardInterrupt):
            testing.run_test(job, SOON, quiet)
    assert files_of_copy(world, job)
    assert any(copy_of(world, job) in text for text in run(job).recovered)
    assert not files_of_copy(world, job)
    assert not there(world, job)


def test_any_point_can_be_tried(world, job: Job) -> None:
    write(world, job, 5)
    run(job)
    first, second = points(job)
    assert second.level is Level.FILESYSTEM
    report = testing.run_test(job, replace(SOON, boot=PointChoice(point=first.id)), quiet)
    assert report.passed
    assert report.point == first
