"""What a newer version has left in a job's folder, or signed, is named as such."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.job_file import STATE, job_table, site_table
from vreplica.config import load
from vreplica.sync.job import Job
from vreplica.sync.job_dir import run_record_path
from vreplica.sync.replica.test_vm import OwnerMark
from vreplica.sync.run_record import FORMAT, RunRecord, newer_record


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("PASSWORD", "x")
    file = tmp_path / "jobs.toml"
    file.write_text(STATE + site_table() + job_table("web01"))
    return load(file)["web01"]


def test_a_record_of_a_run_of_a_newer_version_is_named(job: Job) -> None:
    path = run_record_path(job)
    assert newer_record(job) is None, "there is none"
    path.parent.mkdir(parents=True)
    RunRecord("r1", "snapshot-1", "", "crash", "crash", (), (), ()).save(job)
    assert newer_record(job) is None, "ours"
    assert RunRecord.load(job) is not None
    path.write_text(json.dumps({"format": FORMAT + 1, "of": "the next format"}))
    assert RunRecord.load(job) is None
    text = newer_record(job)
    assert text is not None
    assert f"{path} was written by a newer version of vreplica (format 2)" in text
    path.write_text("damaged")
    assert newer_record(job) is None


def test_a_test_vm_of_a_newer_version_holds_its_point() -> None:
    mark = OwnerMark(
        "web01", "test-1", "p1", "dr-mover, process 7", "2026-01-01T00:00:00", keep=True
    )
    more = json.loads(mark.dump()) | {"of": "the next format"}
    del more["sum"]
    assert OwnerMark.load(json.dumps(more)) == mark
    assert OwnerMark.load("[]") is None
    assert OwnerMark.load('{"job": "web01"}') is None
