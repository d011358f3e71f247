"""Finding and reading through a real SOAP server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from vreplica.lab import Lab, LabControl
from vreplica.lab.api import collector
from vreplica.units import MIB
from vreplica.vsphere.errors import HostUnreachable, VmNotFound
from vreplica.vsphere.inventory import history
from vreplica.vsphere.model import Endpoint, VmRef
from vreplica.vsphere.session import Session, connect


@pytest.fixture(autouse=True)
def no_faults_left(control: LabControl) -> Iterator[None]:
    yield
    control.clear_faults("site-a")


def test_the_server_says_what_it_is(source: Session, endpoint: Any) -> None:
    assert source.about.is_vcenter
    assert source.about.instance_uuid
    assert source.about.version.startswith("8.")
    assert len(source.thumbprint_sha1) == 59
    assert endpoint().password not in repr(source)


def test_an_unknown_vm_is_answered_with_similar_names(source: Session, new_vm: Any) -> None:
    vm = new_vm()
    with pytest.raises(VmNotFound) as caught:
        source.find_vm(vm.name[:-1].upper())
    assert vm.name in caught.value.similar
    assert vm.name in str(caught.value)
    with pytest.raises(VmNotFound):
        source.find_vm("")
    with pytest.raises(VmNotFound):
        source.find_vm("site-a-dc/vm")


def test_a_vm_is_read_whole(source: Session, new_vm: Any, control: LabControl) -> None:
    vm = new_vm(
        disks=[(8 * MIB, True, None), (12 * MIB, False, None)],
        cpus=4,
        memory_mib=2048,
        firmware="efi",
        extra={"disk.EnableUUID": "TRUE"},
        power_on=True,
    )
    info = source.read_vm(vm)
    assert info.ref == vm
    assert (info.cpus, info.memory_mib, info.firmware) == (4, 2048, "efi")
    assert (info.power_state, info.connection_state) == ("poweredOn", "connected")
    assert (info.tools_running, info.tools_status) == (True, "running")
    assert (info.guest_family, info.guest_id) == ("linux", "ubuntu64Guest")
    assert (info.cbt_supported, info.cbt_enabled, info.is_template) == (True, False, False)
    assert info.extra_config["disk.EnableUUID"] == "TRUE"
    assert info.host == "esx1.site-a.lab"
    assert info.datastores == ("site-a-ds1",)
    assert info.vmx_path.startswith("[site-a-ds1] ")
    assert (info.snapshots, info.current_snapshot, info.consolidation_needed) == ((), None, False)
    first, second = info.disks
    assert (first.key, first.capacity_bytes, first.thin) == (2000, 8 * MIB, True)
    assert (second.key, second.capacity_bytes, second.thin) == (2001, 12 * MIB, False)
    assert first.position == ("pvscsi", 0, 0)
    assert first.datastore == "site-a-ds1"
    assert (first.mode, first.sharing, first.backing) == ("persistent", "sharingNone", "flat")
    assert first.uuid != second.uuid
    assert info.disk(2001) == second
    with pytest.raises(KeyError):
        info.disk(2002)
    (nic,) = info.nics
    assert (nic.type, nic.network) == ("vmxnet3", "VM Network")
    assert not info.encrypted
    assert not info.has_vtpm


def test_a_read_is_fresh(source: Session, new_vm: Any, control: LabControl) -> None:
    vm = new_vm()
    assert source.read_vm(vm).power_state == "poweredOff"
    assert source.read_guest(vm).guest_state == "notRunning"
    control.power("site-a", vm.moref, on=True)
    assert source.read_vm(vm).power_state == "poweredOn"
    control.set_guest("site-a", vm.moref, tools="notRunning")
    assert source.read_vm(vm).tools_status == "not running"
    control.set_guest("site-a", vm.moref, tools="notInstalled", hostname="h")
    assert source.read_vm(vm).tools_status == "not installed"
    guest = source.read_guest(vm)
    assert (guest.tools_running, guest.heartbeat) == (False, "gray")


def test_a_vm_costs_one_request(lab: Lab, endpoint: Any, new_vm: Any) -> None:
    vm = new_vm(disks=[(MIB, True, None)] * 5)
    with connect(endpoint()) as session:
        session.read_vm(vm)
        calls = next(iter(reversed(lab.sites["site-a"].sessions.by_key.values())))
        before = calls.calls
        session.read_vm(vm)
        assert calls.calls - before == 1


def test_places_are_read(source: Session) -> None:
    assert [d.name for d in source.datastores()] == ["site-a-ds1", "site-a-ds2"]
    assert all(0 < d.free_bytes <= d.capacity_bytes for d in source.datastores())
    (host,) = source.hosts()
    assert (host.name, host.connection_state) == ("esx1.site-a.lab", "connected")
    assert host.datastores == ("site-a-ds1", "site-a-ds2")
    assert [n.name for n in source.networks()] == ["Isolated", "VM Network"]


def test_many_vms_fit_into_one_answer(source: Session, new_vm: Any) -> None:
    made = [new_vm(disks=[]) for _ in range(30)]
    assert source.find_vm(made[-1].name) == made[-1]


def test_own_tasks_and_events_are_read_back(source: Session, new_vm: Any) -> None:
    vm = new_vm()
    before = source.refresh()
    source.power_on(vm)
    source.power_off(vm)
    tasks = source.recent_tasks(vm)
    assert [t.state for t in tasks] == ["success", "success"]
    assert [t.operation.rpartition(".")[2] for t in tasks] == ["powerOn", "powerOff"]
    assert all(t.entity_moref == vm.moref for t in tasks)
    assert all(t.queued >= before for t in tasks)
    assert {t.key for t in tasks} <= {t.key for t in source.recent_tasks()}
    kinds = [e.type for e in source.events(vm, since=before)]
    assert kinds.index("VmPoweredOnEvent") < kinds.index("VmPoweredOffEvent")
    assert all(e.vm == vm.name for e in source.events(vm))


def test_the_history_is_read_page_by_page(
    source: Session, new_vm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is recent no more: that is where a record is compared with vCenter's own."""
    monkeypatch.setattr(history, "PAGE", 2)
    monkeypatch.setattr(history, "recent_tasks", lambda *_: ())
    vm = new_vm()
    before = source.refresh()
    for _ in range(2):
        source.power_on(vm)
        source.power_off(vm)
    after = source.refresh()
    tasks = source.tasks_between(vm, before, after)
    assert [t.operation.rpartition(".")[2] for t in tasks] == ["powerOn", "powerOff"] * 2
    kinds = ("VmPoweredOnEvent", "VmPoweredOffEvent")
    events = source.events_between(vm, before, after, kinds)
    assert [e.type for e in events] == [*kinds, *kinds]
    assert source.events_between(vm, before, after, ["VmMigratedEvent"]) == ()
    assert source.tasks_between(vm, after.replace(year=2099), after.replace(year=2100)) == ()


