"""A replica that begins with what is at the destination already: only differences are shipped."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.results import check_document
from vreplica.cli.results.document import document
from vreplica.delta.copy.modes import CopyMode
from vreplica.sync.cycle import run
from vreplica.sync.errors import HasReplica, SeedUnusable
from vreplica.sync.job import Placement
from vreplica.sync.plan.plan import plan
from vreplica.sync.recovery_points import points
from vreplica.sync.replica.seed import seed
from vreplica.units import BLOCK, MIB
from vreplica.vsphere.model import KeepIdentity

Content = Callable[..., Path]


def changed(raw: Path, blocks: list[int], size: int) -> Path:
    """A copy of the first `size` bytes with some blocks other than they were."""
    made = raw.with_suffix(".older")
    data = bytearray(raw.read_bytes()[:size])
    for block in blocks:
        data[block * BLOCK : (block + 1) * BLOCK] = random.Random(block).randbytes(BLOCK)
    made.write_bytes(data)
    return made


def other_vm(world: Any, name: str, *raws: Path) -> None:
    """A VM at the destination, as a restored backup would be."""
    disks = [(r.stat().st_size, True, r) for r in raws]
    world.control.create_vm(world.sites[1]["name"], name, disks=disks)


def test_a_vm_at_the_destination_is_copied_and_only_differences_are_shipped(
    world: Any, content: Content, tmp_path: Path
) -> None:
    raws = content(24 * MIB, 1), content(8 * MIB, 2)
    vm = world.make_vm(*raws)
    job = world.job(vm)
    # An older state: five blocks differ, and the disk was smaller then.
    other_vm(world, f"{vm}-restored", changed(raws[0], [3, 50, 51, 200, 319], 20 * MIB))
    with world.connect(1) as session:
        before = session.read_vm(session.find_vm(f"{vm}-restored"))

    report = seed(job, [f"{vm}-restored"])
    check_document(document("seed", report.to_dict()))
    assert [d.label for d in report.disks] == ["Hard disk 1"]
    assert report.empty == ("Hard disk 2",)
    with world.connect(1) as session:
        assert session.read_vm(session.find_vm(f"{vm}-restored")) == before
    assert {d.key: d.mode for d in plan(job).disks} == {2000: CopyMode.RESCAN, 2001: CopyMode.FULL}
    with pytest.raises(HasReplica):
        seed(job, [f"{vm}-restored"])

    # A first run that is killed has written over the seed: its digests are not believed then.
    assert world.run_and_kill(job, "bytes+0.5", tmp_path) == -9
    assert points(job) == ()
    assert plan(job).disks[0].mode is CopyMode.RESCAN
    first, equal = world.run_and_compare(job)
    assert equal == [True, True]
    tail = raws[0].read_bytes()[20 * MIB :]
    fresh = sum(1 for at in range(0, len(tail), BLOCK) if tail[at : at + BLOCK].strip(b"\0"))
    assert first.disks[0].written_bytes <= (5 + fresh) * BLOCK
    again, equal = world.run_and_compare(job)
    assert equal == [True, True]
    assert [d.mode for d in again.disks] == [CopyMode.DELTA, CopyMode.DELTA]


def test_a_disk_that_was_carried_by_hand_seeds_the_disk_that_is_named(
    world: Any, content: Content
) -> None:
    raws = content(8 * MIB, 1), content(8 * MIB, 2)
    vm = world.make_vm(*raws)
    job = world.job(vm)
    other_vm(world, f"{vm}-carried", raws[1])
    with world.connect(1) as session:
        (carried,) = session.read_vm(session.find_vm(f"{vm}-carried")).disks
    with pytest.raises(SeedUnusable, match="Hard disk 9"):
        seed(job, [f"Hard disk 9={carried.path}"])
    assert job.placement.name not in world.vm_names(1)
    seed(job, [f"Hard disk 2={carried.path}"])
    report, equal = world.run_and_compare(job)
    assert equal == [True, True]
    assert report.disks[1].written_bytes == 0
    assert report.disks[0].written_bytes > 0


def test_the_replica_of_another_job_seeds_and_stays(world: Any, content: Content) -> None:
    vm = world.make_vm(content(16 * MIB))
    old = world.job(vm)
    point = run(old).point
    new = world.job(
        vm,
        name="renamed",
        placement=Placement(old.placement.datastore, f"{vm}-second", keep=KeepIdentity(mac=True)),
    )
    seed(new, [old.placement.name])
    macs = []
    for number, name in enumerate((vm, new.placement.name)):
        with world.connect(number) as session:
            macs.append([nic.mac for nic in session.read_vm(session.find_vm(name)).nics])
    assert macs[0] == macs[1] != []
    report, equal = world.run_and_compare(new)
    assert equal == [True]
    assert report.written_bytes == 0
    assert points(old) == (point,)
    assert run(old, verify=True).verified.equal


def test_a_lost_state_directory_costs_no_shipping(world: Any, content: Content) -> None:
    vm = world.make_vm(content(16 * MIB))
    job = world.job(vm)
    run(job)
    for path in job.job_dir.iterdir():
        path.unlink()
    world.power_on(vm)
    world.write(vm, 2000, 0, b"s" * BLOCK)
    report, equal = world.run_and_compare(job)
    assert equal == [True]
    assert report.disks[0].mode is CopyMode.DELTA
    assert report.written_bytes == BLOCK


def test_a_seed_that_does_not_fit_leaves_nothing_behind(world: Any, content: Content) -> None:
    vm = world.make_vm(content(8 * MIB))
    job = world.job(vm)
    other_vm(world, f"{vm}-large", content(16 * MIB, 3))
    with world.connect(1) as session:
        (large,) = session.read_vm(session.find_vm(f"{vm}-large")).disks
    with pytest.raises(SeedUnusable, match="16"):
        seed(job, [large.path])
    assert job.placement.name not in world.vm_names(1)
    with pytest.raises(SeedUnusable, match="none of its disks fits"):
        seed(job, [f"{vm}-large"])
    world.control.power(world.sites[1]["name"], f"{vm}-large", on=True)
    with pytest.raises(SeedUnusable, match="shut it down"):
        seed(job, [f"{vm}-large"])
