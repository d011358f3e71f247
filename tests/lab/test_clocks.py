"""Each vCenter has a clock, and so has each of its hosts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyVim.task import WaitForTask

from vreplica.lab import Lab, LabControl

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _set_right(control: LabControl) -> Iterator[None]:
    yield
    control.set_host("site-a", clock_ahead_s=0.0)
    control.step_clock(0.0)


def ahead(told: datetime) -> int:
    """How many hours a time is ahead of this machine's."""
    return round((told - datetime.now(UTC)) / HOUR)


def test_vcenter_and_host_give_times_of_their_own(
    lab: Lab, control: LabControl, connect: Any
) -> None:
    control.create_vm("site-a", "skewed", disks=[(1 << 20, True, None)])
    control.step_clock(3 * 3600.0, site="site-a")
    control.set_host("site-a", clock_ahead_s=-5 * 3600.0)
    si, other = connect(lab.specs[0]), connect(lab.specs[1])
    vm = find(si, "skewed")
    host = vm.runtime.host
    assert ahead(si.CurrentTime()) == 3
    assert ahead(other.CurrentTime()) == 0
    assert ahead(host.configManager.dateTimeSystem.QueryDateTime()) == -2

    task = vm.CreateSnapshot_Task("now", "", False, False)
    WaitForTask(task)
    WaitForTask(vm.PowerOnVM_Task())
    assert ahead(task.info.queueTime) == ahead(task.info.completeTime) == 3
    assert ahead(si.content.eventManager.latestEvent.createdTime) == 3
    assert ahead(vm.snapshot.rootSnapshotList[0].createTime) == -2
    assert ahead(vm.runtime.bootTime) == -2
    assert ahead(vm.config.modified) == -2

    host.configManager.dateTimeSystem.UpdateDateTime(datetime.now(UTC) + 7 * HOUR)
    assert ahead(host.configManager.dateTimeSystem.QueryDateTime()) == 7
    assert ahead(si.CurrentTime()) == 3


def test_clocks_stay_wrong_over_a_restart(lab: Lab, control: LabControl, connect: Any) -> None:
    control.step_clock(-3600.0, site="site-a")
    control.set_host("site-a", clock_ahead_s=-3600.0)
    control.restart_site("site-a")
    si = connect(lab.specs[0])
    host = si.content.rootFolder.childEntity[0].hostFolder.childEntity[0].host[0]
    assert ahead(si.CurrentTime()) == -1
    assert ahead(host.configManager.dateTimeSystem.QueryDateTime()) == -2


def find(si: Any, name: str) -> Any:
    folder = si.content.rootFolder.childEntity[0].vmFolder
    return si.content.searchIndex.FindChild(folder, name)
