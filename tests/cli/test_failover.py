"""The failover commands as a user types them: a question, an answer, and the way back."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim

from tests.support.commands import invoke, unconfirmed
from vreplica.lab import Lab, LabControl
from vreplica.units import MIB


@pytest.fixture
def jobs(lab: Lab, control: LabControl) -> tuple[str, str]:
    """A job file and the name of its only job, whose VM runs and has one recovery point."""
    name = f"web-{uuid.uuid4().hex[:8]}"
    control.create_vm(
        "site-a",
        name,
        disks=[(4 * MIB, True, None)],
        guest_id="windows2019srv_64Guest",
        power_on=True,
    )
    control.guest_write("site-a", name, 2000, 0, b"x" * 4096)
    text = (lab.directory / "jobs.toml").read_text()
    file = lab.directory / f"{name}.toml"
    file.write_text(text.replace("web01", name))
    assert invoke("run", "-q", "-c", str(file)).exit_code == 0
    return str(file), name


def test_yes_then_undo(jobs: tuple[str, str]) -> None:
    file, job = jobs
    began = invoke("failover", job, "--final-sync", "yes", "--json", "-c", file)
    assert began.exit_code == 0, began.output
    value = json.loads(began.stdout)
    assert (value["state"], value["facts"]["level"]) == ("running", "clean-shutdown")
    refused = invoke("run", "-c", file)
    assert refused.exit_code == 3
    assert value["failover"] in refused.output
    again = invoke("failover", job, "--final-sync", "yes", "-c", file)
    assert again.exit_code == 9
    shown = json.loads(invoke("failover", "show", job, "--json", "-c", file).stdout)
    steps = [entry["step"] for entry in shown["entries"] if entry["kind"] == "call"]
    assert "ShutdownGuest source" in steps
    assert "PowerOff source" not in steps
    undone = invoke("undo", job, "--json", "-c", file)
    assert json.loads(undone.stdout)["state"] == "undone"
    assert invoke("commit", job, "-c", file).exit_code == 9
    assert invoke("run", "-q", "-c", file).exit_code == 0
    listed = json.loads(invoke("failover", "list", job, "--json", "-c", file).stdout)
    assert [f["state"] for f in listed["failovers"]] == ["undone"]
    # The next one can be foreseen, from this one and the points that there are.
    again = ("failover", job, "--dry-run", "--max-downtime", "1m", "-c", file)
    guess = json.loads(invoke(*again, "--json").stdout)["estimate"]
    assert guess["measured_in"] == [value["failover"]]
    assert 0 < guess["final_sync_s"] < guess["downtime_s"]
    said = invoke(*again).stdout
    assert "once the source is off" in said
    assert "under 1 min" in said


def test_the_record_is_compared_with_vcenters_own(
    jobs: tuple[str, str], si: Any, tmp_path: Path
) -> None:
    file, job = jobs
    assert invoke("failover", job, "--final-sync", "yes", "-q", "-c", file).exit_code == 0
    same = invoke("failover", "show", job, "--check", "--json", "-c", file)
    check = json.loads(same.stdout)["check"]
    assert (same.exit_code, check["findings"]) == (0, []), check
    assert check["agreed"] >= 8, "two syncs at both sites, the shutdown, the power-on"
    # Somebody else does something to the source meanwhile.
    view = si.content.viewManager.CreateContainerView(
        si.content.rootFolder, [vim.VirtualMachine], True
    )
    (source,) = [v for v in view.view if v.name == job]
    WaitForTask(source.ReconfigVM_Task(vim.vm.ConfigSpec(annotation="changed")))
    page = tmp_path / "failover.html"
    other = invoke("failover", "show", job, "--check", "--page", str(page), "-c", file)
    assert other.exit_code == 8
    assert "unknown, source" in other.stdout
    assert "reconfig" in other.stdout
    assert "differs" in page.read_text()


def test_commit_once_it_answers(jobs: tuple[str, str]) -> None:
    file, job = jobs
    done = invoke("failover", job, "--final-sync", "no", "--commit", "--json", "-c", file)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["state"] == "committed", done.output
    assert invoke("undo", job, "-c", file).exit_code == 9


def test_back_again_and_forward_again(jobs: tuple[str, str]) -> None:
    file, job = jobs
    early = invoke("failback", job, "--final-sync", "yes", "-c", file)
    assert early.exit_code == 9
    assert "has no committed failover to go back from" in early.output
    invoke("failover", job, "--final-sync", "yes", "--commit", "-q", "-c", file)
    refused = invoke("run", "-c", file)
    assert (refused.exit_code, "failback" in refused.output) == (3, True)
    planned = invoke("plan", "-c", file)
    assert (planned.exit_code, "failback" in planned.output) == (3, True)
    again = invoke("failover", job, "--dry-run", "-c", file)
    assert (again.exit_code, "failback" in again.output) == (9, True)
    looked = json.loads(invoke("failback", job, "--dry-run", "--json", "-c", file).stdout)
    assert (looked["source"], looked["replica"]) == ("poweredOn", "poweredOff")
    back = invoke("failback", job, "--final-sync", "yes", "--commit", "--json", "-c", file)
    value = json.loads(back.stdout)
    assert (value["state"], value["facts"]["level"]) == ("committed", "clean-shutdown")
    report = json.loads(invoke("run", "--json", "-c", file).stdout)
    assert report["disks"][0]["mode"] == "delta"
    listed = json.loads(invoke("failover", "list", job, "--json", "-c", file).stdout)
    assert [f["failover"][:3] for f in listed["failovers"]] == ["fo-", "fb-"]


def test_a_guest_that_hangs_leaves_the_job_off_until_somebody_decides(
    jobs: tuple[str, str], control: LabControl
) -> None:
    file, job = jobs
    control.set_guest("site-a", job, shutdown="hangs")
    done = invoke("failover", job, "--final-sync", "yes", "--shutdown-timeout", "1s", "-c", file)
    assert done.exit_code == 9
    assert "did not shut down" in done.output
    assert "may go off yet" in done.output
    assert invoke("run", "-q", "-c", file).exit_code == 3, "the job stays off"
    # Its guest goes off after all: the undo starts it again.
    control.power("site-a", job, on=False)
    assert invoke("undo", job, "-q", "-c", file).exit_code == 0
    assert control.describe_vm("site-a", job)["power"] == "poweredOn"
    assert invoke("run", "-q", "-c", file).exit_code == 0


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--final-sync", "cancel"]])
def test_looking_changes_nothing(jobs: tuple[str, str], arguments: list[str]) -> None:
    file, job = jobs
    looked = invoke("failover", job, *arguments, "-c", file)
    assert looked.exit_code == 0
    assert "final sync not known before a pass was made" in looked.stdout
    assert "point A while it runs (application)" in looked.stdout
    assert "no failover yet" in invoke("failover", "list", job, "-c", file).stdout
    assert invoke("failover", "show", job, "-c", file).exit_code == 9


@pytest.mark.parametrize(
    ("guest", "level", "tools", "said"),
    [
        ({}, "application", True, "Tools running"),
        ({"tools": "notRunning"}, "crash", False, "Tools not running"),
    ],
)
def test_what_can_be_reached_and_what_would_be_lost_is_known_before_the_decision(
    jobs: tuple[str, str],
    control: LabControl,
    guest: dict[str, str],
    level: str,
    tools: bool,
    said: str,
) -> None:
    file, job = jobs
    control.set_guest("site-a", job, **guest)
    known = json.loads(invoke("failover", job, "--dry-run", "--json", "-c", file).stdout)
    assert (known["source"], known["tools_running"]) == ("poweredOn", tools)
    reached = {"insurance": level, "level": "clean-shutdown" if tools else None}
    assert known["yes"] == {**reached, "problems": []}
    asks = "ask the guest to shut down"
    assert any(asks in step for step in known["steps"]["yes"]) == tools
    (point,) = known["points"]
    assert (known["no"]["point"], known["no"]["level"]) == (point["id"], "application")
    assert (known["no"]["time"], known["no"]["newer"]) == (point["time"], [])
    shown = invoke("failover", job, "--dry-run", "-c", file).stdout
    assert said in shown
    assert f"point A while it runs ({level})" in shown
    assert ("cannot be asked to shut down" in shown) != tools
    # What is lost without a final sync: all since that time.
    assert f"boots {point['id']} (application, {point['time'][:10]}" in shown


def test_without_a_terminal_it_never_asks(jobs: tuple[str, str]) -> None:
    file, job = jobs
    asked = invoke("failover", job, "-c", file)
    assert asked.exit_code == 2
    assert "--final-sync" in asked.output


def test_options_that_do_not_go_together_are_refused(jobs: tuple[str, str]) -> None:
    file, job = jobs
    both = invoke("failover", job, "--final-sync", "yes", "--point", "p", "-c", file)
    assert (both.exit_code, "--final-sync no" in both.output) == (2, True)
    assert "no failover yet" in invoke("failover", "list", job, "-c", file).stdout


def test_a_point_that_is_not_there_is_refused_with_nothing_changed(jobs: tuple[str, str]) -> None:
    file, job = jobs
    for more in (("failover", "--dry-run"), ("failover", "--final-sync", "no"), ("test-failover",)):
        command, *options = more
        refused = invoke(command, job, *options, "--point", "nope", "-c", file)
        assert (refused.exit_code, "nothing was changed" in refused.output) == (3, True), more
        assert "resume" not in refused.output
    assert "no failover yet" in invoke("failover", "list", job, "-c", file).stdout


def test_the_preview_shows_the_point_that_was_named(jobs: tuple[str, str]) -> None:
    file, job = jobs
    assert invoke("run", "-q", "-c", file).exit_code == 0
    first, last = json.loads(invoke("points", "--json", "-c", file).stdout)["points"]
    for point in (first, last):
        known = invoke("failover", job, "--dry-run", "--json", "--point", point["id"], "-c", file)
        assert json.loads(known.stdout)["no"]["point"] == point["id"]


def test_the_newest_boots_and_the_clean_shutdown_of_before_is_the_other_choice(
    jobs: tuple[str, str],
) -> None:
    """After an undo the clean shutdown is the highest level, and what the source wrote since is
    in lower ones."""
    file, job = jobs
    for command in (("failover", "--final-sync", "yes"), ("undo",), ("run",), ("run",)):
        done = invoke(*command[:1], job, *command[1:], "-q", "-c", file)
        assert done.exit_code == 0, done.output
    *_, final, _, newest = json.loads(invoke("points", "--json", "-c", file).stdout)["points"]
    known = json.loads(invoke("failover", job, "--dry-run", "--json", "-c", file).stdout)["no"]
    assert (known["point"], known["level"]) == (newest["id"], "application")
    assert [(p["point"], p["level"]) for p in known["others"]] == [(final["id"], "clean-shutdown")]
    assert known["newer"] == []
    assert known["others"][0]["age_s"] > known["age_s"] > 0
    shown = " ".join(invoke("failover", job, "--dry-run", "-c", file).stdout.split())
    assert f"or {final['id']} (clean-shutdown" in shown
    assert f"more: --final-sync no --point {final['id']}" in shown
    prefer = ("--prefer", "level=clean-shutdown", "--json", "-c", file)
    looked = json.loads(invoke("failover", job, "--dry-run", *prefer).stdout)["no"]
    assert [looked["point"], [p["point"] for p in looked["newer"]]] == [final["id"], [newest["id"]]]
    old = ("--prefer", "level=clean-shutdown,max-age=0s", "-c", file)
    refused = invoke("failover", job, "--final-sync", "no", *old)
    assert (refused.exit_code, "none boots" in refused.output) == (3, True)
    assert f"is {newest['id']}" in refused.output
    chosen = ("--as-of", final["time"], "--final-sync", "no", "--json", "-c", file)
    told = invoke("failover", job, *chosen)
    assert f"warning: {job}: boots {final['id']} (clean-shutdown" in told.stderr
    assert f"not the newer {newest['id']} (application" in told.stderr
    facts = json.loads(told.stdout)["facts"]
    assert facts["point"] == final["id"]
    assert [p["point"] for p in facts["others"]] == [newest["id"]]


def test_commit_that_was_asked_for_and_did_not_come_ends_with_nine(
    jobs: tuple[str, str], control: LabControl
) -> None:
    file, job = jobs
    control.set_guest("site-b", f"{job}-replica", tools="notInstalled")
    yes = ("--final-sync", "yes", "--heartbeat-timeout", "1s", "--commit", "--json")
    done = invoke("failover", job, *yes, "-c", file)
    value = json.loads(done.stdout)
    assert (done.exit_code, value["state"], value["facts"]["answered"]) == (9, "running", False)


def test_a_wrong_duration_is_a_usage_error(jobs: tuple[str, str]) -> None:
    file, job = jobs
    asked = invoke("failover", job, "--shutdown-timeout", "soon", "-c", file)
    assert asked.exit_code == 2
    assert "10m" in asked.output


def at_a_terminal(
    file: str, answer: str, *command: str, results: int | None = None
) -> tuple[int, str]:
    """The command at a terminal of its own, typing `answer` at its question. `results`: where its
    standard output goes instead."""
    program = str(Path(sys.executable).with_name("vreplica-sync"))
    main, other = pty.openpty()
    process = subprocess.Popen(
        [program, *command, "-c", file], stdin=other, stdout=results or other, stderr=other
    )
    os.close(other)
    seen, answered, end = b"", False, time.monotonic() + 60
    while time.monotonic() < end:
        ready, _, _ = select.select([main], [], [], 0.5)
        if ready:
            try:
                data = os.read(main, 65536)
            except OSError:
                break
            seen += data
        if not answered and b"How shall" in seen:
            os.write(main, answer.encode())
            answered = True
    os.close(main)
    return process.wait(20), seen.decode()


def test_who_does_not_see_what_is_known_is_not_asked(jobs: tuple[str, str], tmp_path: Path) -> None:
    file, job = jobs
    with (tmp_path / "results").open("wb") as results:
        code, seen = at_a_terminal(file, "yes\n", "failover", job, results=results.fileno())
    assert (code, "--final-sync" in seen, "How shall" in seen) == (2, True, False)
    assert "no failover yet" in invoke("failover", "list", job, "-c", file).stdout


@pytest.mark.parametrize(("answer", "state"), [("cancel", "no failover yet"), ("Yes", "running")])
def test_at_a_terminal_it_shows_the_plan_and_asks(
    jobs: tuple[str, str], answer: str, state: str
) -> None:
    file, job = jobs
    code, seen = at_a_terminal(file, f"{answer}\n", "failover", job)
    assert code == 0, seen
    assert seen.index("point A while it runs") < seen.index("How shall")
    assert state in invoke("failover", "list", job, "-c", file).stdout
    if answer == "Yes":
        assert invoke("commit", job, "-q", "-c", file).exit_code == 0
        code, seen = at_a_terminal(file, "cancel\n", "failback", job)
        assert (code, "nothing was changed" in seen) == (0, True)
        assert f"failback to {job}" in seen
        assert "~back" not in seen
        assert seen.index("point A while it runs") < seen.index("How shall")
        assert "fb-" not in invoke("failover", "list", job, "-c", file).stdout
        # A program is told what it wants to know, and asked nothing.
        code, seen = at_a_terminal(file, "yes\n", "failback", job, "--json")
        assert (code, "--final-sync" in seen) == (2, True)


def test_the_end_of_the_input_at_the_question_cancels(jobs: tuple[str, str]) -> None:
    file, job = jobs
    code, seen = at_a_terminal(file, "\x04", "failover", job)
    assert (code, "nothing was changed" in seen) == (130, True), seen
    assert "should not have happened" not in seen
    assert "no failover yet" in invoke("failover", "list", job, "-c", file).stdout


def test_there_is_no_preview_of_a_second_failover(jobs: tuple[str, str]) -> None:
    file, job = jobs
    assert invoke("failover", job, "--final-sync", "yes", "-q", "-c", file).exit_code == 0
    again = invoke("failover", job, "--dry-run", "-c", file)
    assert (again.exit_code, f"vreplica-sync commit {job}" in again.output) == (9, True)
    assert "next" in invoke("failover", "show", job, "-c", file).stdout


def test_what_stops_a_vm_is_confirmed_by_its_name(
    jobs: tuple[str, str], control: LabControl
) -> None:
    """Power is read from the lab, past the product."""
    file, job = jobs

    def power() -> tuple[str, str]:
        here, there = control.describe_vm("site-a", job), control.describe_vm("site-b", replica)
        return here["power"], there["power"]

    replica, source_on = f"{job}-replica", ("poweredOn", "poweredOff")
    for ask in (("--final-sync", "no"), ("--source-lost", "--final-sync", "no")):
        for more in ((), ("--confirm", "other")):
            refused = unconfirmed("failover", job, *ask, *more, "-c", file)
            assert (refused.exit_code, power()) == (2, source_on)
            assert job in refused.output
    assert "no failover yet" in invoke("failover", "list", job, "-c", file).stdout
    # A healthy source is powered off by an emergency only at its name.
    began = unconfirmed("failover", job, "--final-sync", "no", "--confirm", job, "-q", "-c", file)
    assert (began.exit_code, power()) == (0, ("poweredOff", "poweredOn"))
    control.guest_write("site-b", replica, 2000, 0, b"in service there" * 65536)
    for verb in ("commit", "undo"):
        refused = unconfirmed(verb, job, "-c", file)
        assert (refused.exit_code, power()) == (2, ("poweredOff", "poweredOn"))
        assert f"--confirm {job}" in refused.output
    # How much was written since is told before the decision.
    assert f"stops {replica} at site-b, since " in " ".join(refused.stdout.split())
    assert " MiB (size of its newest disk files)" in refused.stdout
    known = json.loads(unconfirmed("undo", job, "--dry-run", "--json", "-c", file).stdout)
    assert 1 << 20 <= known["written_bytes"] < 2 << 20
    assert (known["vm"], known["back_to_vm"], known["site"]) == (replica, job, "site-b")
    assert known["keeps"].startswith("un-")
    told = unconfirmed("undo", job, "--json", "-c", file)
    assert (told.exit_code, "MiB" in told.stderr) == (2, True)
    # Somebody starts the source, too: whoever looks is told.
    control.power("site-a", job, on=True)
    seen = invoke("failover", "show", job, "--json", "-c", file)
    assert (seen.exit_code, json.loads(seen.stdout)["live"]["both_on"]) == (7, True)
    assert f"BOTH VMs are on: {job} at site-a and {replica} at site-b" in seen.stderr
    control.power("site-a", job, on=False)
    assert invoke("failover", "show", job, "-c", file).exit_code == 0
    assert unconfirmed("undo", job, "--confirm", job, "-q", "-c", file).exit_code == 0
    assert power() == source_on


@pytest.mark.parametrize(("typed", "began"), [("2\n{job}\n", True), ("n\nother\n", False)])
def test_at_a_terminal_the_name_is_typed(jobs: tuple[str, str], typed: str, began: bool) -> None:
    file, job = jobs
    code, seen = at_a_terminal(file, typed.format(job=job), "failover", job)
    assert code == 0, seen
    assert "1 planned, 2 emergency" in seen
    assert "OFF, hard" in seen
    listed = invoke("failover", "list", job, "-c", file).stdout
    assert ("running" in listed) == began


def test_where_the_source_cannot_be_read_the_way_out_is_named(
    jobs: tuple[str, str], control: LabControl, lab: Lab
) -> None:
    file, job = jobs
    text = Path(file).read_text()
    away = Path(file).with_name(f"{job}-away.toml")
    port = lab.specs[0].port
    away.write_text(text.replace(f"port = {port}", "port = 9").replace(f":{port}", ":9"))
    assert away.read_text() != text
    shown = invoke("failover", job, "--dry-run", "-c", str(away)).stdout
    assert "--source-lost" in shown
    assert "site lost" in shown
    assert "confirm that it is off" not in shown, "a lost source is not asked"
    asked = unconfirmed("failover", job, "-c", str(away))
    assert (asked.exit_code, "--source-lost --final-sync no --confirm" in asked.stderr) == (2, True)
    asked = ("failover", job, "--final-sync", "yes", "-c", str(away))
    for answer in ("yes", "no"):
        failed = unconfirmed(*asked[:3], answer, *asked[4:], "--confirm", job)
        assert (failed.exit_code, "--source-lost" in failed.output) == (5, True)
    assert "no failover yet" in invoke("failover", "list", job, "-c", file).stdout
    assert invoke("run", "-q", "-c", file).exit_code == 0, "the job was never switched off"
    assert control.describe_vm("site-b", f"{job}-replica")["power"] == "poweredOff"
