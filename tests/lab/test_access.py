"""Other ways to a lab's disks (VDDK, NFC, HTTPS), and who may use them."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from vreplica.errors import DiskError, VReplicaError
from vreplica.lab import Lab, LabControl
from vreplica.lab.api.sessions import Call
from vreplica.nfc.open import open_nfc_disk
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.open import open_vddk_disk

MIB = 1 << 20


@pytest.fixture(scope="module")
def running(control: LabControl) -> dict[str, Any]:
    made = control.create_vm(
        "site-a", "source", disks=[(4 * MIB, True, None)], cbt=True, power_on=True
    )
    control.guest_write("site-a", "source", 2000, MIB, b"s" * 4096)
    return made


@pytest.fixture(scope="module")
def replica(control: LabControl) -> dict[str, Any]:
    return control.create_vm("site-a", "replica", disks=[(4 * MIB, True, None)])


def vddk(lab: Lab, made: dict[str, Any], **changes: Any) -> tuple[VddkConfig, VddkConnection]:
    spec = lab.specs[0]
    connection = VddkConnection(
        server=spec.host,
        port=spec.port,
        user=spec.user,
        password=spec.password,
        thumbprint_sha1=lab.dir.certificate(spec.name).thumbprints.sha1,
        vmx_spec=f"moref={made['moref']}",
    )
    config = VddkConfig(config_file=lab.directory / "vixdisklib.conf")
    return config, replace(connection, **changes)


def first(disk: Any, offset: int = MIB) -> bytes:
    buffer = bytearray(512)
    disk.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def test_vddk_reads_the_snapshot_and_not_the_running_leaf(
    lab: Lab, si: Any, running: dict[str, Any]
) -> None:
    path = running["disks"][0]["path"]
    config, connection = vddk(lab, running)
    with pytest.raises(DiskError):
        open_vddk_disk(config, connection, path)
    vm = vim.VirtualMachine(running["moref"], si._stub)
    task = vm.CreateSnapshot_Task("v", "", False, False)
    WaitForTask(task)
    connection = replace(connection, snapshot_ref=task.info.result._moId)
    with open_vddk_disk(config, connection, path) as disk:
        assert first(disk) == b"s" * 512
    WaitForTask(task.info.result.RemoveSnapshot_Task(False))


def test_vddk_refuses_a_wrong_password_and_a_wrong_thumbprint(
    lab: Lab, replica: dict[str, Any]
) -> None:
    path = replica["disks"][0]["path"]
    for changes in ({"password": "wrong"}, {"thumbprint_sha1": "00:" * 19 + "00"}):
        config, connection = vddk(lab, replica, **changes)
        with pytest.raises(VReplicaError):
            open_vddk_disk(config, connection, path)


def test_nfc_reads_a_snapshot_and_writes_a_replica(
    si: Any, running: dict[str, Any], replica: dict[str, Any]
) -> None:
    vm = vim.VirtualMachine(running["moref"], si._stub)
    task = vm.CreateSnapshot_Task("n", "", False, False)
    WaitForTask(task)
    path = running["disks"][0]["path"]
    disk = open_nfc_disk(si, path=path, vm=running["moref"], disk_key=2000)
    assert first(disk) == b"s" * 512
    disk.close()
    WaitForTask(task.info.result.RemoveSnapshot_Task(False))
    with pytest.raises(VReplicaError):
        open_nfc_disk(si, path=path, vm=running["moref"], disk_key=2000)

    target = replica["disks"][0]["path"]
    written = open_nfc_disk(si, path=target, vm=replica["moref"], disk_key=2000, read_only=False)
    written.write_from(MIB, memoryview(b"r" * 512))
    # While it is open for writing the VM can neither start nor be removed.
    twin = vim.VirtualMachine(replica["moref"], si._stub)
    with pytest.raises(vim.fault.FileLocked):
        WaitForTask(twin.PowerOnVM_Task())
    written.flush()
    written.close()
    again = open_nfc_disk(si, path=target, vm=replica["moref"], disk_key=2000)
    assert first(again) == b"r" * 512
    again.close()


def test_a_user_without_the_privilege_gets_no_permission(
    lab: Lab, control: LabControl, connect: Callable[..., Any], replica: dict[str, Any]
) -> None:
    control.set_user("site-a", "reader", "secret", ["VirtualMachine.State.RemoveSnapshot"])
    si = connect(lab.specs[0], user="reader", password="secret")
    vm = vim.VirtualMachine(replica["moref"], si._stub)
    assert vm.name == "replica"
    with pytest.raises(vim.fault.NoPermission) as refused:
        vm.CreateSnapshot_Task("x", "", False, False)
    assert refused.value.privilegeId == "VirtualMachine.State.CreateSnapshot"
    with pytest.raises(vim.fault.NoPermission) as refused:
        vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=True))
    assert refused.value.privilegeId == "VirtualMachine.Config.ChangeTracking"
    with pytest.raises(VReplicaError):
        open_nfc_disk(si, path=replica["disks"][0]["path"], vm=replica["moref"], disk_key=2000)
    control.set_user("site-a", "reader", "secret", ["VirtualMachine.State.CreateSnapshot"])
    WaitForTask(vm.CreateSnapshot_Task("x", "", False, False))


def test_files_take_the_datastores_privileges_and_leave_a_vms_own_alone(
    lab: Lab, si: Any, control: LabControl, connect: Callable[..., Any], replica: dict[str, Any]
) -> None:
    spec = lab.specs[0]
    control.set_user("site-a", "browser", "secret", ["Datastore.Browse"])
    theirs = connect(spec, user="browser", password="secret")
    dc = theirs.content.rootFolder.childEntity[0]
    with pytest.raises(vim.fault.NoPermission) as refused:
        theirs.content.fileManager.MakeDirectory("[site-a-ds1] new", dc, False)
    assert refused.value.privilegeId == "Datastore.FileManagement"
    vm = vim.VirtualMachine(replica["moref"], theirs._stub)
    clone = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=False)
    with pytest.raises(vim.fault.NoPermission):
        vm.CloneVM_Task(vm.parent, "copy", clone)
    context = ssl.create_default_context(cafile=str(lab.directory / "site-a" / "site.pem"))

    def status(method: str, name: str, stub: Any, body: bytes | None = None) -> int:
        web = http.client.HTTPSConnection(spec.host, spec.port, context=context)
        url = f"/folder/{name}?dcPath=site-a-dc&dsName=site-a-ds1"
        web.request(method, url, body, {"Cookie": stub.cookie})
        found = web.getresponse().status
        web.close()
        return found

    assert status("GET", "replica/replica.vmx", theirs._stub) == 200
    assert status("PUT", "replica/notes.txt", theirs._stub, b"x") == 403
    assert status("PUT", "replica/notes.txt", si._stub, b"x") == 201
    for name in ("replica.vmx", "replica.vmdk", "replica-flat.vmdk"):
        assert status("DELETE", f"replica/{name}", si._stub) == 403
    assert status("DELETE", "replica/notes.txt", si._stub) == 204


def test_an_idle_session_expires(
    lab: Lab, control: LabControl, connect: Callable[..., Any]
) -> None:
    si = connect(lab.specs[0])
    root = si.content.rootFolder
    assert root.name == "Datacenters"
    lab.sites["site-a"].sessions.find(si.content.sessionManager.currentSession.key)
    for session in lab.sites["site-a"].sessions.by_key.values():
        session.last_active -= 3600
    with pytest.raises(vim.fault.NotAuthenticated):
        _ = root.name


def test_files_of_a_datastore_over_https_with_ranges(
    lab: Lab, si: Any, replica: dict[str, Any]
) -> None:
    spec = lab.specs[0]
    context = ssl.create_default_context(cafile=str(lab.directory / "site-a" / "site.pem"))
    http_client = http.client.HTTPSConnection(spec.host, spec.port, context=context)
    url = "/folder/replica/replica.vmx?dcPath=site-a-dc&dsName=site-a-ds1"
    cookie = {"Cookie": si._stub.cookie}
    http_client.request("GET", url)
    answer = http_client.getresponse()
    answer.read()
    assert answer.status == 401
    http_client.request("GET", url, headers=cookie)
    whole = http_client.getresponse().read()
    assert b'displayName = "replica"' in whole
    http_client.request("GET", url, headers={**cookie, "Range": "bytes=3-9"})
    answer = http_client.getresponse()
    assert (answer.status, answer.read()) == (206, whole[3:10])
    assert answer.headers["Content-Range"] == f"bytes 3-9/{len(whole)}"
    http_client.request("GET", url.replace("replica/replica", "../../lab"), headers=cookie)
    answer = http_client.getresponse()
    answer.read()
    assert answer.status == 404
    http_client.close()


def test_a_full_datastore_stops_snapshots_thick_disks_and_guests(
    lab: Lab, si: Any, control: LabControl
) -> None:
    made = control.create_vm(
        "site-b", "full", disks=[(4 * MIB, True, None)], power_on=True, datastore="site-b-ds2"
    )
    control.guest_write("site-b", "full", 2000, 0, b"x" * MIB)
    control.set_datastore("site-b", "site-b-ds2", capacity=MIB)
    with pytest.raises(VReplicaError, match="NoDiskSpace"):
        control.guest_write("site-b", "full", 2000, MIB, b"y" * MIB)
    with pytest.raises(VReplicaError, match="NoDiskSpace"):
        control.create_vm("site-b", "thick", disks=[(MIB, False, None)], datastore="site-b-ds2")
    assert made["moref"] in {v["moref"] for v in control.do("list_vms", site="site-b")}
    assert not (lab.directory / "site-b" / "site-b-ds2" / "thick").exists()


# -- faults ---------------------------------------------------------------------------------


@pytest.fixture
def faulty(control: LabControl, replica: dict[str, Any], si: Any) -> Any:
    yield vim.VirtualMachine(replica["moref"], si._stub)
    control.clear_faults("site-a")
    control.set_host("site-a", connected=True)


def test_a_rule_strikes_by_method_object_count_and_skip(control: LabControl, faulty: Any) -> None:
    control.add_fault(
        "site-a",
        method="CreateSnapshot*",
        object="repl*",
        fault="ApplicationQuiesceFault",
        where="task",
        skip=1,
        count=1,
    )
    WaitForTask(faulty.CreateSnapshot_Task("1", "", False, False))
    with pytest.raises(vim.fault.ApplicationQuiesceFault):
        WaitForTask(faulty.CreateSnapshot_Task("2", "", False, False))
    WaitForTask(faulty.CreateSnapshot_Task("3", "", False, False))
    assert control.list_faults("site-a")[0]["struck"] == 1
    WaitForTask(faulty.RemoveAllSnapshots_Task())
    with pytest.raises(VReplicaError, match="no fault"):
        control.add_fault("site-a", fault="Nonsense")


def test_a_lost_reply_leaves_the_work_done(control: LabControl, faulty: Any) -> None:
    control.add_fault("site-a", method="CreateSnapshot_Task", action="lost-reply")
    with pytest.raises((OSError, http.client.HTTPException)):
        faulty.CreateSnapshot_Task("lost", "", False, False)
    while any(t.info.state in ("queued", "running") for t in faulty.recentTask):
        pass
    assert [t.name for t in faulty.snapshot.rootSnapshotList] == ["lost"]
    WaitForTask(faulty.RemoveAllSnapshots_Task())


def test_a_reset_connection_leaves_nothing_done(control: LabControl, faulty: Any) -> None:
    control.add_fault("site-a", method="CreateSnapshot_Task", action="drop")
    with pytest.raises((OSError, http.client.HTTPException)):
        faulty.CreateSnapshot_Task("never", "", False, False)
    assert faulty.snapshot is None


def test_a_task_hangs_until_the_rule_is_taken_away(control: LabControl, faulty: Any) -> None:
    number = control.add_fault("site-a", method="CreateSnapshot_Task", action="hang", where="task")
    task = faulty.CreateSnapshot_Task("hung", "", False, False)
    assert task.info.state in ("queued", "running")
    control.clear_faults("site-a", number)
    WaitForTask(task)
    WaitForTask(faulty.RemoveAllSnapshots_Task())


def test_a_locked_consolidation_leaves_the_need(control: LabControl, faulty: Any) -> None:
    WaitForTask(faulty.CreateSnapshot_Task("s", "", False, False))
    control.add_fault("site-a", action="locked")
    with pytest.raises(vim.fault.FileLocked):
        WaitForTask(faulty.RemoveAllSnapshots_Task())
    assert faulty.runtime.consolidationNeeded
    WaitForTask(faulty.ConsolidateVMDisks_Task())
    assert not faulty.runtime.consolidationNeeded


def test_a_disconnected_host_and_a_lost_session(
    lab: Lab, control: LabControl, connect: Callable[..., Any], faulty: Any
) -> None:
    control.add_fault("site-a", method="PowerOnVM_Task", action="host")
    with pytest.raises(vmodl.fault.HostNotConnected):
        faulty.PowerOnVM_Task()
    assert faulty.runtime.connectionState == "disconnected"
    control.set_host("site-a", connected=True)
    si = connect(lab.specs[0])
    mine = vim.VirtualMachine(faulty._moId, si._stub)
    control.add_fault("site-a", method="RenameSnapshot", action="session")
    control.add_fault("site-a", method="RefreshStorageInfo", action="session")
    with pytest.raises(vim.fault.NotAuthenticated):
        mine.RefreshStorageInfo()
    with pytest.raises(vim.fault.NotAuthenticated):
        _ = mine.name


def test_a_restart_loses_sessions_and_filters(
    lab: Lab, control: LabControl, connect: Callable[..., Any]
) -> None:
    si = connect(lab.specs[0])
    pc = si.content.propertyCollector
    query = vmodl.query.PropertyCollector
    spec = query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=si.content.rootFolder)],
        propSet=[query.PropertySpec(type=vim.Folder, pathSet=["name"])],
    )
    pc.CreateFilter(spec, False)
    version = pc.WaitForUpdatesEx("", query.WaitOptions(maxWaitSeconds=1)).version
    control.restart_site("site-a")
    with pytest.raises(OSError):
        _ = si.content.rootFolder.name
    root = si.content.rootFolder
    with pytest.raises(vim.fault.NotAuthenticated):
        _ = root.name
    si.content.sessionManager.Login(lab.specs[0].user, lab.specs[0].password)
    assert root.name == "Datacenters"
    with pytest.raises(vmodl.query.InvalidCollectorVersion):
        pc.WaitForUpdatesEx(version, query.WaitOptions(maxWaitSeconds=0))


def test_history_collectors_and_events_name_what_was_done(si: Any, faulty: Any) -> None:
    WaitForTask(faulty.CreateSnapshot_Task("h", "", False, False))
    WaitForTask(faulty.RemoveAllSnapshots_Task())
    by_entity = vim.TaskFilterSpec.ByEntity(entity=faulty, recursion="self")
    collector = si.content.taskManager.CreateCollectorForTasks(vim.TaskFilterSpec(entity=by_entity))
    # A new one stands before the oldest.
    names, page = [], collector.ReadNextTasks(2)
    while page:
        names += [t.name.info.wsdlName for t in page]
        page = collector.ReadNextTasks(2)
    assert names[-2:] == ["CreateSnapshot_Task", "RemoveAllSnapshots_Task"]
    collector.SetCollectorPageSize(1)
    collector.ResetCollector()
    assert [t.name.info.wsdlName for t in collector.ReadNextTasks(9)] == names[-1:]
    collector.DestroyCollector()
    events = vim.event.EventFilterSpec(
        entity=vim.event.EventFilterSpec.ByEntity(entity=faulty, recursion="self")
    )
    WaitForTask(faulty.PowerOnVM_Task())
    WaitForTask(faulty.PowerOffVM_Task())
    found = si.content.eventManager.CreateCollectorForEvents(events)
    kinds = [type(e) for e in found.latestPage]
    assert kinds[:2] == [vim.event.VmPoweredOffEvent, vim.event.VmPoweredOnEvent]
    assert found.latestPage[0].userName == "administrator@vsphere.local"


def test_a_session_that_has_ended_is_not_authenticated_rather_than_without_its_objects(
    lab: Lab,
) -> None:
    site = lab.sites["site-a"]
    call = Call(site, session=site.sessions.open("user", "", ""))
    assert call.lookup("propertyCollector", vmodl.query.PropertyCollector)
    site.sessions.close(call.session.key)
    with pytest.raises(vim.fault.NotAuthenticated):
        call.lookup("propertyCollector", vmodl.query.PropertyCollector)