@pytest.mark.parametrize("action", ["lost-reply", "session"])
def test_a_page_of_the_history_that_is_lost_is_not_left_out(
    source: Session,
    new_vm: Any,
    control: LabControl,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
) -> None:
    """Asked again, the server would give out the next one."""
    monkeypatch.setattr(history, "PAGE", 1)
    monkeypatch.setattr(history, "recent_tasks", lambda *_: ())
    vm = new_vm()
    before = source.refresh()
    source.power_on(vm)
    source.power_off(vm)
    after = source.refresh()
    for method in ("ReadNextTasks", "ReadNextEvents"):
        control.add_fault("site-a", method=method, action=action, skip=1)
    tasks = source.tasks_between(vm, before, after)
    assert [t.operation.rpartition(".")[2] for t in tasks] == ["powerOn", "powerOff"]
    kinds = ("VmPoweredOnEvent", "VmPoweredOffEvent")
    assert [e.type for e in source.events_between(vm, before, after, kinds)] == [*kinds]
    assert [rule["struck"] for rule in control.list_faults("site-a")] == [1, 1]


@pytest.mark.parametrize("action", ["lost-reply", "session"])
def test_an_inventory_of_several_pages_is_read_whole_when_one_is_lost(
    source: Session, control: LabControl, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    def look() -> tuple[Any, ...]:
        # Free space follows what other tests have written, a second later.
        stores = tuple(replace(d, free_bytes=0) for d in source.datastores())
        return stores, source.hosts(), source.networks()

    whole = look()
    monkeypatch.setattr(collector, "PAGE", 2)
    control.add_fault("site-a", method="ContinueRetrievePropertiesEx", action=action, skip=1)
    assert look() == whole
    assert [rule["struck"] for rule in control.list_faults("site-a")] == [1]


def test_a_page_that_never_comes_is_told_for_what_it_is(
    source: Session, control: LabControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "PAGE", 2)
    control.add_fault(
        "site-a", method="ContinueRetrievePropertiesEx", action="lost-reply", count=None
    )
    with pytest.raises(HostUnreachable):
        source.hosts()


def test_a_server_without_collectors_has_its_recent_tasks(
    source: Session, new_vm: Any, control: LabControl
) -> None:
    vm = new_vm()
    before = source.refresh()
    source.power_on(vm)
    after = source.refresh()
    for method in ("CreateCollectorForTasks", "CreateCollectorForEvents"):
        control.add_fault("site-a", method=method, fault="NotSupported", count=1)
    (task,) = source.tasks_between(vm, before, after)
    assert task.operation.endswith("powerOn")
    assert source.events_between(vm, before, after, ["VmPoweredOnEvent"]) == ()


def test_a_vm_that_never_was_has_no_events(source: Session) -> None:
    later = source.refresh().replace(year=2099)
    assert source.events(since=later) == ()


def test_a_session_ends_with_its_with_block(lab: Lab, endpoint: Any) -> None:
    open_before = set(lab.sites["site-a"].sessions.by_key)
    with connect(endpoint()) as session:
        assert session.refresh()
        assert len(lab.sites["site-a"].sessions.by_key) == len(open_before) + 1
    assert set(lab.sites["site-a"].sessions.by_key) == open_before


def test_pins_are_taken_in_any_form(endpoint: Any) -> None:
    point: Endpoint = endpoint()
    for text in (point.sha256.lower(), point.sha256.replace(":", "")):
        with connect(endpoint(sha256=text)) as session:
            assert session.about.is_vcenter


def test_values_can_be_pickled(source: Session, new_vm: Any) -> None:
    import pickle

    info = source.read_vm(new_vm())
    assert pickle.loads(pickle.dumps(info)) == info
    assert VmRef(info.ref.moref, info.name) == info.ref
