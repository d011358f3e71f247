"""The firmware's variables follow a VM to its test VM and through a failover."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.reporting import quiet
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.runner import begin_failover, undo_failover
from vreplica.failover.testing import run as testing
from vreplica.failover.vsphere_ports import VSpherePorts
from vreplica.points import Retention
from vreplica.sync.cycle import run
from vreplica.sync.events import ignore
from vreplica.sync.plan.plan import plan
from vreplica.sync.recovery_points import points
from vreplica.sync.replica.nvram import file_of
from vreplica.units import MIB

Content = Callable[..., Path]


def variables(world, number: int, vm: str) -> bytes:
    """The NVRAM file of a VM, without the counter of its boots."""
    path = world.control.describe_vm(world.sites[number]["name"], vm)["nvram"]
    return Path(path).read_bytes()[16:]


def carried(world, vm: str) -> list[str]:
    path = world.control.describe_vm(world.sites[1]["name"], vm)["nvram"]
    return sorted(p.name for p in Path(path).parent.glob("vreplica-*.nvram"))


def test_nvram_follows_the_vm(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB), firmware="efi", guest_id="windows2019srv_64Guest")
    job = world.job(vm, retention=Retention(2))
    replica = job.placement.name
    # A VM that was never started has no variables to lose.
    assert not run(job).point.not_carried
    # Hosts lock the file of a running VM: that is said, on the point too.
    world.power_on(vm)
    assert [n.what for n in plan(job).not_carried] == ["NVRAM"]
    point = run(job).point
    assert (point.nvram, point.not_carried) == ("", ("NVRAM",))
    assert any("NVRAM was not read" in note for note in point.notes)
    assert carried(world, replica) == []
    # Off, it is read, and kept for the runs after that.
    world.control.power(world.here, vm, on=False)
    assert not plan(job).not_carried
    first = run(job).point
    assert not first.not_carried
    assert carried(world, replica) == [file_of(first.nvram)]
    world.power_on(vm)
    later = run(job).point
    assert later.nvram == first.nvram
    assert any("that of the point before is kept" in note for note in later.notes)
    assert not plan(job).not_carried
    # A test VM starts with it, and so does the replica.
    wanted = variables(world, 0, vm)
    testing.run_test(job, testing.TestOptions(keep=True), lambda _: None)
    assert variables(world, 1, f"{replica}-test") == wanted
    assert testing.clean(job) is not None
    folder = job.job_dir / "failovers" / "f1"
    folder.parent.mkdir(parents=True, exist_ok=True)
    choices = FailoverChoices(shutdown_timeout_s=20, heartbeat_timeout_s=20)
    with VSpherePorts(job, "f1", ignore) as ports:
        begin_failover(folder, ports, choices, quiet)
    assert variables(world, 1, replica) == wanted
    with VSpherePorts(job, "f1", ignore) as ports:
        undo_failover(folder, ports, quiet)
    # The source's boots have changed the file. Points that are gone take theirs along.
    world.control.power(world.here, vm, on=False)
    for _ in range(3):
        newest = run(job).point
    assert newest.nvram not in ("", first.nvram)
    used = {file_of(p.nvram) for p in points(job) if p.nvram}
    assert {name for name in carried(world, replica) if "boot" not in name} == used
