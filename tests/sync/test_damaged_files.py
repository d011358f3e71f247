"""A file of a job's folder that lost a bit: what is begun anew, and what says the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sample_reading import job_of
from vreplica.errors import VReplicaError
from vreplica.failover.machine.errors import EpochDamaged, JournalDamaged
from vreplica.failover.machine.journal import EPOCH_JUMP, Journal, load
from vreplica.sync.errors import JobBusy, JobDisabled, SwitchDamaged
from vreplica.sync.job import Job
from vreplica.sync.job_dir import (
    accepted_path,
    disabled_path,
    job_lock,
    lock_path,
    read_accepted,
    running_pid,
)
from vreplica.sync.job_switch import check_enabled, disable, disabled_by, enable, why_disabled


@pytest.fixture
def job(tmp_path: Path) -> Job:
    job = job_of("web01", tmp_path)
    job.job_dir.mkdir()
    return job


DAMAGE = [
    b"\xff",
    b"fo-1\xff\n",
    b"",
    b"\0" * 10,
    b"two words\n",
    b"fo-1 comitted\n",
    b"fo-20261130",
]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_switch_keeps_runs_off_and_says_the_way_out(job: Job, content: bytes) -> None:
    disabled_path(job).write_bytes(content)
    refusal = why_disabled(job)
    assert isinstance(refusal, SwitchDamaged)
    assert refusal.exit_code == 3
    assert f"rm {disabled_path(job)}" in refusal.advice()
    assert "failover show web01" in refusal.advice()
    assert disabled_by(job) == "unknown", "the job is off"
    with pytest.raises(SwitchDamaged):
        check_enabled(job, None)


def test_a_damaged_switch_stops_no_failover(job: Job) -> None:
    disabled_path(job).write_bytes(b"\xff")
    disable(job, "fo-1")
    assert disabled_by(job) == "fo-1"
    with pytest.raises(JobDisabled):
        disable(job, "fo-2")
    disabled_path(job).write_bytes(b"\xff")
    enable(job, "fo-1")
    assert why_disabled(job) is None


def test_a_switch_is_read_as_it_was_written_or_not_at_all(job: Job) -> None:
    disable(job, "fo-20261130T184323Z-833ee2", committed=True)
    whole = disabled_path(job).read_bytes()
    known = why_disabled(job)
    for at in range(len(whole)):
        for bit in range(8):
            broken = bytearray(whole)
            broken[at] ^= 1 << bit
            disabled_path(job).write_bytes(broken)
            found = why_disabled(job)
            assert isinstance(found, SwitchDamaged) or str(found) == str(known), (at, bit)


def test_accepted_points_are_guarded_again_where_nobody_can_tell(job: Job) -> None:
    accepted_path(job).write_bytes(b"p1\n\xff\n")
    assert read_accepted(job) == frozenset()


def test_a_lock_file_with_anything_in_it_locks(job: Job) -> None:
    def lock_twice() -> None:
        with job_lock(job):
            lock_path(job).write_bytes(b"\xff\xfe")
            assert running_pid(job) == 0
            with job_lock(job):
                raise AssertionError("two at a time")

    with pytest.raises(JobBusy, match="unknown"):
        lock_twice()


def test_a_damaged_journal_says_how_to_set_it_aside(job: Job) -> None:
    folder = job.job_dir / "failovers" / "fo-1"
    journal = Journal.begin(folder, {"who": "alice"})
    journal.write("note", data={"text": "x"})
    journal.close()
    path = folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"alice", b"alicf"))
    with pytest.raises(JournalDamaged) as damaged:
        load(folder)
    assert (damaged.value.line, damaged.value.exit_code) == (1, 9)
    assert f"mv {folder} {job.job_dir}/set-aside-fo-1" in damaged.value.advice()


def test_a_damaged_epoch_refuses_the_old_process_and_is_begun_anew(tmp_path: Path) -> None:
    old = Journal.begin(tmp_path / "fo-1", {})
    (tmp_path / "fo-1" / "epoch").write_bytes(b"\xff" * 20)
    with pytest.raises(EpochDamaged, match="epoch does not say") as damaged:
        old.check_epoch()
    assert "failover resume" in damaged.value.advice()
    new = Journal.take_over(tmp_path / "fo-1")
    assert new.epoch == 1 + EPOCH_JUMP
    with pytest.raises(VReplicaError, match="another process"):
        old.write("note", data={})
    new.close()
    old.close()
