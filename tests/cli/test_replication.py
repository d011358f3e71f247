"""The commands against a lab: what a user sees from the first plan to the second run, and when
something is wrong."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import vreplica
from tests.support.commands import invoke
from vreplica.lab import Lab, LabControl
from vreplica.units import BLOCK, MIB

README = Path(__file__).parents[2] / "README.md"

Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def web01(lab: Lab, control: LabControl, tmp_path_factory: pytest.TempPathFactory) -> LabControl:
    """The VM that the lab's job file speaks of."""
    raw = tmp_path_factory.mktemp("raw") / "disk"
    raw.write_bytes(os.urandom(3 * BLOCK) + bytes(5 * MIB - 3 * BLOCK))
    control.create_vm("site-a", "web01", disks=[(5 * MIB, True, raw)], power_on=True)
    return control


@pytest.fixture
def jobs(lab: Lab, web01: LabControl) -> str:
    return str(lab.directory / "jobs.toml")


def changed(lab: Lab, old: str, new: str) -> str:
    """A copy of the lab's job file beside it, with one thing changed."""
    text = (lab.directory / "jobs.toml").read_text()
    assert old in text
    file = lab.directory / "changed.toml"
    file.write_text(text.replace(old, new))
    return str(file)


# -- the way through ------------------------------------------------------------------------


def test_plan_run_points_verify_one_after_the_other(jobs: str, web01: LabControl) -> None:
    planned = invoke("plan", "-c", jobs)
    assert planned.exit_code == 0
    assert "web01-replica (to be created)" in planned.stdout
    assert invoke("points", "-c", jobs).stdout == "web01: no recovery point yet\n"

    first = invoke("run", "-c", jobs)
    assert first.exit_code == 0, first.output
    assert re.search(
        r"Hard disk 1 +full +5 MiB +192 KiB +192 KiB +0 B +192 KiB +100%", first.stdout
    )

    web01.guest_write("site-a", "web01", 2000, 4 * MIB, os.urandom(512))
    again = invoke("plan", "-c", jobs, "--json")
    assert [d["mode"] for d in json.loads(again.stdout)["disks"]] == ["delta"]
    second = invoke("run", "web01", "--verify", "--json", "-c", jobs)
    assert second.exit_code == 0, second.output
    report = json.loads(second.stdout)
    assert report["disks"][0]["written_bytes"] == BLOCK
    assert report["verified"]["equal"] is True

    listed = invoke("points", "-c", jobs, "--json")
    ids = [point["id"] for point in json.loads(listed.stdout)["points"]]
    assert len(ids) == 2
    assert ids[1] == report["point"]["id"]

    verified = invoke("verify", "-c", jobs)
    assert verified.exit_code == 0, verified.output
    assert verified.stdout.splitlines()[0].endswith("equal")
    older = json.loads(invoke("verify", "-c", jobs, "--point", ids[0], "--json").stdout)
    assert older["equal"] is True
    assert older["disks"][0]["changed_since_bytes"] == BLOCK


