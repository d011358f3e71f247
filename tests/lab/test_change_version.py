"""`config.changeVersion` guards a reconfiguration, and every change of a VM makes a new one.

pyVmomi is the client. What real servers do: vSphere API (VirtualMachineConfigSpec.changeVersion),
and logs of vpxd and of its clients in vmware/vic's issues 6642 and 6929 and pull request 2510.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from vreplica.lab import Lab, LabControl
from vreplica.units import MIB


@pytest.fixture
def vm(si: Any, control: LabControl) -> Iterator[Any]:
    moref = control.create_vm("site-a", "web01", [(MIB, True, None)])["moref"]
    made = vim.VirtualMachine(moref, si._stub)
    yield made
    if made.runtime.powerState == "poweredOn":
        WaitForTask(made.PowerOffVM_Task())
    WaitForTask(made.Destroy_Task())


def note(text: str, version: str | None = None) -> Any:
    return vim.vm.ConfigSpec(annotation=text, changeVersion=version)


def snapshot(vm: Any, name: str = "s") -> Any:
    task = vm.CreateSnapshot_Task(name=name, description="", memory=False, quiesce=False)
    WaitForTask(task)
    return task.info.result


def test_a_spec_with_the_current_version_is_applied(vm: Any) -> None:
    before = vm.config.changeVersion
    WaitForTask(vm.ReconfigVM_Task(note("first", before)))
    assert vm.config.annotation == "first"
    assert vm.config.changeVersion != before


def test_a_spec_without_a_version_is_always_applied(vm: Any) -> None:
    WaitForTask(vm.ReconfigVM_Task(note("first")))
    WaitForTask(vm.ReconfigVM_Task(note("second")))
    assert vm.config.annotation == "second"


def test_a_spec_with_an_older_version_fails_in_the_task_and_changes_nothing(vm: Any) -> None:
    old = vm.config.changeVersion
    WaitForTask(vm.ReconfigVM_Task(note("mine")))
    current = vm.config.changeVersion
    task = vm.ReconfigVM_Task(note("theirs", old))  # the call itself succeeds
    with pytest.raises(vim.fault.ConcurrentAccess, match="concurrent modification"):
        WaitForTask(task)
    assert vm.config.annotation == "mine"
    assert vm.config.changeVersion == current


def test_a_refused_spec_leaves_no_disk_file(vm: Any, lab: Lab) -> None:
    controller = next(
        d for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualSCSIController)
    )
    disk = vim.vm.device.VirtualDisk(
        key=-1,
        controllerKey=controller.key,
        unitNumber=5,
        capacityInKB=1024,
        backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName="", diskMode="persistent", thinProvisioned=True
        ),
    )
    change = vim.vm.device.VirtualDeviceSpec(operation="add", fileOperation="create", device=disk)
    folder = lab.directory / "site-a" / "site-a-ds1" / "web01"
    before = sorted(f.name for f in folder.iterdir())
    spec = vim.vm.ConfigSpec(changeVersion="2017-11-21T13:16:07.743507Z", deviceChange=[change])
    with pytest.raises(vim.fault.ConcurrentAccess):
        WaitForTask(vm.ReconfigVM_Task(spec))
    assert sorted(f.name for f in folder.iterdir()) == before
    assert len([d for d in vm.config.hardware.device if d.key >= 2000 and d.key < 3000]) == 1


def test_of_two_tasks_that_started_with_one_version_only_one_changes_the_vm(
    vm: Any, control: LabControl
) -> None:
    version = vm.config.changeVersion
    control.settings("site-a", task_delay_s=0.3)
    try:
        # Both calls come back before either task has changed anything.
        tasks = [vm.ReconfigVM_Task(note(text, version)) for text in ("one", "two")]
        outcomes = [outcome(t) for t in tasks]
    finally:
        control.settings("site-a", task_delay_s=0.0)
    assert outcomes.count("done") == 1
    assert {*outcomes} <= {"done", "ConcurrentAccess", "TaskInProgress"}
    assert vm.config.annotation == ("one", "two")[outcomes.index("done")]


def outcome(task: Any) -> str:
    try:
        WaitForTask(task)
    except vmodl.MethodFault as error:
        return type(error).__name__.rpartition(".")[2]
    return "done"


def test_a_counter_that_many_clients_raise_by_version_loses_no_step(
    vm: Any, lab: Lab, connect: Callable[..., Any]
) -> None:
    clients, steps = 4, 8
    instances = [connect(lab.specs[0]) for _ in range(clients)]
    refused = []

    def count(instance: Any) -> None:
        mine = vim.VirtualMachine(vm._moId, instance._stub)
        done = 0
        while done < steps:
            config = mine.config
            spec = note(str(int(config.annotation or "0") + 1), config.changeVersion)
            found = outcome(mine.ReconfigVM_Task(spec))
            if found == "done":
                done += 1
            else:
                refused.append(found)

    threads = [threading.Thread(target=count, args=(i,)) for i in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert vm.config.annotation == str(clients * steps)
    assert {*refused} <= {"ConcurrentAccess", "TaskInProgress"}


def _change_tracking(vm: Any) -> None:
    WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=True)))


def _extra(vm: Any) -> None:
    option = vim.option.OptionValue(key="guestinfo.owner", value="me")
    WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[option])))


def _revert(vm: Any) -> None:
    WaitForTask(vm.snapshot.currentSnapshot.RevertToSnapshot_Task())


def _remove_one(vm: Any) -> None:
    WaitForTask(vm.snapshot.currentSnapshot.RemoveSnapshot_Task(removeChildren=False))


def _template(vm: Any) -> None:
    vm.MarkAsTemplate()
    pool = vm.runtime.host.parent.resourcePool
    vm.MarkAsVirtualMachine(pool=pool, host=vm.runtime.host)


def _relocate(vm: Any) -> None:
    other = next(d for d in vm.runtime.host.datastore if d.name == "site-a-ds2")
    WaitForTask(vm.RelocateVM_Task(vim.vm.RelocateSpec(datastore=other)))


CHANGES: dict[str, Callable[[Any], Any]] = {
    "reconfigure": lambda vm: WaitForTask(vm.ReconfigVM_Task(note("x"))),
    "extraConfig": _extra,
    "change tracking": _change_tracking,
    "rename": lambda vm: WaitForTask(vm.Rename_Task("web02")),
    "create a snapshot": snapshot,
    "revert": _revert,
    "remove a snapshot": _remove_one,
    "remove all snapshots": lambda vm: WaitForTask(vm.RemoveAllSnapshots_Task()),
    "power on": lambda vm: WaitForTask(vm.PowerOnVM_Task()),
    "power off": lambda vm: WaitForTask(vm.PowerOffVM_Task()),
    "template": _template,
    "relocate": _relocate,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_makes_a_new_version_and_the_one_before_is_refused(vm: Any, name: str) -> None:
    snapshot(vm, "base")
    if name == "power off":
        WaitForTask(vm.PowerOnVM_Task())
    before = vm.config.changeVersion
    CHANGES[name](vm)
    after = vm.config.changeVersion
    assert datetime.fromisoformat(after) > datetime.fromisoformat(before)
    with pytest.raises(vim.fault.ConcurrentAccess):
        WaitForTask(vm.ReconfigVM_Task(note("late", before)))
    WaitForTask(vm.ReconfigVM_Task(note("in time", after)))


def test_a_revert_does_not_bring_an_old_version_back(vm: Any) -> None:
    taken = snapshot(vm)
    seen = [taken.config.changeVersion, vm.config.changeVersion]
    for _ in range(3):
        WaitForTask(taken.RevertToSnapshot_Task())
        seen.append(vm.config.changeVersion)
    assert len({*seen}) == len(seen)
    assert seen == sorted(seen)
    assert taken.config.changeVersion == seen[0]


def test_what_changes_nothing_leaves_the_version(vm: Any) -> None:
    taken = snapshot(vm)
    before = vm.config.changeVersion
    taken.RenameSnapshot(name="other", description="")
    vm.RefreshStorageInfo()
    assert vm.config.changeVersion == before


def test_a_clock_that_goes_back_makes_no_version_twice(vm: Any, control: LabControl) -> None:
    seen = [vm.config.changeVersion]
    control.step_clock(-25 * 365 * 86400.0, site="site-a")
    try:
        for number in range(3):
            WaitForTask(vm.ReconfigVM_Task(note(str(number), seen[-1])))
            seen.append(vm.config.changeVersion)
    finally:
        control.step_clock(0.0)
    assert seen == sorted({*seen})


def test_a_client_that_waits_is_told_of_a_new_version(
    lab: Lab, vm: Any, connect: Callable[..., Any]
) -> None:
    query = vmodl.query.PropertyCollector
    # A session of its own: WaitForTask waits through the collector of the other one.
    collector = connect(lab.specs[0]).content.propertyCollector
    made = collector.CreateFilter(
        query.FilterSpec(
            objectSet=[query.ObjectSpec(obj=vm)],
            propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=["config.changeVersion"])],
        ),
        True,
    )
    first = collector.WaitForUpdates(None)
    WaitForTask(vm.ReconfigVM_Task(note("x")))
    second = collector.WaitForUpdates(first.version)
    (change,) = second.filterSet[0].objectSet[0].changeSet
    assert (change.name, change.val) == ("config.changeVersion", vm.config.changeVersion)
    made.DestroyPropertyFilter()


def test_the_version_outlives_the_lab(tmp_path: Path, connect: Callable[..., Any]) -> None:
    seen = []
    with Lab.create(tmp_path / "lab", sites=("site-a",)) as lab:
        LabControl(lab.directory).create_vm("site-a", "web01", [(MIB, True, None)])
    for _ in range(2):
        with Lab(tmp_path / "lab") as lab:
            content = connect(lab.specs[0]).content
            found = content.rootFolder.childEntity[0].vmFolder.childEntity[0]
            seen.append(found.config.changeVersion)
    assert seen[0] == seen[1]
