"""Scripts as administrators write them with pyvmomi: list, snapshot, clone, power, wait, tidy up.

Nothing of this knows that it talks to a lab; it is the way the public community samples go about
it (container views, PropertyCollector filters to wait for tasks, folders by name).
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from vreplica.lab import Lab, LabControl
from vreplica.units import MIB


@pytest.fixture(scope="module", autouse=True)
def machines(control: LabControl) -> None:
    for name in ("web01", "db01"):
        control.create_vm(
            "site-a", name, [(4 * MIB, True, None)], guest_id="ubuntu64Guest", cbt=True
        )


def all_of(content: Any, kind: Any) -> list[Any]:
    view = content.viewManager.CreateContainerView(content.rootFolder, [kind], True)
    try:
        return list(view.view)
    finally:
        view.Destroy()


def by_name(content: Any, kind: Any, name: str) -> Any:
    return next(o for o in all_of(content, kind) if o.name == name)


def wait_for_tasks(si: Any, tasks: list[Any]) -> None:
    """With one filter over all tasks and WaitForUpdates, until every one has ended."""
    collector, kinds = si.content.propertyCollector, vmodl.query.PropertyCollector
    waiting = {str(t) for t in tasks}
    spec = kinds.FilterSpec(
        objectSet=[kinds.ObjectSpec(obj=t) for t in tasks],
        propSet=[kinds.PropertySpec(type=vim.Task, pathSet=[], all=True)],
    )
    made, version = collector.CreateFilter(spec, True), None
    try:
        while waiting:
            update = collector.WaitForUpdates(version)
            for changed in (o for f in update.filterSet for o in f.objectSet):
                for change in changed.changeSet:
                    state = change.val.state if change.name == "info" else change.val
                    if change.name not in ("info", "info.state"):
                        continue
                    if state == vim.TaskInfo.State.success:
                        waiting.discard(str(changed.obj))
                    elif state == vim.TaskInfo.State.error:
                        raise changed.obj.info.error
            version = update.version
    finally:
        made.Destroy()


def test_machines_hosts_and_datastores_are_listed(si: Any) -> None:
    content = si.RetrieveContent()
    lines = []
    for vm in all_of(content, vim.VirtualMachine):
        summary = vm.summary
        lines.append((summary.config.name, summary.config.vmPathName, summary.runtime.powerState))
        assert summary.config.guestFullName == "Ubuntu Linux (64-bit)"
        assert summary.runtime.question is None
    assert ("web01", "[site-a-ds1] web01/web01.vmx", "poweredOff") in lines
    for host in all_of(content, vim.HostSystem):
        assert host.summary.hardware.numCpuCores > 0
        assert host.config.network.pnic
    for store in all_of(content, vim.Datastore):
        assert 0 < store.summary.freeSpace <= store.summary.capacity
        assert store.summary.type == "VMFS"


def test_snapshots_are_made_found_in_the_tree_and_removed(si: Any) -> None:
    vm = by_name(si.RetrieveContent(), vim.VirtualMachine, "web01")
    for number in range(3):
        wait_for_tasks(si, [vm.CreateSnapshot(f"s{number}", "by a script", False, False)])

    def listed(trees: Any) -> list[Any]:
        return [t for tree in trees for t in (tree, *listed(tree.childSnapshotList))]

    trees = listed(vm.snapshot.rootSnapshotList)
    assert [t.name for t in trees] == ["s0", "s1", "s2"]
    wait_for_tasks(si, [trees[1].snapshot.RevertToSnapshot_Task()])
    assert vm.snapshot.currentSnapshot == trees[1].snapshot
    wait_for_tasks(si, [trees[2].snapshot.RemoveSnapshot_Task(False)])
    wait_for_tasks(si, [vm.RemoveAllSnapshots()])
    assert vm.snapshot is None


def test_a_machine_is_cloned_into_a_folder_powered_and_destroyed(si: Any) -> None:
    content = si.RetrieveContent()
    template = by_name(content, vim.VirtualMachine, "db01")
    folder = template.parent.CreateFolder("clones")
    place = vim.vm.RelocateSpec(
        datastore=by_name(content, vim.Datastore, "site-a-ds2"),
        pool=all_of(content, vim.ResourcePool)[0],
    )
    spec = vim.vm.CloneSpec(location=place, powerOn=True, template=False)
    tasks = [template.Clone(folder=folder, name=f"clone{n}", spec=spec) for n in range(2)]
    wait_for_tasks(si, tasks)
    clones = [t.info.result for t in tasks]
    assert [c.runtime.powerState for c in clones] == ["poweredOn"] * 2
    assert {c.datastore[0].name for c in clones} == {"site-a-ds2"}
    with pytest.raises(vim.fault.InvalidPowerState):
        wait_for_tasks(si, [clones[0].PowerOn()])
    clones[0].ShutdownGuest()
    while clones[0].runtime.powerState != "poweredOff":
        time.sleep(0.02)
    wait_for_tasks(si, [clones[1].PowerOff()])
    wait_for_tasks(si, [c.Destroy() for c in clones])
    wait_for_tasks(si, [folder.Destroy()])
    assert "clones" not in [f.name for f in all_of(content, vim.Folder)]


def test_attributes_search_and_migration(lab: Lab, si: Any, control: LabControl) -> None:
    content = si.RetrieveContent()
    vm = by_name(content, vim.VirtualMachine, "web01")
    content.customFieldsManager.AddCustomFieldDef("owner", vim.VirtualMachine)
    vm.setCustomValue("owner", "ops")
    assert [v.value for v in vm.customValue] == ["ops"]
    wait_for_tasks(si, [vm.PowerOn()])
    control.set_guest("site-a", "web01", ip="192.0.2.80", hostname="web01.example")
    search = content.searchIndex
    assert list(search.FindAllByDnsName(None, "web01.example", True)) == [vm]
    assert list(search.FindAllByIp(None, "192.0.2.80", True)) == [vm]
    assert search.FindByUuid(None, vm.config.instanceUuid, True, True) == vm
    wait_for_tasks(si, [vm.Migrate(host=vm.runtime.host, priority="defaultPriority")])
    wait_for_tasks(si, [vm.PowerOff()])


def test_nothing_is_done_on_a_host_that_vcenter_has_lost(si: Any, control: LabControl) -> None:
    vm = by_name(si.RetrieveContent(), vim.VirtualMachine, "db01")
    control.set_host("site-a", connected=False)
    try:
        assert vm.runtime.connectionState == "disconnected"
        for call in (
            lambda: vm.CreateSnapshot_Task("s", "", False, False),
            lambda: vm.ReconfigVM_Task(vim.vm.ConfigSpec(annotation="x")),
            lambda: vm.Destroy_Task(),
            lambda: vm.QueryChangedDiskAreas(None, 2000, 0, "*"),
        ):
            with pytest.raises(vmodl.fault.HostNotConnected):
                call()
    finally:
        control.set_host("site-a", connected=True)
    wait_for_tasks(si, [vm.CreateSnapshot_Task("s", "", False, False)])
    wait_for_tasks(si, [vm.RemoveAllSnapshots_Task()])
