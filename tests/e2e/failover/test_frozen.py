"""A process that was stopped (SIGSTOP) and goes on after another has taken its failover over.

    before an effect      the other one goes on; thawed, it makes no call to either vCenter
    inside one            nobody can take over: who wants to is told which process to end
    in the middle of      the job's lock goes with the process: nobody can synchronise; an undo
    a synchronisation     can be had. Thawed, it makes no call either

What either vCenter did is read from its own tasks and events of both VMs.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.reporting import quiet
from vreplica.errors import VReplicaError
from vreplica.failover import operations
from vreplica.failover.adopt import adopt, read_adoptable
from vreplica.failover.history import outcomes
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.errors import EffectUnderWay
from vreplica.failover.machine.states import FailoverState
from vreplica.sync.cycle import run
from vreplica.sync.errors import JobBusy
from vreplica.sync.events import Progress, Step
from vreplica.sync.job import Job
from vreplica.sync.recovery_points import points
from vreplica.units import MIB

Content = Callable[..., Path]
YES = FailoverChoices(shutdown_timeout_s=20, heartbeat_timeout_s=20)

FROZEN = """
import os, pickle, signal, sys
from vreplica.failover.machine.errors import FailoverTakenOver
from vreplica.failover.machine.context import StepContext
from vreplica.failover import history, operations
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.sync.errors import FailoverNotHere
from vreplica.sync.events import Step

job, choices, part, place = pickle.load(open(sys.argv[1], "rb"))
when, _, what = place.partition(" ")
left = [1]

def stop():
    if left:
        left.pop()
        os.kill(os.getpid(), signal.SIGSTOP)

def do(self, step, call, *args, real=StepContext.do, **more):
    if when == "before" and step == what:
        stop()
    return real(self, step, call, *args, **more)

StepContext.do = do
if when == "in":
    def wrapped(self, *args, real=getattr(VSpherePorts, what)):
        stop()
        return real(self, *args)
    setattr(VSpherePorts, what, wrapped)

def listener(event):
    if when == "step" and isinstance(event, Step) and event.name == what:
        final = history.outcomes(job)[-1].state.value == "source-off"
        if final:
            stop()

quiet = lambda text: None
try:
    if part == "there":
        operations.fail_over(job, choices, quiet, listener)
    else:
        operations.undo(job, quiet, listener)
except (FailoverTakenOver, FailoverNotHere):
    sys.exit(42)
