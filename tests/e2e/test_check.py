"""`check_readiness` on the lab: what is good, what is missing, and that nothing is changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vreplica.disk_errors import HostConnection
from vreplica.nfc.config import NfcConfig
from vreplica.sync.cycle import run
from vreplica.sync.errors import PreflightFailed
from vreplica.sync.job import Placement, Transport
from vreplica.sync.plan.readiness import check_readiness
from vreplica.units import MIB
from vreplica.vddk.config import VddkConfig

Content = Callable[..., Path]


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of hosts whose port is tried; they do not exist outside the lab."""
    names: list[str] = []

    def probe(host: str, port: int) -> str:
        names.append(host)
        raise HostConnection(host=host, path="", doing=f"connecting to port {port}", reason="lab")

    monkeypatch.setattr(sys.modules[check_readiness.__module__], "probe", probe)
    return names


def texts(report) -> str:
    return "\n".join(f"{f.area}: {f.kind.value}: {f.text}. {f.remedy}" for f in report.findings)


def test_a_job_that_can_run_is_good_before_and_after_its_first_run(
    world, content: Content, asked: list[str]
) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm, transport=Transport.NFC, nfc=NfcConfig())
    before = world.vm_names(1)
    report = check_readiness(job)
    assert not report.problems, texts(report)
    assert "source: good: VM " in texts(report)
    assert "can be created on" in texts(report)
    assert len(asked) == 1  # the destination's host, of which no ticket tells yet
    assert world.vm_names(1) == before
    assert not world.source_snapshots(vm)
    run(job)
    again = check_readiness(job)
    assert not again.problems, texts(again)
    assert len(asked) == 1  # now the ticket does


def test_every_problem_is_in_one_report(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    world.control.set_user(world.here, "weak", "weak", ["VirtualMachine.State.CreateSnapshot"])
    weak = replace(world.endpoint(0), user="weak", password="weak")
    there = replace(world.endpoint(1), password="mistaken")
    report = check_readiness(world.job(vm, source=weak, destination=there))
    text = texts(report)
    assert "weak lacks on VM" in text
    assert "VirtualMachine.Config.ChangeTracking" in text
    assert "VirtualMachine.State.CreateSnapshot" not in text
    assert "destination: problem" in text
    assert "mistaken" not in text
    assert len(report.problems) >= 2


def test_places_that_do_not_exist_are_answered_with_those_that_do(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    store = world.sites[1]["datastores"][0]
    for place, known in (
        (Placement("nowhere", "r"), store),
        (Placement(store, "r", networks={"VM Network": "none"}), "VM Network"),
    ):
        report = check_readiness(world.job(vm, placement=place))
        found = [f for f in report.problems if f.area == "destination"]
        assert any(known in f.text + f.remedy for f in found), texts(report)


def test_another_certificate_and_a_vm_that_is_not_there(world) -> None:
    other = replace(world.endpoint(1), sha256=":".join(["00"] * 32))
    report = check_readiness(world.job("no-such-vm", destination=other))
    areas = {f.area: f.text for f in report.problems}
    assert "no-such-vm" in areas["source"]
    assert "certificate" in areas["destination"]


@pytest.mark.parametrize(
    ("vddk", "said"),
    [
        (VddkConfig(libdir=Path("/nowhere")), "no VixDiskLib in /nowhere"),
        (VddkConfig(config_file=Path("/nowhere/x.conf")), "/nowhere/x.conf cannot be read"),
    ],
)
def test_a_disk_library_that_is_not_there_is_a_problem_before_a_run(
    world, content: Content, vddk: VddkConfig, said: str
) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm, transport=Transport.VDDK, vddk=vddk)
    report = check_readiness(job)
    assert [f.area for f in report.problems] == ["run"], texts(report)
    assert said in report.problems[0].text
    with pytest.raises(PreflightFailed):
        run(job)
    assert not world.source_snapshots(vm)
