"""A site that cannot be reached is tried once and named once, not once a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import invoke
from tests.support.job_file import STATE, job_table, site_table
from vreplica.sync import sites
from vreplica.vsphere.errors import HostUnreachable

COUNT = 30


@pytest.fixture
def tried(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A job file of many jobs whose site is down; the hosts that were tried."""
    jobs = "".join(job_table(f"vm{number}") for number in range(COUNT))
    job_file.write_text(STATE + site_table() + jobs)
    monkeypatch.setenv("VREPLICA_CONFIG", str(job_file))
    hosts: list[str] = []

    def connect(endpoint: Any, **_: Any) -> None:
        hosts.append(endpoint.host)
        raise HostUnreachable(endpoint.host, endpoint.port, "no answer within 30 s")

    monkeypatch.setattr(sites, "connect", connect)
    return hosts


@pytest.mark.parametrize("command", ["check", "plan", "points", "run", "verify"])
def test_it_is_said_once(tried: list[str], command: str) -> None:
    found = invoke(command)
    assert found.exit_code in (HostUnreachable.exit_code, 3)
    said = found.stdout + found.stderr
    assert tried == ["vc.example"]
    assert said.count("no answer within 30 s") <= 2  # `check` has a row for each side
    assert "a site of theirs failed above: vm1, vm2" in said.replace("\n", " ")
    assert f"and {COUNT - 21} more" in said.replace("\n", " ")


@pytest.mark.parametrize("command", ["check", "plan"])
def test_programs_get_a_document_for_every_job(tried: list[str], command: str) -> None:
    lines = invoke(command, "--json").stdout.splitlines()
    assert [json.loads(line)["job"] for line in lines] == [f"vm{n}" for n in range(COUNT)]
    assert tried == ["vc.example"]
