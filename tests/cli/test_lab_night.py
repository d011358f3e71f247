"""A bad night from the command line: guests that hang, a site that is cut off; status tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import invoke
from vreplica.cli.commands import lab_night
from vreplica.lab import Lab, LabControl
from vreplica.lab.guest.guest import CHOICES
from vreplica.units import MIB

A, B = ("--site", "site-a"), ("--site", "site-b")


@pytest.fixture
def where(lab: Lab) -> list[str]:
    return ["--dir", str(lab.directory)]


@pytest.fixture(scope="module")
def file(lab: Lab, control: LabControl) -> str:
    """A job file with the job web01, which has a point."""
    control.create_vm("site-a", "web01", disks=[(4 * MIB, True, None)], power_on=True)
    path: Path = lab.directory / "jobs.toml"
    assert invoke("run", "-q", "-c", str(path)).exit_code == 0
    return str(path)


@pytest.fixture(autouse=True)
def _connected(control: LabControl) -> Iterator[None]:
    yield
    for site in ("site-a", "site-b"):
        control.reconnect(site)
        control.set_host(site)


def documents(*words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in invoke(*words, "--json").stdout.splitlines()]


def live(file: str) -> dict[str, Any]:
    """What `status --live` says of web01."""
    (found, _) = documents("status", "--live", "-c", file)
    return found


def test_the_choices_are_those_of_the_lab() -> None:
    assert set(lab_night.SHUTDOWN) == set(CHOICES["shutdown"])
    assert set(lab_night.TOOLS) == set(CHOICES["tools"])


def test_a_guest_hangs_is_slow_and_writes(where: list[str], file: str, control: LabControl) -> None:
    (hangs,) = documents("lab", "guest", *where, *A, "--shutdown", "hangs")
    assert (hangs["vm"], hangs["shutdown"]) == ("web01", "hangs")
    slow = ("--shutdown", "works", "--shutdown-takes", "2m")
    (set_,) = documents("lab", "guest", *where, *A, *slow, "--tools", "notRunning")
    assert (set_["shutdown_s"], set_["tools"]) == (120, "notRunning")
    assert "2 min 00 s" in invoke("lab", "vms", *where).stdout
    invoke("lab", "guest", *where, *A, "--shutdown-takes", "0s", "--tools", "running")
    (wrote,) = documents("lab", "write", *where, *A, "--offset-mib", "1", "--mib", "2")
    assert wrote["written_bytes"] == 2 * MIB
    assert control.guest_read("site-a", "web01", 2000, MIB, 512).startswith(b"written by hand\n")
    (one,) = documents("lab", "write", *where, *A, "--text", "order 7")
    assert control.guest_read("site-a", "web01", 2000, 0, 512).startswith(b"order 7\n\0")
    assert one["written_bytes"] == 512
    ran = documents("run", "-q", "-c", file)
    assert sum(disk["written_bytes"] for disk in ran[0]["disks"]) > 2 * MIB


def test_a_site_that_is_cut_off_is_said_and_is_back(where: list[str], file: str) -> None:
    one = live(file)
    assert (one["vm_at"], one["vm_off"], one["points_known"]) == ("site-a", False, True)
    assert one["live"]["source"]["power"] == "poweredOn"
    assert one["live"]["replica"]["power"] == "poweredOff"
    assert invoke("lab", "disconnect", *where, *A).exit_code == 0
    assert invoke("run", "-q", "-c", file).exit_code == 5
    one = live(file)
    assert one["live"]["source"]["power"] is None
    assert "cannot" in one["live"]["source"]["trouble"]
    assert one["live"]["replica"]["power"] == "poweredOff"
    assert one["age_s"] is not None, "the other site has the points"
    shown = invoke("status", "--live", "-c", file)
    assert shown.exit_code == 0, shown.output
    assert "web01 at site-a: not known" in " ".join(shown.stdout.split())
    assert [vm["power"] for vm in documents("lab", "vms", *where)] == ["poweredOn", "poweredOff"]
    assert invoke("lab", "reconnect", *where, *A).exit_code == 0
    assert invoke("run", "-q", "-c", file).exit_code == 0


def test_what_only_vcenter_remembers_is_told_apart(where: list[str], file: str) -> None:
    host = ("--host", "esx1.site-a.lab")
    assert invoke("lab", "disconnect", *where, *A, *host).exit_code == 0
    source = live(file)["live"]["source"]
    assert (source["power"], source["host_answers"]) == ("poweredOn", False)
    assert "its host does not answer" in invoke("status", "--live", "-c", file).stdout
    assert invoke("lab", "reconnect", *where, *A, *host).exit_code == 0
    assert live(file)["live"]["source"]["host_answers"]


def test_both_on_is_an_alarm(where: list[str], file: str) -> None:
    replica = ("--vm", "web01-replica")
    assert invoke("lab", "power", *where, *B, *replica, "on").exit_code == 0
    shown = invoke("status", "--live", "-c", file)
    assert shown.exit_code == 7
    assert "BOTH VMs are on" in shown.stderr
    one = live(file)
    assert (one["live"]["both_on"], one["vm_at"]) == (True, None)
    assert invoke("lab", "power", *where, *A, "off").exit_code == 0
    assert live(file)["vm_at"] == "site-b"
    assert invoke("lab", "power", *where, *B, *replica, "off").exit_code == 0
    one = live(file)
    assert (one["vm_at"], one["vm_off"]) == (None, True)
    assert invoke("lab", "power", *where, *A, "on").exit_code == 0
    # Somebody started it by hand: the next run asks what to do with that.
    assert invoke("run", "-q", "--discard-replica-changes", "-c", file).exit_code == 0


@pytest.mark.parametrize("verb", [("guest",), ("write",), ("power", "on")])
def test_a_vm_or_site_that_is_not_there_is_a_clear_error(
    where: list[str], verb: tuple[str, ...]
) -> None:
    for site, vm in ((A, "nobody"), (("--site", "nowhere"), "web01")):
        done = invoke("lab", verb[0], *where, *site, "--vm", vm, *verb[1:])
        assert done.exit_code == 1, done.output
        assert vm in done.stderr or "nowhere" in done.stderr
