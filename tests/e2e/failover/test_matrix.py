"""kill -9 at every boundary of every effect and inside it: there, undone, back, committed.

A process of its own runs each part and is killed; another goes on. Meanwhile an observer looks at
both VMs without a pause: they are never both on.

`-m "slow or not slow"` takes the whole matrix. CI takes a few places of it, other ones each day:
their ids say by which seed, and VREPLICA_KILL_SEED=SEED takes the same again.
"""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.reporting import quiet
from vreplica.failover import history, operations
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.states import FailoverState
from vreplica.sync.cycle import run
from vreplica.sync.job import Job
from vreplica.sync.recovery_points import points
from vreplica.units import MIB

Content = Callable[..., Path]
YES = FailoverChoices(shutdown_timeout_s=20, heartbeat_timeout_s=20, disconnect_source_nics=True)

KILLER = """
import os, pickle, signal, sys
from vreplica.failover import failback, operations
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.sync.events import Step

job, choices, part, place = pickle.load(open(sys.argv[1], "rb"))
when, _, what = place.partition(" ")
die = lambda: os.kill(os.getpid(), signal.SIGKILL)

def listener(event):
    if when == "step" and isinstance(event, Step) and event.name == what:
        die()

def wrap(cls, method):
    real = getattr(cls, method)
    def wrapped(self, *args):
        if when == "before":
            die()
        real(self, *args)
        die()
    setattr(cls, method, wrapped)

if when in ("before", "after"):
    for cls in (VSpherePorts, failback.FailbackPorts):
        if what in vars(cls):
            wrap(cls, what)

quiet = lambda text: None
if part in ("there", "back"):
    begin = operations.fail_over if part == "there" else operations.fail_back
    begin(job, choices, quiet, listener)
else:
    getattr(operations, part)(job, quiet, listener)
"""

SYNC = [f"step {name}" for name in ("snapshot", "copy", "commit", "release")]


def around(*methods: str) -> list[str]:
    return [f"{when} {method}" for method in methods for when in ("before", "after")]


WAY = around(
    "disable_job", "sync", "shut_down_source", "connect_source", "_connect_replica",
    "power_on_replica",
)  # fmt: skip
MATRIX = {
    "there": [*WAY, *SYNC],
    "undo": around(
        "shut_down_replica", "keep_side_branch", "put_replica_on", "power_on_source", "enable_job"
    ),
    "commit": around("settle_direction"),
    "back": [*WAY, *around("keep_replica_state"), "step freeze", *SYNC],
    "undo-back": around(
        "shut_down_replica", "keep_side_branch", "put_replica_on", "power_on_source", "enable_job"
    ),
    "commit-back": [*around("settle_direction"), "step freeze", "step release"],
}
ALL = [(part, place) for part, places in MATRIX.items() for place in places]

SEED = os.environ["VREPLICA_KILL_SEED"]


def chosen(seed: str) -> set[tuple[str, str]]:
    """Places for CI: one of each part, and one more on the way there."""
    source = random.Random(seed)
    return {
        (part, place)
        for part, places in MATRIX.items()
        for place in source.sample(places, 2 if part == "there" else 1)
    }


def matrix() -> Iterator[Any]:
    quick = chosen(SEED)
    for part, place in ALL:
        if (part, place) in quick:
            yield pytest.param(part, place, id=f"{part}: {place}, seed {SEED}")
        else:
            yield pytest.param(part, place, marks=pytest.mark.slow, id=f"{part}: {place}")


@contextmanager
def never_both_on(world, job: Job) -> Iterator[None]:
    """Look at both sides all the time; fail at the end if both VMs were ever seen on."""
    stop, seen = threading.Event(), []

    def watch() -> None:
        with world.connect(0) as one, world.connect(1) as other:
            sides = [
                (one, one.find_vm(job.source_vm)),
                (other, other.find_vm(job.placement.name)),
            ]
            while not stop.is_set():
                # Both looks twice: what was on before and after the other was seen on, overlaps.
                states = [side.power_state(vm) for side, vm in [*sides, sides[0]]]
                seen.append(states == ["poweredOn"] * 3)
                stop.wait(0.02)

    thread = threading.Thread(target=watch, name="observer")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert seen, "the observer saw nothing"
    assert not any(seen), "both VMs were on"


def killed(job: Job, part: str, place: str, folder: Path) -> None:
    script, data = folder / "killer.py", folder / "data.pickle"
    script.write_text(KILLER)
    data.write_bytes(pickle.dumps((job, YES, part.removesuffix("-back"), place)))
    done = subprocess.run(
        [sys.executable, str(script), str(data)], timeout=180, check=False, capture_output=True
    )
    assert done.returncode == -9, f"{place} was not reached: {done.stderr.decode()}"


@pytest.mark.parametrize(("part", "place"), list(matrix()))
def test_killed_anywhere_another_process_ends_it_as_if_it_had_not_been(
    world, content: Content, tmp_path: Path, part: str, place: str
) -> None:
    vm = world.make_vm(content(8 * MIB), guest_id="windows2019srv_64Guest")
    job = world.job(vm)
    world.power_on(vm)
    run(job)
    world.write(vm, 2000, 3 * MIB, b"since" * 100 + bytes(12))
    with never_both_on(world, job):
        if part != "there":
            assert operations.fail_over(job, YES, quiet).state is FailoverState.RUNNING
        if "back" in part:
            operations.commit(job, quiet)
            there = world.sites[1]["name"]
            world.control.guest_write(there, job.placement.name, 2000, 5 * MIB, b"t" * 512)
        if part.endswith("-back"):
            operations.fail_back(job, YES, quiet)
        # What is written in service is kept by an undo.
        if part == "undo":
            there = world.sites[1]["name"]
            world.control.guest_write(there, job.placement.name, 2000, 6 * MIB, b"u" * 512)
        elif part == "undo-back":
            world.write(vm, 2000, 6 * MIB, b"u" * 512)
        killed(job, part, place, tmp_path)
        if part == "there" and not history.folders(job):
            pytest.fail("nothing was journalled before it")
        done = operations.resume(job, quiet)
    ends = {"there": FailoverState.RUNNING, "back": FailoverState.RUNNING}
    ends |= {"undo": FailoverState.UNDONE, "undo-back": FailoverState.UNDONE}
    assert done.state is ends.get(part, FailoverState.COMMITTED)
    with world.connect(0) as one, world.connect(1) as other:
        source = one.power_state(one.find_vm(vm))
        replica = other.power_state(other.find_vm(job.placement.name))
    home = part in ("undo", "back", "commit-back")
    assert (source == "poweredOn", replica == "poweredOn") == (home, not home)
    if part in ("undo", "commit-back"):
        report = run(job, verify=True)
        assert report.verified is not None
        assert report.verified.equal
        assert not world.source_snapshots(vm)
    else:
        ids = [p.id for p in points(job)]
        assert len(ids) == len(set(ids)), "each point once"
