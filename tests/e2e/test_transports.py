"""The same work over VDDK's ABI and over NFC alone: equal results."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vreplica.delta.copy.modes import CopyMode
from vreplica.nfc.config import NfcConfig
from vreplica.sync.cycle import run
from vreplica.sync.errors import PreflightFailed
from vreplica.sync.job import Transport
from vreplica.sync.plan.plan import plan
from vreplica.units import BLOCK, MIB
from vreplica.vddk.config import VddkConfig

Content = Callable[..., Path]


@pytest.mark.parametrize(
    ("transport", "tracked"),
    [(Transport.VDDK, True), (Transport.NFC, False), (Transport.NFC, True)],
)
def test_full_delta_and_rescan_ship_the_same(
    world, content: Content, tmp_path: Path, request, transport: Transport, tracked: bool
) -> None:
    # Whether a host tracks what a client writes is in conflict between sources: it must not matter.
    for site in world.sites:
        world.control.settings(site["name"], track_outside_writes=tracked)
        request.addfinalizer(
            lambda name=site["name"]: world.control.settings(name, track_outside_writes=False)
        )
    vm = world.make_vm(content(32 * MIB, 1), content(8 * MIB, 2))
    job = world.job(vm, transport=transport)
    assert plan(job).transport == f"{transport}: the job says so"
    first = run(job, verify=True)
    world.power_on(vm)
    for number in range(5):
        world.write(vm, 2000, number * 4 * MIB, bytes([number + 1]) * BLOCK)
    world.write(vm, 2001, 0, bytes(2 * BLOCK))
    second = run(job, verify=True)
    assert [d.mode for d in second.disks] == [CopyMode.DELTA, CopyMode.DELTA]
    assert second.disks[0].written_bytes == 5 * BLOCK
    for report in (first, second):
        assert report.verified is not None
        assert report.verified.equal
    path = world.point_disks(job, second.point.snapshot)[2000]
    image = world.image(1, path, tmp_path / "point.raw").read_bytes()
    for number in range(5):
        assert image[number * 4 * MIB :][:BLOCK] == bytes([number + 1]) * BLOCK


def test_without_a_vddk_that_is_named_nfc_is_taken_and_said(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = replace(world.job(vm), vddk=VddkConfig())
    assert plan(job).transport == "nfc: no VDDK is named; NFC needs none"
    assert run(job, verify=True).verified.equal


def test_a_host_that_shows_another_certificate_is_found_before_anything_is_done(
    world, content: Content
) -> None:
    vm = world.make_vm(content(4 * MIB))
    pinned = NfcConfig(pinned_sha256={"127.0.0.1": "00:" * 31 + "00"})
    job = world.job(vm, transport=Transport.NFC, nfc=pinned)
    with pytest.raises(PreflightFailed) as caught:
        run(job)
    (problem,) = caught.value.problems
    assert vm in problem
    assert "certificate" in problem
    assert not world.source_snapshots(vm)


def test_a_cycle_survives_lost_connections_spent_tickets_and_short_memory(
    world, content: Content
) -> None:
    vm = world.make_vm(content(32 * MIB, 3))
    job = world.job(vm, transport=Transport.NFC, nfc=NfcConfig(reconnect_wait_s=0.05))
    here, there = (site["name"] for site in world.sites)
    world.control.add_nfc_fault(here, kind="drop", operation="read", skip=3)
    world.control.add_nfc_fault(here, kind="error", operation="read", code=2, skip=5)
    world.control.add_nfc_fault(there, kind="truncate", operation="write", skip=4)
    world.control.add_nfc_fault(there, kind="error", operation="write", code=5, skip=8)
    world.control.add_nfc_fault(there, kind="drop", operation="login", skip=1, count=2)
    try:
        report = run(job, verify=True)
    finally:
        world.control.clear_faults(here)
        world.control.clear_faults(there)
    assert report.verified.equal
    path = world.point_disks(job, report.point.snapshot)[2000]
    with world.connect(0) as session:
        (source,) = session.read_vm(session.find_vm(vm)).disks
    assert world.equal((0, source.path), (1, path))


def test_a_host_of_7_0_3_is_replicated_to_one_of_8_0(
    world, content: Content, tmp_path: Path
) -> None:
    """With lost connections, errors in its form, and a capacity that only vCenter tells."""
    here = world.here
    world.control.set_host(here, release="7.0.3", nfc={"tells_capacity": False})
    try:
        vm = world.make_vm(content(16 * MIB, 6), version="vmx-19")
        job = world.job(vm, transport=Transport.NFC, nfc=NfcConfig(reconnect_wait_s=0.05))
        world.control.add_nfc_fault(here, kind="drop", operation="read", skip=2)
        world.control.add_nfc_fault(here, kind="error", operation="read", code=2, skip=4)
        world.control.add_nfc_fault(here, kind="error", operation="allocated", code=3)
        first = run(job, verify=True)
        world.power_on(vm)
        world.write(vm, 2000, 3 * MIB, b"\x5a" * BLOCK)
        second = run(job, verify=True)
        rules = world.control.list_nfc_faults(here)
    finally:
        world.control.clear_faults(here)
        world.control.set_host(here, release="8.0")
    assert {rule["struck"] for rule in rules} == {1}
    assert first.verified.equal
    assert second.verified.equal
    assert second.disks[0].written_bytes == BLOCK
    path = world.point_disks(job, second.point.snapshot)[2000]
    image = world.image(1, path, tmp_path / "point.raw").read_bytes()
    assert image[3 * MIB :][:BLOCK] == b"\x5a" * BLOCK
    assert {c["features"] for site in world.sites for c in clients(world, site["name"])} == {0}


def clients(world, site: str) -> list[dict[str, Any]]:
    """What the NFC clients of a site announced, of which there are some."""
    found = world.control.nfc_clients(site)
    assert found
    return found


def test_a_host_in_maintenance_is_a_problem_that_the_plan_names(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm, transport=Transport.NFC)
    world.control.set_host(world.here, maintenance=True)
    try:
        (problem,) = plan(job).problems
    finally:
        world.control.set_host(world.here, maintenance=False)
    assert vm in problem
    assert "the host is in maintenance mode" in problem
    assert not plan(job).problems


WITHOUT = """
import ctypes, pickle, sys

