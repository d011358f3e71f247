"""Files of ours, damaged at random: a clear error or a new beginning, never a defect.

Real folders (tests/samples) are changed, as the first version wrote them and as files are written
now, with checksums. Of those, whatever is read back is what was written, or nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.job_file import job_table, site_table
from tests.support.mutations import mutated, no_longer_than, one_bit
from tests.support.sample_reading import SAMPLES, job_of, unpack
from vreplica.cli.app import app
from vreplica.errors import VReplicaError
from vreplica.failover import history
from vreplica.failover.failback import FailbackPlan
from vreplica.failover.group import report
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.journal import Journal, load
from vreplica.files import copy_sparse
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.pending import pending_path, read_pending
from vreplica.stored import SUM_MARK, seal_json, seal_text
from vreplica.sync.copy.resume import progress_of, worth_resuming
from vreplica.sync.job import Job
from vreplica.sync.job_dir import read_accepted, running_pid
from vreplica.sync.job_switch import check_enabled, disable, disabled_by, enable, why_disabled
from vreplica.sync.replica import test_vm
from vreplica.sync.replica.orphan_files import unused
from vreplica.sync.run_record import RunRecord, newer_record
from vreplica.sync.source.vmotion_lock import _locked_vm

JOBS = SAMPLES / "v0_1" / "jobs"
GROUPS = SAMPLES / "v0_1" / "groups"
MAP_BYTES = 64 << 10
"""Of a digest map as samples have it, from its beginning: beyond, nearly all of it is a hole."""


@cache
def folders() -> tuple[Path, ...]:
    return tuple(sorted(p for p in JOBS.iterdir() if p.is_dir()))


def fresh(source: Path, root: Path) -> Path:
    """A copy of a sample. It is unpacked once: the holes of digest maps take their time."""
    whole = root.parent / "unpacked" / source.name
    if not whole.exists():
        unpack(source, whole)
    shutil.rmtree(root, ignore_errors=True)
    return Path(shutil.copytree(whole, root, copy_function=_copy))


def _copy(source: str, target: str) -> None:
    copy_sparse(Path(source), Path(target))


@dataclass
class World:
    """A copy of a sample's state directory."""

    root: Path

    def jobs(self) -> Iterator[Job]:
        for folder in sorted(self.root.iterdir()):
            if folder.is_dir() and not folder.name.startswith("."):
                yield job_of(folder.name, self.root)

    def seal(self) -> None:
        """Makes its text files as they are written now."""
        for path in self.root.rglob("*"):
            if path.name in ("accepted", "disabled", "unused", "held"):
                path.write_text(seal_text(path.read_text()))
            elif path.name == "run.json":
                path.write_text(seal_json(path.read_text()))
            elif path.name == "journal.jsonl":
                lines = path.read_text().splitlines()
                path.write_text("".join(seal_json(line) + "\n" for line in lines))


class NoTestVm:
    def look_up_vm(self, name: str) -> None:
        """There is none."""


def attempt(read: Callable[[], Any]) -> Any:
    """What it gives; None where it refuses in a way that commands report."""
    try:
        return read()
    except (VReplicaError, OSError) as error:
        if isinstance(error, VReplicaError):
            error.explain()
        return None


