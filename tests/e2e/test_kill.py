"""kill -9 of a run at every kind of place: the replica stays at a point, the next run mends."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vreplica.sync import Mode, plan, points, run
from vreplica.units import BLOCK, MIB

RUNNER = """
import os, pickle, signal, sys
from vreplica.sync import Progress, Step, run

job, place = pickle.load(open(sys.argv[1], "rb"))
name, _, after = place.partition("+")
seen = 0

def listener(event):
    global seen
    if name == "bytes":
        hit = isinstance(event, Progress) and event.activity == "copy"
        hit = hit and event.done_bytes >= float(after) * event.total_bytes
    else:
        hit = isinstance(event, Step) and event.name == name
    if hit:
        os.kill(os.getpid(), signal.SIGKILL)

def die_after(module, attribute):
    real = getattr(module, attribute)
    def wrapped(*args, **kwargs):
        result = real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(module, attribute, wrapped)

if name == "after":
    import vreplica.vsphere as vsphere, vreplica.sync.cycle as cycle
    if after == "commit":
        real = vsphere.Session.create_snapshot
        def wrapped(self, vm, title, *args):
            made = real(self, vm, title, *args)
            if not title.startswith("vreplica-"):
                os.kill(os.getpid(), signal.SIGKILL)
            return made
        vsphere.Session.create_snapshot = wrapped
    elif after == "describe":
        real = vsphere.Session.set_extra_config
        def wrapped(self, vm, values):
            real(self, vm, values)
            if "vreplica.point" in values:
                os.kill(os.getpid(), signal.SIGKILL)
        vsphere.Session.set_extra_config = wrapped
    else:
        die_after(cycle, after)

run(job, listener=listener)
"""

PLACES = [
    "read+",
    "snapshot+",
    "after+freeze",
    "copy+",
    "bytes+0",
    "bytes+0.5",
    "after+copy_disks",
    "commit+",
    "after+describe",
    "after+commit",
    "after+follow",
    "release+",
    "retain+",
]
BEFORE_THE_COMMIT = PLACES[: PLACES.index("after+commit")]


def run_and_kill(job, place: str, folder: Path) -> int:
    script, data = folder / "runner.py", folder / "job.pickle"
    script.write_text(RUNNER)
    data.write_bytes(pickle.dumps((job, place)))
    done = subprocess.run(
        [sys.executable, str(script), str(data)], timeout=120, check=False, capture_output=True
    )
    assert done.returncode in (-9, 0), done.stderr.decode()
    return done.returncode


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_run_leaves_the_replica_at_a_point_and_the_next_one_mends(
    world, content: Callable[..., Path], tmp_path: Path, place: str
) -> None:
    from vreplica.points import Retention

    vm = world.make_vm(content(24 * MIB))
    job = world.job(vm, retention=Retention(last=1))
    world.power_on(vm)
    first = run(job).point
    image = world.image(
        1, world.point_disks(job, first.snapshot)[2000], tmp_path / "first.raw"
    ).read_bytes()
    for number in range(100):
        world.write(vm, 2000, number * 3 * BLOCK, bytes([number + 1]) * BLOCK)

    assert run_and_kill(job, place, tmp_path) == -9, f"{place} was not reached"

    now = points(job)
    if place in BEFORE_THE_COMMIT:
        assert now == (first,)
        path = world.point_disks(job, first.snapshot)[2000]
        assert world.image(1, path, tmp_path / "after.raw").read_bytes() == image
    else:
        assert now[-1] != first

    world.write(vm, 2000, 23 * MIB, b"later" + bytes(507))
    report = run(job, verify=True)
    assert report.verified is not None
    assert report.verified.equal
    assert report.disks[0].mode is Mode.DELTA
    assert not world.source_snapshots(vm)
    left = place in ("after+freeze", "copy+", "bytes+0", "bytes+0.5", "after+copy_disks")
    left = left or place in (
        "commit+",
        "after+describe",
        "after+commit",
        "after+follow",
        "release+",
    )
    assert any("snapshot left" in text for text in report.recovered) == left
    wrote = place in ("bytes+0", "bytes+0.5", "after+copy_disks", "commit+", "after+describe")
    assert any("back to point" in text for text in report.recovered) == wrote
    assert len(points(job)) == 1
    assert not plan(job).problems


@pytest.mark.parametrize("place", ["create+", "bytes+0.5", "commit+"])
def test_a_first_run_that_was_killed_is_begun_anew(
    world, content: Callable[..., Path], tmp_path: Path, place: str
) -> None:
    vm = world.make_vm(content(24 * MIB))
    job = world.job(vm)
    assert run_and_kill(job, place, tmp_path) == -9
    assert points(job) == ()
    report = run(job, verify=True)
    assert report.verified is not None
    assert report.verified.equal
    assert report.disks[0].mode is Mode.FULL
    assert len(points(job)) == 1
    assert not world.source_snapshots(vm)
