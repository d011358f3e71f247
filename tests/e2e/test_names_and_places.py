"""Names as vSphere has them, two places of one name, and what is seen before the copy."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim

from tests.support.lab import unchecked
from vreplica.failover.testing import run as testing
from vreplica.failover.testing.errors import ProductionNetwork
from vreplica.lab import Lab, LabControl
from vreplica.sync.cycle import run
from vreplica.sync.errors import PreflightFailed
from vreplica.sync.job import Job, Placement
from vreplica.sync.plan.plan import plan
from vreplica.sync.plan.readiness import check_readiness
from vreplica.sync.plan.space import MARGIN
from vreplica.sync.recovery_points import points
from vreplica.units import MIB
from vreplica.vddk.config import VddkConfig
from vreplica.vsphere.errors import PlacementAmbiguous
from vreplica.vsphere.model import Endpoint
from vreplica.vsphere.session import connect

Content = Callable[..., Path]


def placed(world, vm: str, **more) -> Job:
    job = world.job(vm)
    return replace(job, placement=replace(job.placement, **more))


@pytest.mark.parametrize("written", ["team/{}", "team%2f{}", "50%-{}", "a\\{}"])
def test_a_replica_of_any_name_is_found_again(world, content: Content, written: str) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = placed(world, vm, name=written.format(vm))
    assert not check_readiness(job).problems
    run(job)
    (job.job_dir / "vms.json").unlink()
    assert run(job).disks[0].mode.value == "delta"
    assert len(points(job)) == 2
    report = testing.run_test(job, testing.TestOptions(), lambda _: None)
    assert report.passed, report.to_dict()


def test_a_name_that_is_too_long_is_said_before_anything_is_made(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    for ending, length in (("", 80), ("/", 81), ("%2f", 81)):
        job = placed(world, vm, name=vm + "n" * (78 - len(vm)) + (ending or "nn"))
        said = [p for p in plan(job).problems if "characters" in p]
        assert len(said) == (length > 80)
        assert all(f"has {length} characters, and vCenter takes 80" in p for p in said)
    long = placed(world, vm, name=vm + "n" * (80 - len(vm)))
    run(long)
    assert testing.run_test(long, testing.TestOptions(), lambda _: None).passed


@pytest.fixture(scope="module")
def two_switches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A lab whose sites have two distributed port groups `prod`, in two network folders.

    Yields (lab, function that makes a job, moref and path of the second port group)."""
    folder = tmp_path_factory.mktemp("switches")
    with Lab.create(folder / "lab", portgroups=("prod", "test"), isolated=("Isolated",)) as lab:
        sites = lab.dir.read()["sites"]
        names = ("host", "user", "password", "sha256", "port")
        ends = [Endpoint(**{n: site[n] for n in names}) for site in sites]
        control = LabControl(lab.directory)
        with service_of(ends[1]) as service:
            top = service.content.rootFolder.childEntity[0].networkFolder
            (other,) = [n for n in top.childEntity if n.name == "test"]
            tenant = top.CreateFolder("tenant 2")
            WaitForTask(tenant.MoveIntoFolder_Task([other]))
            WaitForTask(other.Rename_Task("prod"))
            moref = other._moId

        def job(network: str | None) -> Job:
            vm = f"vm-x{uuid.uuid4().hex[:5]}"
            control.create_vm("site-a", vm, disks=[(MIB, True, None)])
            mapped = {"VM Network": network} if network else {}
            place = Placement(sites[1]["datastores"][0], f"{vm}-replica", networks=mapped)
            vddk = VddkConfig(config_file=lab.directory / "vixdisklib.conf")
            return Job(vm, ends[0], vm, ends[1], place, folder / "state", vddk=vddk)

        yield job, ends[1], moref, "site-b-dc/network/tenant 2/prod"


@contextmanager
def service_of(end: Endpoint) -> Iterator[Any]:
    service = SmartConnect(
        host=end.host, port=end.port, user=end.user, pwd=end.password, sslContext=unchecked()
    )
    try:
        yield service
    finally:
        Disconnect(service)


def card(end: Endpoint, vm: str) -> str | None:
    with connect(end) as session:
        (nic,) = session.read_vm(session.find_vm(vm)).nics
        return nic.network_moref


def test_a_network_may_be_named_by_id_and_by_path_in_every_run(two_switches: Any) -> None:
    make_job, end, moref, path = two_switches
    for wanted in (moref, path, "tenant 2/prod", f"{path} ({moref})"):
        job = make_job(wanted)
        run(job)
        assert card(end, job.placement.name) == moref
        again = plan(job)
        assert not again.problems
        assert not [s for s in again.steps if "hardware" in s]
        run(job)
        assert card(end, job.placement.name) == moref


def test_an_ambiguous_network_is_refused_for_new_and_old_replicas_and_for_tests(
    two_switches: Any,
) -> None:
    make_job, end, moref, path = two_switches
    choice = f"{path} ({moref})"
    assert any(choice in p for p in plan(make_job("prod")).problems)
    job = make_job("Isolated")
    run(job)
    before = card(end, job.placement.name)
    other = replace(job, placement=replace(job.placement, networks={"VM Network": "prod"}))
    with pytest.raises(PreflightFailed) as caught:
        run(other)
    assert any(choice in p for p in caught.value.problems)
    assert card(end, job.placement.name) == before
    with pytest.raises(PlacementAmbiguous) as refused:
        testing.run_test(job, testing.TestOptions(network="prod"), lambda _: None)
    assert choice in str(refused.value)
    report = testing.run_test(job, testing.TestOptions(network=path), lambda _: None)
    assert report.passed, report.to_dict()
    # The replica is moved to the one that is named, and a test does not go there unasked.
    moved = replace(job, placement=replace(job.placement, networks={"VM Network": path}))
    run(moved)
    assert card(end, job.placement.name) == moref
    with pytest.raises(ProductionNetwork):
        testing.run_test(moved, testing.TestOptions(network=moref), lambda _: None)