def digests_of(job: Job) -> Any:
    found = []
    for path in sorted(job.job_dir.glob("disk-*.digests")):
        read_pending(pending_path(path))
        for point in (*POINTS, ""):
            with closing(DigestMap.open(path, latest_point=point)) as opened:
                rows = opened.lookup(np.arange(-(-opened.capacity_bytes // opened.block)))
                known = opened.not_zero()
                # What is damaged is unknown: the next copy writes it.
                if not opened.has_damage:
                    found.append((point, rows.tobytes(), known.array.tobytes()))
    return found


POINTS = ("20260101T000000Z-aaaaaa",)


def all_of(job: Job) -> dict[str, Any]:
    """Everything that is read from a job's folder."""
    session: Any = NoTestVm()
    return {
        "accepted": attempt(lambda: read_accepted(job)),
        "disabled": attempt(lambda: disabled_by(job)),
        "why": attempt(lambda: repr(why_disabled(job))),
        "may run": attempt(lambda: check_enabled(job, None)),
        "pid": attempt(lambda: running_pid(job)),
        "unused": attempt(lambda: unused(job)),
        "held": attempt(lambda: _locked_vm(job.job_dir / "held")),
        "record": attempt(lambda: RunRecord.load(job)),
        "newer": attempt(lambda: newer_record(job)),
        "worth": attempt(lambda: worth_resuming(job, "x")),
        "progress": attempt(lambda: progress_of(job, "x", 2000)),
        "outcomes": attempt(lambda: history.outcomes(job)),
        "records": attempt(lambda: [r.to_dict() for r in history.records(job)]),
        "current": attempt(lambda: history.current(job)),
        "there": attempt(lambda: history.failed_over(job)),
        "choices": attempt(lambda: [_choices(f) for f in history.folders(job)]),
        "in use": attempt(lambda: test_vm.points_in_use(session, job)),
        "maps": attempt(lambda: digests_of(job)),
    }


def _choices(folder: Path) -> Any:
    entries = load(folder)
    FailbackPlan.of_journal(entries[0].data)
    return FailoverChoices.from_dict(entries[0].data)


def check(seed: int, root: Path) -> None:
    random = Random(seed)
    world = World(fresh(random.choice(folders()), root))
    if new := random.random() < 0.5:
        world.seal()
    before = {job.name: all_of(job) for job in world.jobs()}
    path = random.choice([p for p in sorted(root.rglob("*")) if p.is_file()])
    change = one_bit if random.random() < 0.4 else mutated
    with path.open("r+b") as file:
        data = file.read(MAP_BYTES)
        changed = change(data or b"\n", random)
        file.seek(0)
        file.write(changed)
        if len(data) < MAP_BYTES:
            file.truncate()
    sealed = new and not (path.suffix == "" and SUM_MARK.encode() not in path.read_bytes()[:4096])
    for job in world.jobs():
        after = all_of(job)
        if sealed:
            for name, value in after.items():
                nothing = not value or value == "unknown" or "SwitchDamaged" in str(value)
                same = value == before.get(job.name, {}).get(name)
                shorter = name in ("outcomes", "records", "choices", "current", "there", "pid")
                assert nothing or same or shorter, f"{name} of {path.name} is {value}"
    take_over(random, world)


def take_over(random: Random, world: World) -> None:
    """A failover goes on from what is there, and switches the job."""
    for job in world.jobs():
        attempt(lambda job=job: disable(job, "fo-1"))  # type: ignore[misc]
        attempt(lambda job=job: enable(job, "fo-1"))  # type: ignore[misc]
        for folder in sorted((job.job_dir / "failovers").glob("f*")):
            opened = attempt(lambda folder=folder: Journal.take_over(folder))  # type: ignore[misc]
            if opened is not None:
                attempt(lambda opened=opened: opened.write("note", data={}))  # type: ignore[misc]
                opened.close()


def check_groups(seed: int, root: Path) -> None:
    random = Random(seed)
    fresh(random.choice(sorted(p for p in GROUPS.iterdir() if p.is_dir())), root)
    journals = sorted(root.rglob("journal.jsonl"))
    path = random.choice(journals)
    path.write_bytes(mutated(path.read_bytes(), random))
    for journal in journals:
        folder = journal.parent
        if ".groups" in folder.parts:
            shown = attempt(lambda folder=folder: report.show(folder))  # type: ignore[misc]
            if shown is not None:
                shown.to_dict()


def ask_the_command(seed: int, root: Path) -> None:
    """The commands that read journals and nothing else, over one damaged file."""
    random = Random(seed)
    fresh(JOBS / random.choice(("disabled", "failback", "home")), root)
    file = root.parent / "jobs.toml"
    file.write_text(f'state_dir = "{root}"\n' + site_table() + job_table("web01"))
    path = random.choice([p for p in sorted(root.rglob("*")) if p.suffix != ".digests"])
    if path.is_file():
        path.write_bytes(mutated(path.read_bytes() or b"\n", random))
    for words in (["failover", "list", "web01"], ["failover", "show", "web01"]):
        done = CliRunner().invoke(app, [*words, "-c", str(file), *(["--json"] * (seed % 2))])
        said = f"{words} {path.name}: {done.output[-500:]}"
        assert done.exit_code != 70, said
        assert done.exception is None or isinstance(done.exception, SystemExit), said


def over(seeds: range, one: Callable[[int, Path], None], root: Path) -> None:
    for seed in seeds:
        with no_longer_than(60):
            try:
                one(seed, root)
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise


ALL = [(check, 150), (check_groups, 100), (ask_the_command, 20)]
MANY = [(check, 7000), (check_groups, 2500), (ask_the_command, 500)]


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "x")


@pytest.mark.parametrize(("one", "cases"), ALL, ids=lambda v: getattr(v, "__name__", v))
def test_damaged_files_end_no_command(
    one: Callable[[int, Path], None], cases: int, tmp_path: Path
) -> None:
    over(range(cases), one, tmp_path / "w")


@pytest.mark.slow
@pytest.mark.parametrize(("one", "cases"), MANY, ids=lambda v: getattr(v, "__name__", v))
def test_many_damaged_files_end_no_command(
    one: Callable[[int, Path], None], cases: int, tmp_path: Path
) -> None:
    over(range(1000, 1000 + cases), one, tmp_path / "w")
