"""A removal of our snapshot that a locked file interrupted is finished by a later run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vreplica.sync.cycle import run
from vreplica.sync.plan.plan import plan
from vreplica.units import MIB
from vreplica.vsphere.errors import ConsolidationFailed

Content = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_faults_are_left(world) -> Iterator[None]:
    yield
    for site in world.sites:
        world.control.clear_faults(site["name"])


@pytest.mark.parametrize("side", [0, 1])
def test_a_run_finishes_a_consolidation_that_was_locked(world, content: Content, side: int) -> None:
    vm = world.make_vm(content(8 * MIB))
    world.power_on(vm)
    job = world.job(vm)
    run(job)
    world.write(vm, 2000, MIB, b"one" * 4096)
    name = vm if side == 0 else job.placement.name
    with world.managed(side, name) as managed:
        world.control.add_fault(
            world.sites[side]["name"], object=managed._moId, action="locked", count=None
        )
    if side == 1:
        with world.connect(1) as session:
            replica = session.read_vm(session.find_vm(name))
            extra = session.create_snapshot(replica.ref, "of a test", "", None)
            with pytest.raises(ConsolidationFailed):
                session.remove_snapshot(replica.ref, extra.moref)
    else:
        late = run(job)
        assert any("removes the snapshot" in text for text in late.warnings)
        assert "consolidate the disks" in " ".join(plan(job).steps)
        with pytest.raises(ConsolidationFailed):
            run(job)
    world.control.clear_faults(world.sites[side]["name"])
    world.write(vm, 2000, 2 * MIB, b"two" * 4096)
    report = run(job, verify=True)
    assert report.verified is not None
    assert report.verified.equal
    with world.connect(side) as session:
        assert not session.read_vm(session.find_vm(name)).consolidation_needed
    if side == 0:
        assert any("consolidated" in text for text in report.recovered)
