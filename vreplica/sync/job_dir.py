"""Names every file in a job's folder, and holds the job's lock.

    STATE_DIR/JOB/                       one folder per job and direction ("JOB~back": a failback)
      lock                               held by the process that works on the job; its process id
      disabled                           id of the failover that disabled the job (job_switch.py)
      paused                             the running copy waits while this file exists (pause.py)
      accepted                           ids of flagged points that an operator accepted
                                         (recovery_points.py)
      unused                             disk files that lose their last user
                                         (replica/orphan_files.py)
      held                               VM whose Storage vMotion is disabled
                                         (source/vmotion_lock.py)
      vms.json                           both VMs by their instance UUIDs (known_vms.py)
      by-hand.jsonl                      runs and failovers of commands that no catalog has taken in
                                         yet (by_hand.py)
      run.json                           the run whose disks are being written (run_record.py)
      disk-KEY.digests                   digest map of the replica's disk (points/digestmap/)
      disk-KEY.digests.pending           digests of a run that is not committed yet
      failovers/ID/journal.jsonl, epoch  journal of a failover or failback (failover/machine/)
      failovers/lock                     held while a failover begins
      tests/ID/hold                      test VM that stands on a point (replica/test_vm.py)
      tests/ID/report.json, screen.png   what the test failover found (failover/testing/)
    STATE_DIR/.groups/GROUP/ID/          journal of a failover of a group (failover/group/)

`NAME.new` and `disk-KEY.moved` are files that are about to replace the one of that name. The
whole folder can be lost: that costs time, or space at the destination, and no recovery point.
The exception is the journal of a failover that has not ended.

A file that is damaged (it is read by `stored.py`):

      disabled                           keeps every run off; a failover writes it anew
      accepted, unused, held             begun anew: costs space, or a Storage vMotion waits
      run.json, digests, pending         begun anew: costs time
      epoch                              begun anew by the next takeover, far above the old ones
      journal.jsonl                      an error; `mv` of its folder sets the failover aside
      hold                               no point is removed until its file is
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vreplica.files import make_private_folder, open_private
from vreplica.stored import Damaged, read_lines
from vreplica.sync.errors import JobBusy, StateDirUnusable
from vreplica.sync.job import Job


def lock_path(job: Job) -> Path:
    return lock_below(job.job_dir)


def lock_below(job_dir: Path) -> Path:
    return job_dir / "lock"


def disabled_path(job: Job) -> Path:
    return job.job_dir / "disabled"


def paused_path(job: Job) -> Path:
    return job.job_dir / "paused"


def accepted_path(job: Job) -> Path:
    return job.job_dir / "accepted"


def unused_path(job: Job) -> Path:
    return job.job_dir / "unused"


def vmotion_lock_path(job: Job) -> Path:
    return job.job_dir / "held"


def known_vms_path(job: Job) -> Path:
    return job.job_dir / "vms.json"


def run_record_path(job: Job) -> Path:
    return job.job_dir / "run.json"


def by_hand_path(job_dir: Path) -> Path:
    return job_dir / "by-hand.jsonl"


def map_path(job_dir: Path, key: int) -> Path:
    """The digest map of the replica's disk with this key."""
    return job_dir / f"disk-{key}.digests"


def failovers_dir(job: Job) -> Path:
    return failovers_below(job.job_dir)


def failovers_below(job_dir: Path) -> Path:
    """The folder that holds a folder for each failover and failback of a job."""
    return job_dir / "failovers"


def tests_dir(job: Job) -> Path:
    return job.job_dir / "tests"


def test_hold_path(job: Job, test: str) -> Path:
    return tests_dir(job) / test / "hold"


def read_accepted(job: Job) -> frozenset[str]:
    """Ids of the flagged points that an operator has accepted.

    None where the file is damaged: then the points are flagged again, and can be accepted again.
    """
    with in_state_dir():
        try:
            return frozenset(read_lines(accepted_path(job)))
        except (FileNotFoundError, NotADirectoryError, Damaged):
            return frozenset()


@contextmanager
def in_state_dir() -> Iterator[None]:
    """Turns what the operating system refuses into StateDirUnusable."""
    try:
        yield
    except OSError as error:
        raise StateDirUnusable(f"{error.filename}: {error.strerror}") from None


def state_dir_problem(job: Job) -> StateDirUnusable | None:
    """Looks whether a run can write to the job's folder; creates nothing."""
    folder = job.job_dir
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            return StateDirUnusable(f"{folder} is not a folder")
    except OSError as error:
        return StateDirUnusable(f"{error.filename}: {error.strerror}")
    if not os.access(folder, os.W_OK | os.X_OK):
        return StateDirUnusable(f"{folder} may not be written to")
    return None


@contextmanager
def job_lock(job: Job) -> Iterator[None]:
    """Holds the job on this machine. Raises JobBusy; the lock ends with the process."""
    with in_state_dir():
        make_private_folder(job.job_dir)
        opened = open_private(lock_path(job))
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid, paused = str(_pid_in(file) or "unknown"), paused_path(job).exists()
            raise JobBusy(job=job.name, pid=pid, paused=paused) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def running_pid(job: Job) -> int | None:
    """Id of the process that holds the job's lock, 0 where it is not known; None: none does."""
    return pid_below(job.job_dir)


def pid_below(job_dir: Path) -> int | None:
    """The same for the job whose folder this is."""
    try:
        with lock_below(job_dir).open(errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _pid_in(file)
    except FileNotFoundError:
        pass
    return None


def _pid_in(file: TextIO) -> int:
    """The process id in a lock file; 0 where there is none that can be read."""
    text = file.read(32).strip()
    return int(text) if text.isascii() and text.isdecimal() else 0