"""
TAKEN_OVER = 42


def slow(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def ready(world, content: Content) -> tuple[str, Job]:
    vm = world.make_vm(content(8 * MIB), guest_id="windows2019srv_64Guest")
    job = world.job(vm)
    world.power_on(vm)
    run(job)
    world.write(vm, 2000, 3 * MIB, b"since" * 100 + bytes(12))
    return vm, job


@contextmanager
def frozen(job: Job, part: str, place: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs `part` and stands stopped at `place`."""
    script, data = folder / "frozen.py", folder / "data.pickle"
    script.write_text(FROZEN)
    data.write_bytes(pickle.dumps((job, YES, part, place)))
    process = subprocess.Popen([sys.executable, str(script), str(data)], stderr=subprocess.PIPE)
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"{place} was not reached"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def thawed(process: subprocess.Popen[bytes]) -> int:
    """Let it go on; how it ends."""
    os.kill(process.pid, signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (0, TAKEN_OVER), said.decode()
    return process.returncode


def history(world, job: Job) -> list[tuple[str, ...]]:
    """Everything that both vCenters say was done to both VMs."""
    found = []
    for number, name in ((0, job.source_vm), (1, job.placement.name)):
        with world.connect(number) as session:
            vm = session.find_vm(name)
            found += [("task", t.key, t.operation) for t in session.recent_tasks(vm)]
            found += [("event", e.type, str(e.time)) for e in session.events(vm)]
    return found


def on(world, job: Job) -> tuple[bool, bool]:
    with world.connect(0) as one, world.connect(1) as other:
        source = one.power_state(one.find_vm(job.source_vm))
        replica = other.power_state(other.find_vm(job.placement.name))
    return source == "poweredOn", replica == "poweredOn"


@pytest.mark.parametrize(
    ("part", "place", "then", "state"),
    [
        slow("there", "before ShutdownGuest source", operations.resume, FailoverState.RUNNING),
        slow("there", "before PowerOn replica", operations.resume, FailoverState.RUNNING),
        ("there", "before PowerOn replica", operations.undo, FailoverState.UNDONE),
        ("undo", "before PowerOn source", operations.resume, FailoverState.UNDONE),
        ("there", "step release", operations.resume, FailoverState.RUNNING),
    ],
)
def test_who_was_taken_over_makes_no_call(
    world, content: Content, tmp_path: Path, part: str, place: str, then, state: FailoverState
) -> None:
    _, job = ready(world, content)
    if part == "undo":
        assert operations.fail_over(job, YES, quiet).state is FailoverState.RUNNING
    with frozen(job, part, place, tmp_path) as process:
        assert then(job, quiet).state is state
        if part == "undo":
            # And the next failover, whose replica must not be joined by the source.
            assert operations.fail_over(job, YES, quiet).state is FailoverState.RUNNING
        before, stand = history(world, job), on(world, job)
        assert stand == (
            (False, True) if part == "undo" or state is FailoverState.RUNNING else (True, False)
        )
        assert thawed(process) == TAKEN_OVER
    assert history(world, job) == before
    assert on(world, job) == stand


@pytest.mark.parametrize(
    ("part", "place"),
    [
        slow("there", "before ShutdownGuest source"),
        ("there", "before PowerOn replica"),
        slow("undo", "before PowerOn source"),
    ],
)
def test_a_mover_whose_failover_another_machine_has_adopted_makes_no_call(
    world, content: Content, tmp_path: Path, part: str, place: str
) -> None:
    """The other machine has no file of the first one."""
    _, job = ready(world, content)
    elsewhere = replace(job, state_dir=tmp_path / "elsewhere")
    if part == "undo":
        assert operations.fail_over(job, YES, quiet).state is FailoverState.RUNNING
    with frozen(job, part, place, tmp_path) as process:
        adopt(elsewhere, read_adoptable(elsewhere), quiet)
        assert operations.undo(elsewhere, quiet).state in (
            FailoverState.UNDONE,
            FailoverState.ABORTED,
        )
        before = history(world, job)
        assert on(world, job) == (True, False)
        assert thawed(process) == TAKEN_OVER
    assert history(world, job) == before
    assert on(world, job) == (True, False)


@pytest.mark.parametrize(
    ("part", "place", "then", "state"),
    [
        ("there", "in power_on_replica", "thawed", FailoverState.RUNNING),
        slow("there", "in power_on_replica", "killed", FailoverState.RUNNING),
        slow("there", "in shut_down_source", "thawed", FailoverState.RUNNING),
        slow("there", "in shut_down_source", "killed", FailoverState.RUNNING),
        slow("undo", "in power_on_source", "thawed", FailoverState.UNDONE),
        slow("undo", "in power_on_source", "killed", FailoverState.UNDONE),
    ],
)
def test_inside_an_effect_nobody_takes_over_until_it_is_over(
    world,
    content: Content,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    place: str,
    then: str,
    state: FailoverState,
) -> None:
    monkeypatch.setattr("vreplica.failover.machine.journal.TAKE_OVER_S", 0.3)
    _, job = ready(world, content)
    if part == "undo":
        assert operations.fail_over(job, YES, quiet).state is FailoverState.RUNNING
    with frozen(job, part, place, tmp_path) as process:
        before = history(world, job)
        for other in (operations.resume, operations.undo):
            with pytest.raises(EffectUnderWay) as refused:
                other(job, quiet)
            assert f"kill -9 {process.pid}" in " ".join(refused.value.explain())
        assert history(world, job) == before
        if then == "thawed":
            assert thawed(process) == 0
        else:
            process.kill()
            process.wait(20)
            assert operations.resume(job, quiet).state is state
    assert outcomes(job)[-1].state is state
    assert on(world, job) == ((False, True) if state is FailoverState.RUNNING else (True, False))


def test_in_a_synchronisation_only_an_undo_is_possible_and_it_stays_undone(
    world, content: Content, tmp_path: Path
) -> None:
    vm, job = ready(world, content)
    with frozen(job, "there", "step copy", tmp_path) as process:
        with pytest.raises(JobBusy, match=str(process.pid)):
            operations.resume(job, quiet)
        assert operations.undo(job, quiet).state is FailoverState.UNDONE
        before = history(world, job)
        assert thawed(process) == TAKEN_OVER
    assert history(world, job) == before
    assert on(world, job) == (True, False)
    # What it had begun is mended by whoever comes next.
    report = run(job, verify=True)
    assert report.verified is not None
    assert report.verified.equal
    assert not world.source_snapshots(vm)


class TakenOver(VReplicaError):
    template = "taken over"


def test_a_copy_that_only_reads_asks_at_every_batch_and_puts_nothing_back(
    world, content: Content
) -> None:
    vm, job = ready(world, content)
    run(job)
    with world.connect(0) as session:
        (disk,) = session.read_vm(session.find_vm(vm)).disks
    # All of it is written again, with what it held: nothing has to be sent.
    image = world.image(0, disk.path, world.work / f"{vm}.raw").read_bytes()
    for at in range(0, len(image), MIB):
        world.write(vm, 2000, at, image[at : at + MIB])
    order: list[str] = []

    def fence() -> None:
        order.append("asked")
        if order.count("read") == 3:
            raise TakenOver

    def listener(event: object) -> None:
        if isinstance(event, Progress) and event.activity == "copy":
            order.append("read")
        if isinstance(event, Step):
            order.append(event.name)

    with pytest.raises(TakenOver):
        run(job, listener=listener, run_id="p1", fence=fence)
    assert order.count("read") == 3
    assert "rollback" not in order
    assert [p.id for p in points(job)][-1] != "p1"
    assert world.source_snapshots(vm), "left to whoever has taken over"
    assert run(job, verify=True).verified.equal
    assert not world.source_snapshots(vm)