def refuse(*args, **kwargs):
    raise AssertionError("a C library was loaded")

ctypes.CDLL = refuse
job = pickle.load(open(sys.argv[1], "rb"))
from vreplica.sync.cycle import run
report = run(job, verify=True)
assert report.verified.equal
print(report.point.id)
"""


def test_nfc_alone_needs_no_c_library(world, content: Content, tmp_path: Path) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm, transport=Transport.NFC, nfc=NfcConfig())
    script, data = tmp_path / "without.py", tmp_path / "job.pickle"
    script.write_text(WITHOUT)
    data.write_bytes(pickle.dumps(job))
    done = subprocess.run(
        [sys.executable, str(script), str(data)],
        timeout=120,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


THERE_AND_BACK = """
import json, pickle, sys

job, folder, here, there = pickle.load(open(sys.argv[1], "rb"))
alone = job.transport.value == "nfc"
processes = []

def watch(event, arguments):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.fork"):
        processes.append(event)
    if event == "ctypes.dlopen" and "vixDiskLib" in str(arguments[0]) and alone:
        raise OSError("there is no VixDiskLib here")

sys.addaudithook(watch)
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover import operations
from vreplica.lab import LabControl
from vreplica.sync.events import Progress; from vreplica.sync.cycle import run

shipped = {}

def listener(event):
    if isinstance(event, Progress) and event.activity == "copy":
        shipped["back"] = max(shipped.get("back", 0), event.written_bytes)

def quiet(text):
    pass

control = LabControl(folder)
choices = FailoverChoices(shutdown_timeout_s=20, heartbeat_timeout_s=20)
shipped["full"] = sum(d.written_bytes for d in run(job).disks)
control.guest_write(here, job.source_vm, 2000, 3 << 20, b"here" * 128)
shipped["delta"] = sum(d.written_bytes for d in run(job).disks)
states = [operations.fail_over(job, choices, quiet), operations.commit(job, quiet)]
control.guest_write(there, job.placement.name, 2000, 5 << 20, b"back" * 128)
states.append(operations.fail_back(job, choices, quiet, listener))
print(json.dumps({
    "states": [s.state.value for s in states],
    "levels": [s.facts.get("level") for s in states],
    "shipped": shipped,
    "processes": bool(processes),
}))
"""


def test_failover_and_failback_by_nfc_alone_end_as_by_vddk(
    world, content: Content, tmp_path: Path
) -> None:
    image = content(16 * MIB, 5)
    answers, disks = [], []
    for transport in (Transport.NFC, Transport.VDDK):
        vm = world.make_vm(image, guest_id="windows2019srv_64Guest")
        job = world.job(vm, transport=transport)
        world.power_on(vm)
        script, data = tmp_path / "there-and-back.py", tmp_path / "job.pickle"
        script.write_text(THERE_AND_BACK)
        names = [site["name"] for site in world.sites]
        data.write_bytes(pickle.dumps((job, world.folder, *names)))
        done = subprocess.run(
            [sys.executable, str(script), str(data)],
            timeout=180,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        # VDDK's library lives in helper processes; by NFC there is none.
        assert answer.pop("processes") == (transport is Transport.VDDK)
        answers.append(answer)
        with world.connect(0) as session:
            (disk,) = session.read_vm(session.find_vm(vm)).disks
        disks.append((0, disk.path))
        back = world.image(0, disk.path, tmp_path / "back.raw").read_bytes()
        assert back[3 * MIB :][:512] == b"here" * 128
        assert back[5 * MIB :][:512] == b"back" * 128
    assert answers[0] == answers[1]
    assert answers[0]["states"] == ["running", "committed", "running"]
    assert answers[0]["shipped"]["delta"] == answers[0]["shipped"]["back"] == BLOCK
    assert world.equal(*disks)
