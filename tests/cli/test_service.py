"""status, history, schedule, catalog rebuild and serve as people call them, on a SQLite catalog."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import vreplica
from tests.support.job_file import STATE, job_table, site_table
from vreplica.cli.app import app
from vreplica.config import load
from vreplica.failover.machine.journal import Journal
from vreplica.scheduling.planner import RunStart
from vreplica.scheduling.schedule import DueRun
from vreplica.service.catalog import jobs, movers, observed, runs
from vreplica.service.catalog.database import Catalog
from vreplica.sync.job import Job
from vreplica.vsphere.errors import HostUnreachable

SCHEDULE = 'schedule = { every = "4h" }\n'
CONFIG = STATE + site_table() + f"[defaults]\n{SCHEDULE}" + job_table("web01") + job_table("db01")
Invoke = Callable[..., Result]


@pytest.fixture
def job_file(job_file: Path) -> Path:
    """Both jobs with a schedule."""
    job_file.write_text(CONFIG)
    return job_file


@pytest.fixture
def invoke(job_file: Path) -> Invoke:
    return lambda *args: CliRunner().invoke(app, [*args, "--config", str(job_file)])


def statuses(invoke: Invoke) -> dict[str, dict[str, Any]]:
    """What `status` says of each job."""
    documents = map(json.loads, invoke("status", "--json").stdout.splitlines())
    return {one["job"]: one for one in documents if one["result"] == "status"}


def ran(job_file: Path, job: str, times: int) -> None:
    catalog = Catalog.open(load(job_file).catalog_url())
    for n in range(times):
        with catalog.transaction() as c:
            now = catalog.now(c)
            jobs.register(c, [job], now)
            start = RunStart(job, DueRun(now, now), ())
            runs.queue(c, [(f"{job}-{n}", start, "m1")], now)
            ticket = runs.begin(c, f"{job}-{n}", "m1", now)
            assert ticket is not None
            end = now + timedelta(seconds=2)
            assert runs.finish(c, ticket, end, state="done", point_time=now, seconds=2.0)
    catalog.close()


def test_history_of_a_job_is_not_hidden_by_what_other_jobs_did(
    invoke: Invoke, job_file: Path
) -> None:
    ran(job_file, "web01", 1)
    ran(job_file, "db01", 3)
    found = invoke("history", "web01", "--limit", "2")
    assert "web01" in found.stdout
    assert "db01" not in found.stdout


def test_history_for_programs_is_a_document_a_run(invoke: Invoke, job_file: Path) -> None:
    ran(job_file, "web01", 2)
    found = invoke("history", "--json")
    assert found.exit_code == 0, found.output
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [row["id"] for row in rows] == ["web01-1", "web01-0"]
    assert rows[0]["started"] < rows[0]["ended"]


def test_jobs_lists_all_with_sites_schedules_and_groups(invoke: Invoke, job_file: Path) -> None:
    group = "[groups.shop.members]\nweb01 = {}\n"
    job_file.write_text(CONFIG.replace(SCHEDULE, 'schedule = { rpo = "15m" }\n') + group)
    lines = invoke("jobs", "--json").stdout.splitlines()
    web, db = map(json.loads, lines)
    assert (web["job"], web["source_vm"], web["replica_vm"]) == ("web01", "web01", "web01-replica")
    assert (web["schedule"], web["target_s"]) == ("to keep the 15 min target", 900)
    assert (web["groups"], db["groups"]) == (["shop"], [])
    assert "web01 at main" in invoke("jobs").stdout


def test_failovers_lists_those_of_this_machine_and_of_the_catalog(
    invoke: Invoke, job_file: Path
) -> None:
    assert "no failover of these jobs" in invoke("failovers").stderr
    config = load(job_file)
    here, there = "fo-20261130T100000Z-1", "fo-20261130T110000Z-2"
    Journal.begin(config.state_dir / "web01/failovers" / here, {"choices": {}}).close()
    catalog = Catalog.open(config.catalog_url())
    with catalog.transaction() as c:
        now = catalog.now(c)
        for id_, state in ((here, "running"), (there, "committed")):
            observed.set_failover(c, id_, "web01", state=state, facts={"point": "p1"}, now=now)
    catalog.close()
    found = [json.loads(line) for line in invoke("failovers", "--json").stdout.splitlines()]
    known = {one["failover"]: (one["state"], one["here"], one["point"]) for one in found}
    assert known == {here: ("ready", True, None), there: ("committed", False, "p1")}
    assert invoke("failovers", "db01").stdout == ""
    assert there in invoke("failovers", "web01").stdout


def test_audit_shows_the_trail_and_history_what_was_done_by_hand(
    invoke: Invoke, job_file: Path
) -> None:
    assert "no entry" in invoke("audit").stderr
    done = invoke("run", "web01")  # there is no vc.example
    assert done.exit_code == 5, done.output
    (row,) = map(json.loads, invoke("history", "--json").stdout.splitlines())
    assert (row["job"], row["kind"], row["state"]) == ("web01", "run", "failed")
    assert "vc.example" in row["error"]
    assert row["who"].endswith(f"@{socket.gethostname()}")
    Catalog.open(load(job_file).catalog_url()).close()
    invoke("run", "db01")
    assert invoke("schedule", "pause", "web01").exit_code == 0
    found = [json.loads(line) for line in invoke("audit", "--json").stdout.splitlines()]
    assert [(one["what"], one["job"]) for one in found] == [
        ("job paused", "web01"),
        ("run failed by hand", "db01"),
    ]
    assert "job paused" in invoke("audit", "web01").stdout
    assert "db01" not in invoke("audit", "web01").stdout
    assert len(invoke("history", "--json").stdout.splitlines()) == 2


def test_who_has_a_number_and_no_name_may_pause_a_schedule(
    invoke: Invoke, job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert invoke("schedule", "pause", "web01", "--json").exit_code == 0
    catalog = Catalog.open(load(job_file).catalog_url())
    assert catalog.audit_trail("web01")[0]["who"] == f"user {os.getuid()}"
    catalog.close()


@pytest.mark.parametrize(("word", "then"), [("pause", "paused"), ("resume", "idle")])
def test_a_job_without_a_schedule_is_not_said_to_be_paused(
    invoke: Invoke, job_file: Path, word: str, then: str
) -> None:
    schedule = SCHEDULE
    text = CONFIG.replace(f"[defaults]\n{schedule}", "")
    job_file.write_text(text.replace("[jobs.db01]", f"{schedule}[jobs.db01]"))
    result = invoke("schedule", word, "db01", "web01")
    assert result.exit_code == 3
    assert "job db01 has no schedule" in result.stderr
    assert "vreplica-sync pause db01" in result.stderr
    assert result.stdout.startswith("web01: "), "each job is worked on"
    found = statuses(invoke)
    assert {job: (one["state"], one["scheduled"]) for job, one in found.items()} == {
        "web01": (then, True),
        "db01": ("idle", False),
    }
    assert found["db01"]["why"] == "no schedule (run by hand)"


def test_a_job_whose_site_is_away_does_not_keep_the_others_from_being_rebuilt(
    invoke: Invoke, job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(job: Job, sessions: object) -> tuple[Any, ...]:
        if job.name == "web01":
            raise HostUnreachable("vc.example", 443, "refused")
        return ()

    monkeypatch.setattr(vreplica, "recovery_points", read)
    found = invoke("catalog", "rebuild")
    assert found.exit_code == HostUnreachable.exit_code
    assert found.stdout == "db01: 0 recovery points\n"
    *_, last = map(json.loads, invoke("catalog", "rebuild", "--json").stdout.splitlines())
    assert (last["result"], last["job"], last["points"]) == ("catalog-rebuilt", "db01", 0)
    assert "web01" in found.stderr


@pytest.mark.parametrize("name", ["", "dr/1", "../m", "x" * 81])
def test_a_movers_name_that_can_be_no_file_is_refused(invoke: Invoke, name: str) -> None:
    found = invoke("serve", "--mover", name)
    assert found.exit_code == 2
    assert "--mover" in found.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_service_in_order(job_file: Path, number: signal.Signals) -> None:
    job_file.write_text('state_dir = "state"\n')
    program = "from vreplica.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "-c", str(job_file), "--mover", "m1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "works on 0 scheduled jobs" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(number)
        _, rest = process.communicate()
    assert process.returncode == 0, rest
    catalog = Catalog.open(load(job_file).catalog_url())
    with catalog.transaction() as c:
        assert movers.registered(c) == []
    catalog.close()
