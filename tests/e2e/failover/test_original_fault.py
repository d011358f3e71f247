"""Why this project exists, with a database in the guest as the judge.

The system it takes up powered the source off where it had promised a guest shutdown, so that
an application-consistent replica was overwritten by a crash-consistent one, when it was needed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from vreplica.failover.machine.choices import FailoverChoices, OnShutdownTimeout
from vreplica.failover.machine.runner import begin_failover
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.lab.guest.database import disk_reader, inspect_image
from vreplica.points import Level
from vreplica.sync.cycle import run
from vreplica.sync.events import ignore
from vreplica.sync.job import Job
from vreplica.sync.recovery_points import points
from vreplica.units import MIB
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.open import open_vddk_disk

YES = FailoverChoices(shutdown_timeout_s=20, heartbeat_timeout_s=20)


@pytest.fixture
def busy(world) -> tuple[str, Job, Callable[[], int]]:
    """A Windows guest whose database works; `work()` goes on and tells what was committed."""
    vm = world.make_vm(32 * MIB, guest_id="windows2019srv_64Guest")
    world.power_on(vm)
    world.control.app_start(world.here, vm, seed=5)

    def work() -> int:
        return world.control.app_work(world.here, vm, 40, write_back=0.4)

    work()
    job = world.job(vm, require=Level.APPLICATION)
    assert run(job).point.level is Level.APPLICATION
    return vm, job, work


def level_in(world, job: Job, point: str, acknowledged: int) -> str:
    """What the database in a recovery point says of itself when it is opened."""
    (snapshot,) = [p.snapshot for p in points(job) if p.id == point]
    file = world.file(1, world.point_disks(job, snapshot)[2000])
    config = VddkConfig(isolation=False)
    with closing(open_vddk_disk(config, VddkConnection(), str(file))) as disk:
        return inspect_image(disk_reader(disk)).level(acknowledged)


def fail_over(job: Job, choices: FailoverChoices, meanwhile: Callable[[], object] = lambda: None):
    """`meanwhile` happens right after the guest was asked to shut down: it is still busy."""
    folder = job.job_dir / "failovers" / "f1"
    folder.parent.mkdir(parents=True)

    class Busy(VSpherePorts):
        def shut_down_source(self) -> None:
            super().shut_down_source()
            meanwhile()

    with Busy(job, "f1", ignore) as ports:
        return begin_failover(folder, ports, choices, lambda text: None)


def test_yes_keeps_every_transaction_and_the_database_is_clean(
    world, busy: tuple[str, Job, Callable[[], int]]
) -> None:
    vm, job, work = busy
    done = work()
    outcome = fail_over(job, replace(YES, require=Level.APPLICATION))
    assert outcome.state is FailoverState.RUNNING
    # The shutdown finished the transfer that was half done: one transaction more.
    booted = outcome.facts["point"]
    assert level_in(world, job, booted, done + 1) == "application"
    with world.connect(0) as session:
        operations = [t.operation.lower() for t in session.recent_tasks(session.find_vm(vm))]
    assert not any("poweroff" in operation for operation in operations)


def test_the_plug_pulled_as_the_old_system_did_breaks_it_and_says_crash(
    world, busy: tuple[str, Job, Callable[[], int]]
) -> None:
    vm, job, work = busy
    world.control.set_guest(world.here, vm, shutdown="hangs")
    consistent = points(job)[-1].id
    done: list[int] = []
    choices = replace(YES, shutdown_timeout_s=2, on_shutdown_timeout=OnShutdownTimeout.POWER_OFF)
    outcome = fail_over(
        replace(job, require=Level.CRASH), choices, meanwhile=lambda: done.append(work())
    )
    assert outcome.facts["level"] == "crash"
    booted = outcome.facts["point"]
    assert level_in(world, job, booted, done[0]) == "crash"
    # And still nothing was thrown away: what was consistent before can be booted.
    for point in (consistent, "f1-a"):
        assert level_in(world, job, point, 0) == "application"


def test_use_quiesced_boots_the_consistent_point_instead(
    world, busy: tuple[str, Job, Callable[[], int]]
) -> None:
    vm, job, work = busy
    world.control.set_guest(world.here, vm, shutdown="hangs")
    done = work()
    choices = replace(YES, shutdown_timeout_s=2, on_shutdown_timeout=OnShutdownTimeout.USE_QUIESCED)
    outcome = fail_over(job, choices)
    assert outcome.facts["point"] == "f1-a"
    assert level_in(world, job, "f1-a", done) == "application"
