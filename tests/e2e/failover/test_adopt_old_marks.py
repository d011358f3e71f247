"""Adopting what older versions have marked, and what this version has marked for later ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim

from tests.support.reporting import quiet
from tests.support.sample_reading import SAMPLES, Stored
from vreplica.failover import operations
from vreplica.failover.adopt import adopt, read_adoptable
from vreplica.failover.machine.choices import FailoverChoices
from vreplica.failover.machine.states import FailoverState
from vreplica.points.vm_keys import CLAIM_KEY, FAILOVER_KEY
from vreplica.sync.claim.in_failover import in_failover
from vreplica.sync.cycle import run
from vreplica.sync.errors import ReplicaInFailover
from vreplica.sync.job import Job
from vreplica.units import MIB

Content = Callable[..., Path]
YES = FailoverChoices(shutdown_timeout_s=20, heartbeat_timeout_s=20)
FAILOVER = "fo-20261130T184323Z-833ee2"
TODAY = (
    '{"v":1,"owner":"fo-20261201T032516Z-29f2e0","run":"fo-20261201T032516Z-29f2e0",'
    '"token":"5c","epoch":4,"kind":"failover","user":"root","host":"mover1","pid":27994,'
    '"process":"b/4026/27994/1","since":"2026-12-01T03:25:19+00:00",'
    '"renewed":"2026-12-01T03:25:19+00:00"}'
)
"""A claim of the version before failovers were marked."""


def test_a_replica_that_the_first_version_has_started_is_in_service() -> None:
    standing = in_failover(Stored(SAMPLES / "v0_1/vms/web01-booted.json").info.extra_config)
    assert standing is not None
    assert (standing.failover, standing.in_service, standing.mark) == (FAILOVER, True, None)
    assert standing.in_words == f"is in service by failover {FAILOVER} of 2026-11-30 18:43:23 UTC"


def test_a_claim_without_a_journal_is_read() -> None:
    standing = in_failover({CLAIM_KEY: TODAY})
    assert standing is not None
    assert (standing.booted, standing.mover, standing.state) == (False, "mover1", None)
    assert standing.claim is not None
    assert standing.claim.journal == ""


def strip(world, job: Job, *keys: str) -> None:
    """Takes keys off the replica, which older versions did not have."""
    with world.managed(1, job.placement.name) as vm:
        options = [vim.option.OptionValue(key=key, value="") for key in keys]
        WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=options)))


@pytest.mark.parametrize("keys", [(FAILOVER_KEY,), (FAILOVER_KEY, CLAIM_KEY)])
def test_it_is_adopted_as_in_service_or_as_the_catalog_knows_it(
    world, content: Content, tmp_path: Path, keys: tuple[str, ...]
) -> None:
    vm = world.make_vm(content(4 * MIB), guest_id="windows2019srv_64Guest")
    job = world.job(vm)
    world.power_on(vm)
    run(job)
    began = operations.fail_over(job, YES, quiet)
    strip(world, job, *keys)
    elsewhere = replace(job, state_dir=tmp_path / "elsewhere")
    with pytest.raises(ReplicaInFailover, match=began.id) as refused:
        operations.undo(elsewhere, quiet)
    assert "failover adopt" in refused.value.advice()
    known = {job.name: {began.id: "committed"}}
    (found,) = read_adoptable(elsewhere, known).found
    assert found.state is FailoverState.COMMITTED
    seen = read_adoptable(elsewhere)
    outcome = adopt(elsewhere, seen, quiet).outcome
    assert outcome is not None
    assert (outcome.id, outcome.state) == (began.id, FailoverState.RUNNING)
    assert outcome.facts["point"] == f"{began.id}-b"
    assert operations.undo(elsewhere, quiet).state is FailoverState.UNDONE
    with world.connect(0) as one, world.connect(1) as other:
        assert one.power_state(one.find_vm(vm)) == "poweredOn"
        assert other.power_state(other.find_vm(job.placement.name)) == "poweredOff"
