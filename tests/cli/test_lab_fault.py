"""`lab fault`: a rule from the command line strikes, is listed, and goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from tests.support.commands import invoke
from vreplica.cli.commands import lab_fault
from vreplica.lab import Lab, LabControl
from vreplica.lab.nfc.faults import FaultKind, Operation
from vreplica.lab.site.faults import Action
from vreplica.units import MIB


@pytest.fixture
def where(lab: Lab) -> list[str]:
    return ["--dir", str(lab.directory)]


def test_a_rule_strikes_once_and_is_told(lab: Lab, control: LabControl, where: list[str]) -> None:
    control.create_vm("site-a", "faulty", disks=[(MIB, True, None)])
    text = (lab.directory / "jobs.toml").read_text().replace("web01", "faulty")
    job = lab.directory / "faulty.toml"
    job.write_text(text)
    site = [*where, "--site", "site-a"]
    rule = ["--method", "CreateSnapshot*", "--object", "faulty", "--fault", "FileLocked"]
    added = invoke("lab", "fault", "add", *site, *rule, "--json")
    assert added.exit_code == 0, added.output
    failed = invoke("run", "-q", "-c", str(job))
    assert failed.exit_code != 0
    listed = json.loads(invoke("lab", "fault", "list", *site, "--json").stdout)
    (known,) = [r for r in listed["rules"] if r["id"] == json.loads(added.stdout)["rule"]]
    assert known["struck"] == 1
    assert "FileLocked" in invoke("lab", "fault", "list", *site).stdout
    assert invoke("run", "-q", "-c", str(job)).exit_code == 0
    assert invoke("lab", "fault", "clear", *site, "--json").exit_code == 0
    assert "no rules" in invoke("lab", "fault", "list", *site).stdout


def test_the_choices_are_those_of_the_lab() -> None:
    assert set(lab_fault.ACTIONS) == set(get_args(Action))
    assert set(lab_fault.KINDS) == set(get_args(FaultKind))
    assert set(lab_fault.OPERATIONS) == set(get_args(Operation))


def test_a_rule_of_nfc_is_set_on_one_host(lab: Lab, where: list[str]) -> None:
    site = [*where, "--site", "site-b"]
    rule = ["--kind", "corrupt", "--operation", "read", "--always", "--host", "esx1.site-b.lab"]
    done = invoke("lab", "fault", "nfc", *site, *rule, "--json")
    assert done.exit_code == 0, done.output
    (known,) = json.loads(invoke("lab", "fault", "list", *site, "--json").stdout)["nfc"]
    assert (known["kind"], known["operation"], known["count"]) == ("corrupt", "read", None)
    assert invoke("lab", "fault", "nfc", *site, "--kind", "slow", "--host", "esx9").exit_code != 0
    invoke("lab", "fault", "clear", *site)


def test_a_scenario_file_is_loaded(lab: Lab, where: list[str], tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(
        'seed = 3\n[[fault]]\nsite = "site-b"\nmethod = "Nothing*"\n'
        '[[nfc]]\nsite = "site-b"\nkind = "slow"\noperation = "read"\ndelay_s = 0.1\n'
    )
    assert invoke("lab", "fault", "load", *where, str(file), "--json").exit_code == 0
    site = [*where, "--site", "site-b"]
    listed = invoke("lab", "fault", "list", *site).stdout
    assert "Nothing*" in listed
    assert "nfc read" in listed
    (nfc,) = json.loads(invoke("lab", "fault", "list", *site, "--json").stdout)["nfc"]
    assert (nfc["kind"], nfc["operation"], nfc["struck"]) == ("slow", "read", 0)
    invoke("lab", "fault", "clear", *site)
    assert "no rules" in invoke("lab", "fault", "list", *site).stdout


def test_a_host_that_a_rule_took_offline_is_brought_back(
    lab: Lab, control: LabControl, where: list[str]
) -> None:
    control.create_vm("site-a", "cut-off", disks=[(MIB, True, None)])
    job = lab.directory / "cut-off.toml"
    job.write_text((lab.directory / "jobs.toml").read_text().replace("web01", "cut-off"))
    site = [*where, "--site", "site-a"]
    rule = ["--method", "CreateSnapshot*", "--object", "cut-off", "--action", "host"]
    assert invoke("lab", "fault", "add", *site, *rule).exit_code == 0
    assert invoke("run", "-q", "-c", str(job)).exit_code == 5
    assert invoke("lab", "fault", "clear", *site).exit_code == 0
    assert invoke("run", "-q", "-c", str(job)).exit_code == 3
    unknown = invoke("lab", "reconnect", *site, "--host", "esx9")
    assert unknown.exit_code not in (0, 70)
    assert "esx1.site-a.lab" in unknown.output
    mended = invoke("lab", "reconnect", *site, "--host", "esx1.site-a.lab", "--json")
    assert mended.exit_code == 0
    assert invoke("run", "-q", "-c", str(job)).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "--site", "site-a", "--fault", "NoSuchFault"], "NoSuchFault"),
        (["add", "--site", "nowhere"], "nowhere"),
        (["add", "--site", "site-a", "--action", "explode"], "explode"),
        (["clear", "--site", "site-a", "--rule", "999"], "999"),
        (["load", "/nonexistent"], "/nonexistent"),
    ],
)
def test_what_does_not_exist_is_a_clear_error(
    where: list[str], arguments: list[str], said: str
) -> None:
    result = invoke("lab", "fault", arguments[0], *where, *arguments[1:])
    assert result.exit_code not in (0, 70)
    assert said in result.output


def test_a_scenario_that_is_none_is_a_clear_error(where: list[str], tmp_path: Path) -> None:
    texts = ("[[fault]]\nmethod = 'x'\n", "no toml", "fault = 3\n")
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        result = invoke("lab", "fault", "load", *where, str(file))
        assert result.exit_code == 2, result.output
        assert str(file) in result.output
