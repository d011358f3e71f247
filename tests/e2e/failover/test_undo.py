"""Undo on the lab: what it leaves running and what it keeps, as other clients than ours see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim

from tests.e2e.failover.test_failover import YES, drive, ready
from vreplica.failover.machine.choices import FinalSync, UndoChoices
from vreplica.failover.machine.errors import UndoRefused, UndoStopped
from vreplica.failover.machine.point_choice import PointChoice
from vreplica.failover.machine.record import Outcome, outcome_of
from vreplica.failover.machine.runner import begin_failover, undo_failover
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.points import Retention
from vreplica.sync.cycle import run
from vreplica.sync.events import ignore
from vreplica.sync.job import Job
from vreplica.sync.recovery_points import points
from vreplica.sync.replica.side_branches import remove_branch
from vreplica.units import MIB

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


def snapshots(found: Any) -> dict[str, Any]:
    """Name -> pyVmomi's own snapshot, of a whole tree."""
    names: dict[str, Any] = {}

    def walk(nodes: Any) -> None:
        for node in nodes:
            names[node.name] = node.snapshot
            walk(node.childSnapshotList)

    walk(found.snapshot.rootSnapshotList if found.snapshot else [])
    return names


def test_what_was_written_in_service_is_kept_outside_the_chain(
    world: Any, content: Content, tmp_path: Path
) -> None:
    vm, job = ready(world, content, guest_id="rhel9_64Guest")
    job = replace(job, retention=Retention(3))
    name = job.placement.name
    drive(begin_failover, job, YES)
    written = b"in service" * 400 + bytes(96)
    world.control.guest_write(world.sites[1]["name"], name, 2000, 5 * MIB, written)
    outcome = undo(job)
    branch = "un-f1"
    assert (outcome.facts["kept"], outcome.facts["kept_level"]) == (branch, "clean-shutdown")
    assert outcome.facts["written_bytes"] >= len(written)
    assert (power(world, 0, vm), power(world, 1, name)) == ("poweredOn", "poweredOff")
    # Runs go on from the newest point, and remove others than what the branch stands on.
    booted = outcome.facts["point"]
    for number in range(5):
        world.write(vm, 2000, number * MIB, b"later" * 100 + bytes(12))
        assert run(job).point.id == points(job)[-1].id
    assert branch not in [p.id for p in points(job)]
    assert booted in [p.id for p in points(job)], "the branch stands on it"
    # The witness: qemu-img reads the disk that pyVmomi finds in the snapshot.
    with world.managed(1, name) as replica:
        frozen = snapshots(replica)[branch]
        (disk,) = [
            d for d in frozen.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)
        ]
    raw = world.image(1, disk.backing.fileName, tmp_path / "kept.raw")
    with raw.open("rb") as file:
        file.seek(5 * MIB)
        assert file.read(len(written)) == written
    # It boots where it is named, and goes by the named command.
    named = replace(YES, final_sync=FinalSync.NO, boot=PointChoice(point=branch))
    folder = job.job_dir / "failovers" / "f2"
    with VSpherePorts(job, "f2", ignore) as ports:
        assert begin_failover(folder, ports, named, lambda _: None).facts["point"] == branch
        site = world.sites[1]["name"]
        assert world.control.guest_read(site, name, 2000, 5 * MIB, len(written)) == written
        undo_failover(folder, ports, lambda _: None, UndoChoices(discard_written=True))
    remove_branch(job, branch, ignore)
    with world.managed(1, name) as replica:
        assert branch not in snapshots(replica)
    assert run(job).point.id == points(job)[-1].id


def test_where_the_snapshot_fails_both_sides_stay_as_they_are(world: Any, content: Content) -> None:
    vm, job = ready(world, content)
    name = job.placement.name
    drive(begin_failover, job, YES)
    site = world.sites[1]["name"]
    world.control.guest_write(site, name, 2000, MIB, b"w" * 4096)
    for method in ("CreateSnapshot_Task", "CreateSnapshotEx_Task"):
        world.control.add_fault(site, method=method, fault="NoDiskSpace", count=1)
    with pytest.raises(UndoStopped):
        undo(job)
    world.control.clear_faults(site)
    assert (power(world, 0, vm), power(world, 1, name)) == ("poweredOff", "poweredOn")
    assert undo(job).state is FailoverState.UNDONE
    with world.managed(1, name) as replica:
        assert "un-f1" in snapshots(replica)