def test_a_replica_that_is_a_template_is_a_problem_before_the_copy(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm)
    run(job)
    with world.managed(1, job.placement.name) as replica:
        replica.MarkAsTemplate()
    assert any("is a template" in f.text for f in check_readiness(job).problems)
    with pytest.raises(PreflightFailed):
        run(job)
    assert not world.source_snapshots(vm)


def test_room_for_a_delta_is_said_by_the_plan(world, content: Content) -> None:
    vm = world.make_vm(content(64 * MIB))
    job = world.job(vm)
    world.power_on(vm)
    run(job)
    for seed in range(3):
        world.write(vm, 2000, 0, random.Random(seed).randbytes(24 * MIB))
        run(job)
    store = job.placement.datastore
    with world.datastore_left(1, store, MARGIN - MIB):
        (problem,) = plan(job).problems
        assert "the next run" in problem
        assert "needs 64 MiB" in problem
        assert any("needs 64 MiB" in f.text for f in check_readiness(job).problems)
    with world.datastore_left(1, store, MARGIN + 8 * MIB):
        found = plan(job)
        assert not found.problems
        assert any("is expected to need 88 MiB" in w for w in found.warnings)
    # A source that is off cannot change any more: what it wrote is known now.
    world.write(vm, 2000, 0, random.Random(9).randbytes(40 * MIB))
    world.control.power(world.here, vm, on=False)
    with world.datastore_left(1, store, MARGIN + 30 * MIB):
        (problem,) = plan(job).problems
        assert "needs 104 MiB" in problem


def test_the_datastore_that_counts_is_the_one_that_the_replica_is_on(
    world, content: Content
) -> None:
    first, second = world.sites[1]["datastores"]
    vm = world.make_vm(content(4 * MIB))
    job = world.job(vm)
    run(job)
    with world.managed(1, job.placement.name) as replica:
        (store,) = [d for d in world_datastores(replica) if d.name == second]
        WaitForTask(replica.RelocateVM_Task(vim.vm.RelocateSpec(datastore=store)))
    with world.datastore_left(1, first, MIB):
        assert not plan(job).problems
    with world.datastore_left(1, second, MIB):
        assert any(second in p for p in plan(job).problems)


def world_datastores(vm):
    return vm.runtime.host.datastore


def test_placement_by_path_and_id_is_taken(world, content: Content) -> None:
    name = world.sites[1]["datastores"][0]
    with world.connect(1) as session:
        (store,) = [d for d in session.datastores() if d.name == name]
    for wanted in (store.moref, store.path, f"/{store.path}", f"{store.path} ({store.moref})"):
        vm = world.make_vm(content(4 * MIB))
        job = world.job(vm, placement=Placement(wanted, f"{vm}-replica"))
        assert not check_readiness(job).problems
        run(job)
        assert run(job).disks[0].mode.value == "delta"


def into_vapp(world, site: int, vm: str, *names: str) -> str:
    """Moves a VM into new vApps, the outer one first. Returns its path."""
    with world.managed(site, vm) as found:
        pool, folder, path = found.resourcePool, found.parent, f"{found.parent.parent.name}/vm"
        plain = vim.ResourceAllocationInfo()
        for name in names:
            shares = vim.ResourceConfigSpec(cpuAllocation=plain, memoryAllocation=plain)
            pool = pool.CreateVApp(name, shares, vim.vApp.VAppConfigSpec(), folder)
            folder, path = None, f"{path}/{name}"
        pool.MoveIntoResourcePool([found])
    return f"{path}/{vm}"


def test_vms_in_vapps_have_paths_and_are_replicated(world, content: Content) -> None:
    vm = world.make_vm(content(4 * MIB), power_on=True)
    mark = uuid.uuid4().hex[:6]
    path = into_vapp(world, 0, vm, f"shop-{mark}", f"db-{mark}")
    with world.connect(0) as session:
        assert session.find_vm(path) == session.find_vm(vm)
        assert (session.find_vm(vm), path) in session.vms()
        assert session.look_up_vm(path.replace(f"/db-{mark}", "")) is None
    job = replace(world.job(vm), source_vm=path)
    assert not [f.text for f in check_readiness(job).problems]
    assert run(job).recovered == ()

    # A person moves the replica into a vApp and renames it: it is known by its marks still.
    there = into_vapp(world, 1, f"{vm}-replica", f"dr-{mark}")
    with world.managed(1, f"{vm}-replica") as found:
        WaitForTask(found.Rename_Task(f"{vm}-dr"))
    (job.job_dir / "vms.json").unlink()
    assert plan(job).replica_exists
    assert run(job).disks[0].mode.value == "delta"

    # A clone for a test stays out of the vApp, which somebody may start as a whole.
    testing.run_test(job, testing.TestOptions(keep=True), lambda _: None)
    with world.connect(1) as session:
        assert there.replace(f"{vm}-replica", f"{vm}-dr") in dict(session.vms()).values()
    with world.managed(1, f"{vm}-dr") as replica:
        (clone,) = [v for v in replica.runtime.host.vm if v.name.startswith(f"{vm}-replica-")]
        assert clone.parent == replica.parentVApp.parentFolder
        assert (clone.parentVApp, list(replica.parentVApp.vm)) == (None, [replica])
