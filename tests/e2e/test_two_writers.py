"""One job has one writer: runs at once, as processes, with and without a shared state directory.

The guest is quiet while the processes run, so each point of a round is to equal the source as it is
in that round, by qemu-img. One wins or nobody; the others say who has the replica (exit 3).
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import waiting
from vreplica.cli import exit_codes
from vreplica.points import Retention
from vreplica.sync.claim import takeover
from vreplica.sync.cycle import run
from vreplica.sync.errors import ReplicaClaimed, ReplicaStillOpen
from vreplica.sync.job import Job
from vreplica.sync.recovery_points import points
from vreplica.units import BLOCK, MIB

SIZE = 6 * MIB
KEEP = 5


@dataclass
class Pair:
    """A source, its replica, and pictures of the source: one of each time that it was quiet."""

    world: Any
    vm: str
    chance: random.Random
    pictures: dict[str, list[Path]] = field(default_factory=dict)
    """By point: the pictures that it may be."""
    taken: list[Path] = field(default_factory=list)

    def job(self, state: str) -> Job:
        folder = self.world.work / f"{self.vm}-{state}"
        return self.world.job(self.vm, state_dir=folder, retention=Retention(last=KEEP))

    def guest_writes(self) -> None:
        for _ in range(12):
            data = self.chance.randbytes(self.chance.choice([BLOCK, 3 * BLOCK]))
            at = self.chance.randrange(0, SIZE - len(data)) // 512 * 512
            self.world.write(self.vm, 2000, at, data)
        self.take_picture()

    def take_picture(self) -> None:
        target = self.world.work / f"{self.vm}-{len(self.taken)}.raw"
        with self.world.connect(0) as session:
            (disk,) = session.read_vm(session.find_vm(self.vm)).disks
        self.taken.append(self.world.image(0, disk.path, target))

    def check(self, since: int) -> list[str]:
        """Compares all points. New ones are of a picture taken since `since`. Returns their ids."""
        found = points(self.job("a"))
        new = [p.id for p in found if p.id not in self.pictures]
        for point in found:
            disk = self.world.point_disks(self.job("a"), point.snapshot or "")[2000]
            allowed = self.pictures.setdefault(point.id, self.taken[since:])
            assert any(self.equal(picture, disk) for picture in allowed), point.id
        return new

    def equal(self, picture: Path, disk: str) -> bool:
        command = [self.world.qemu_img, "compare", "-f", "raw", "-F", "vmdk", str(picture)]
        done = subprocess.run(
            [*command, str(self.world.file(1, disk))], capture_output=True, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        return done.returncode == 0

    def check_clean(self) -> None:
        """Nothing is left over, and one run alone ends well."""
        assert not self.world.source_snapshots(self.vm)
        since = len(self.taken) - 1
        report = run(self.job("a"))
        assert self.check(since) == [report.point.id]
        assert not self.world.source_snapshots(self.vm)
        with self.world.connect(1) as session:
            replica = session.read_vm(session.find_vm(f"{self.vm}-replica"))
        assert [s.moref for s in replica.snapshots] == [p.snapshot for p in points(self.job("a"))]


@pytest.fixture
def pair(world) -> Pair:
    vm = world.make_vm(SIZE)
    world.power_on(vm)
    pair = Pair(world, vm, random.Random(vm))
    pair.guest_writes()
    run(pair.job("a"))
    pair.check(0)
    return pair


# -- at once ----------------------------------------------------------------------------------


def start(pair: Pair, state: str, transport: str) -> subprocess.Popen[str]:
    """`vreplica-sync run`, with a job file of the lab's sites."""
    world = pair.world
    text = (world.folder / "jobs.toml").read_text().partition("[jobs.")[0]
    text = re.sub(r"(?m)^state_dir = .*$", f'state_dir = "{world.work / pair.vm}-{state}"', text)
    site, there = (s["name"] for s in world.sites)
    datastore = world.sites[1]["datastores"][0]
    file = world.folder / f"{pair.vm}-{state}.toml"
    file.write_text(
        f"{text}\n[jobs.job-{pair.vm}]\n"
        f'source = {{ site = "{site}", vm = "{pair.vm}" }}\n'
        f'destination = {{ site = "{there}", datastore = "{datastore}", name = "{pair.vm}-replica"'
        f' }}\ntransport = "{transport}"\nkeep = {KEEP}\non_cbt_loss = "rescan"\n'
    )
    command = [str(Path(sys.executable).with_name("vreplica-sync")), "run", "--json", "-c"]
    return subprocess.Popen(
        [*command, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def race(pair: Pair) -> list[int]:
    """One round: two to four runs within a second. Returns their exit codes."""
    pair.guest_writes()
    since = len(pair.taken) - 1
    transport = pair.chance.choice(["vddk", "nfc"])
    processes = []
    for _ in range(pair.chance.randint(2, 4)):
        processes.append(start(pair, pair.chance.choice("aabc"), transport))
        time.sleep(pair.chance.uniform(0.0, 0.6))
    made, codes = [], []
    for process in processes:
        said, told = process.communicate(timeout=180)
        codes.append(process.returncode)
        assert said, (process.returncode, told)
        document = json.loads(said.splitlines()[-1])
        if process.returncode == exit_codes.OK:
            made.append(document["point"]["id"])
        else:
            assert "Traceback" not in told, told
            refused = process.returncode == exit_codes.PREFLIGHT
            assert not refused or "is in the hands of" in told or "is already running" in told
    new = pair.check(since)
    assert set(made) <= set(new), "a point was made that is not there"
    assert 70 not in codes
    return codes


def test_runs_at_once_make_points_that_are_the_source(pair: Pair) -> None:
    codes = [code for _ in range(3) for code in race(pair)]
    assert codes.count(exit_codes.OK) >= 3
    assert set(codes) <= {exit_codes.OK, exit_codes.PREFLIGHT, 7}
    pair.check_clean()


@pytest.mark.slow
def test_so_they_do_in_two_hundred_rounds(pair: Pair) -> None:
    codes = []
    for number in range(200):
        codes += race(pair)
        if number % 10 == 9:
            pair.check_clean()
    print({code: codes.count(code) for code in set(codes)})
    assert exit_codes.PREFLIGHT in codes


# -- frozen, taken over, thawed ---------------------------------------------------------------


def frozen_run(pair: Pair, place: str, folder: Path) -> subprocess.Popen[bytes]:
    """A run that stops itself (SIGSTOP) at a place that runner.py knows."""
    data = folder / "job.pickle"
    data.write_bytes(pickle.dumps((pair.job("a"), place, None)))
    script = Path(__file__).with_name("runner.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(data), "SIGSTOP"], stderr=subprocess.PIPE
    )
    stat = Path(f"/proc/{process.pid}/stat")

    def stopped() -> bool:
        return stat.read_text().rpartition(")")[2].split()[0] in "TZ"

    waiting.until("the run is stopped", stopped, 60)
    assert process.poll() is None, "the run ended before it came to the place"
    return process


PLACES = [
    "read",
    "snapshot",
    "copy",
    "bytes+0.5",
    "commit",
    "after+describe",
    "after+commit",
    "release",
]
IN_CI = {"bytes+0.5", "after+describe", "commit"}


@pytest.mark.parametrize(
    "place", [p if p in IN_CI else pytest.param(p, marks=pytest.mark.slow) for p in PLACES]
)
def test_a_run_that_was_frozen_taken_over_and_thawed_leaves_only_true_points(
    pair: Pair, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "WAIT_S", 1.0)
    since = len(pair.taken)
    pair.guest_writes()
    frozen = frozen_run(pair, place, tmp_path)
    taken = False
    try:
        pair.guest_writes()
        if place != "read":  # nothing is claimed yet
            with pytest.raises(ReplicaClaimed) as caught:
                run(pair.job("b"))
            assert caught.value.exit_code == exit_codes.PREFLIGHT
        # While it is frozen its disks stay open, and who takes it over would wait for ever.
        with suppress(ReplicaStillOpen):
            run(pair.job("b"), take_over=True)
            taken = True
        pair.check(since)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    _, told = frozen.communicate(timeout=120)
    assert taken == (place != "bytes+0.5")
    if place in ("snapshot", "copy", "after+describe", "commit"):
        assert frozen.returncode != 0, "it was taken over, and says that it is done"
    assert b"AssertionError" not in told
    pair.check(since)
    pair.check_clean()