def test_the_readmes_library_examples_run(
    jobs: str, lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert [len(example.strip().splitlines()) < 10 for example in examples] == [True, True]
    monkeypatch.chdir(lab.directory)
    Path("vreplica.toml").write_text(Path(jobs).read_text())
    names: dict[str, object] = {}
    exec(compile(examples[0], str(README), "exec"), names)
    newest = vreplica.recovery_points(vreplica.load(jobs)["web01"])[-1]
    assert newest.id in capsys.readouterr().out
    exec(compile(examples[1], str(README), "exec"), names)
    assert "running" in capsys.readouterr().out
    again = vreplica.run(vreplica.load(jobs)["web01"])
    assert again.point.source_name == "web01"


# -- what goes wrong ------------------------------------------------------------------------


def test_an_unknown_point_names_the_newest(jobs: str) -> None:
    assert invoke("run", "-c", jobs).exit_code == 0
    result = invoke("verify", "-c", jobs, "--point", "yesterday")
    assert result.exit_code == 2
    assert "has no recovery point yesterday" in result.stderr
    assert "The newest: 2" in result.stderr


def test_a_wrong_password_is_refused_and_not_shown(lab: Lab, web01: LabControl) -> None:
    wrong = lab.directory / "wrong.password"
    wrong.touch(0o600)
    wrong.write_text("geheim\n")
    result = invoke("run", "--json", "-c", changed(lab, "site-b.password", "wrong.password"))
    assert result.exit_code == 5
    assert json.loads(result.stdout)["error"]["type"] == "LoginFailed"
    assert "what to do: " in result.stderr
    assert "geheim" not in result.output


def test_another_certificate_is_refused_with_both_thumbprints(lab: Lab, web01: LabControl) -> None:
    real = lab.dir.certificate("site-a").thumbprints.sha256
    result = invoke("run", "-c", changed(lab, real, ":".join(["AB"] * 32)))
    assert result.exit_code == 5
    assert real in result.stderr
    assert "AB:AB:AB" in result.stderr


def test_an_unknown_vm_is_answered_with_similar_names(lab: Lab, web01: LabControl) -> None:
    result = invoke("plan", "-c", changed(lab, 'vm = "web01"', 'vm = "web02"'))
    assert result.exit_code == 3
    assert "web02" in result.stderr
    assert "similar: web01" in result.stderr


def test_a_host_that_does_not_answer_is_said_to_be_worth_a_retry(
    lab: Lab, web01: LabControl
) -> None:
    port = lab.specs[0].port
    result = invoke("plan", "-c", changed(lab, f"port = {port}", "port = 1"))
    assert result.exit_code == 5
    assert "connection refused" in result.stderr
    assert "a retry may help" in result.stderr


# -- thumbprint, lab ------------------------------------------------------------------------


def test_thumbprint_prints_what_the_job_file_wants(lab: Lab) -> None:
    spec = lab.specs[0]
    server = f"{spec.host}:{spec.port}"
    sha256 = lab.dir.certificate(spec.name).thumbprints.sha256
    assert invoke("thumbprint", server).stdout == f"{sha256}\n"
    assert json.loads(invoke("thumbprint", server, "--json").stdout)["sha256"] == sha256
    assert invoke("thumbprint", f"{spec.host}:1").exit_code == 5


def test_lab_up_status_down(tmp_path: Path) -> None:
    folder = str(tmp_path / "lab")
    missing = invoke("lab", "status", "--dir", folder)
    assert missing.exit_code == 2
    assert f"vreplica-sync lab up --dir {folder}" in missing.stderr
    started = invoke("lab", "up", "--dir", folder, "--vm", "--json")
    try:
        assert started.exit_code == 0, started.output
        status = json.loads(invoke("lab", "status", "--dir", folder, "--json").stdout)
        assert list(status) == ["version", "result", "sites"]
        for site in status["sites"]:
            assert {"name", "url", "user", "password", "sha256", "datastores"} <= set(site)
            assert site["running"] is True
        shown = invoke("lab", "status", "--dir", folder)
        assert "running" in shown.stdout
        assert status["sites"][0]["url"] in shown.stdout
        assert invoke("lab", "up", "--dir", folder, "--vm").exit_code == 0  # changes nothing
        planned = invoke("plan", "-c", f"{folder}/jobs.toml", "--json")
        assert planned.exit_code == 0, planned.output
        assert len(json.loads(planned.stdout)["disks"]) == 2
    finally:
        stopped = invoke("lab", "down", "--dir", folder)
    assert (stopped.exit_code, stopped.stdout) == (0, "stopped\n")
    assert invoke("lab", "down", "--dir", folder).stdout == "it was not running\n"
    again = json.loads(invoke("lab", "down", "--dir", folder, "--json").stdout)
    assert (again["result"], again["stopped"]) == ("lab-stopped", False)
    after = json.loads(invoke("lab", "status", "--dir", folder, "--json").stdout)
    assert [site["running"] for site in after["sites"]] == [False, False]
