"""Undo on the lab: what it leaves running and what it keeps, as other clients than ours see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask

from tests.e2e.failover.test_failover import YES, drive, ready
from vreplica.failover.machine.choices import UndoChoices
from vreplica.failover.machine.errors import UndoRefused
from vreplica.failover.machine.record import Outcome, outcome_of
from vreplica.failover.machine.runner import begin_failover, undo_failover
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.sync.events import ignore
from vreplica.sync.job import Job

Content = Callable[..., Path]


def undo(job: Job, choices: UndoChoices | None = None) -> Outcome:
    folder = job.job_dir / "failovers" / "f1"
    with VSpherePorts(job, "f1", ignore) as ports:
        return undo_failover(folder, ports, lambda _: None, choices or UndoChoices())


def power(world: Any, number: int, vm: str) -> str:
    """As pyVmomi reads it."""
    with world.managed(number, vm) as found:
        return str(found.runtime.powerState)


def test_a_snapshot_of_somebody_else_on_the_replica_in_service_does_not_stop_an_undo(
    world: Any, content: Content
) -> None:
    vm, job = ready(world, content)
    drive(begin_failover, job, YES)
    with world.managed(1, job.placement.name) as replica:
        task = replica.CreateSnapshot_Task(name="before patch", memory=False, quiesce=False)
        WaitForTask(task)
    assert undo(job).state is FailoverState.UNDONE
    assert power(world, 0, vm) == "poweredOn"
    assert power(world, 1, job.placement.name) == "poweredOff"


@pytest.mark.parametrize("lost", [True, False])
def test_the_only_running_copy_is_not_stopped_while_the_source_host_is_away(
    world: Any, content: Content, lost: bool
) -> None:
    vm, job = ready(world, content)
    with world.managed(0, vm) as source:
        host = source.runtime.host.name
    if lost:
        world.control.power(world.here, vm, on=False)
    drive(begin_failover, job, replace(YES, source_lost=lost))
    world.control.set_host(world.here, host=host, connected=False)
    try:
        with pytest.raises(UndoRefused) as refused:
            undo(job)
        assert refused.value.exit_code == 3
        assert power(world, 1, job.placement.name) == "poweredOn"
        assert outcome_of(job.job_dir / "failovers" / "f1").state is FailoverState.RUNNING
        outcome = undo(job, UndoChoices(even_without_source=True))
        assert outcome.facts["source_now"] == "not asked, and left as it is"
        assert power(world, 1, job.placement.name) == "poweredOff"
    finally:
        world.control.set_host(world.here)
