"""Whatever the umask is, nobody else can read what is kept: folders are 0700, files 0600."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.sample_reading import job_of
from vreplica.failover.machine.journal import Journal
from vreplica.failover.operations import _alone
from vreplica.files import naming, replace_durably
from vreplica.lab.site.state_db import StateDb
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.level import Level
from vreplica.service.catalog.database import Catalog
from vreplica.service.service import _lock_name
from vreplica.sync.job_dir import failovers_dir, job_lock, map_path
from vreplica.sync.job_switch import disable
from vreplica.sync.replica.orphan_files import remember_unused
from vreplica.sync.replica.test_vm import OwnerMark, hold_point
from vreplica.sync.run_record import RunRecord


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_all_that_is_kept_is_private(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "state"
    job = job_of("web01", root)
    catalog = Catalog.open(f"sqlite:///{root}/catalog.sqlite")
    with closing(_lock_name(root / "mover-m1.lock", "m1")), job_lock(job):
        disable(job, "fo-1")
        remember_unused(job, ["[ds] x/y.vmdk"])
        RunRecord("r1", "s", "", Level.CRASH.value, "crash", (), (), ()).save(job)
        with _alone(job, lambda job: None):
            Journal.begin(failovers_dir(job) / "fo-1", {}).close()
        made = DigestMap.create(map_path(job.job_dir, 2000), capacity_bytes=1 << 20, algorithm="x")
        made.begin_run("p1")
        made.close()
        mark = OwnerMark("web01", "test-1", "p1", "m1", "now", keep=True)
        with hold_point(job, mark):
            found = sorted((tmp_path / "deep").rglob("*"))
    catalog.close()
    assert len(found) > 12
    wrong = [
        f"{path} {mode:o}"
        for path in found
        if path.exists()
        and (mode := path.stat().st_mode & 0o777) != (0o700 if path.is_dir() else 0o600)
    ]
    assert not wrong
    assert (tmp_path / "deep").stat().st_mode & 0o777 == 0o700


def test_the_database_of_the_lab_is_private(tmp_path: Path) -> None:
    state = StateDb(tmp_path / "state.db")
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    state.close()
    assert set(modes.values()) == {0o600}, modes


def test_a_file_that_others_could_read_is_private_once_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "accepted"
    path.write_text("old\n")
    path.chmod(0o644)
    replace_durably(path, "new\n")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new\n", 0o600)


def test_no_space_left_names_the_file() -> None:
    def write_to_a_full_disk() -> None:
        fd = os.open("/dev/full", os.O_WRONLY)
        try:
            with naming(Path("/state/web01/run.new")):
                os.write(fd, b"x")
        finally:
            os.close(fd)

    with pytest.raises(OSError, match="No space") as caught:
        write_to_a_full_disk()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/state/web01/run.new")


def test_a_journal_on_a_full_disk_names_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.begin(tmp_path / "fo-1", {})

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        journal.write("note", data={})
    assert caught.value.filename == str(tmp_path / "fo-1" / "journal.jsonl")
    journal.close()
