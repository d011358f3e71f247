"""VMs are found by all that names them, with few and small answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyVim.task import WaitForTask

from vreplica.lab import Lab, LabControl
from vreplica.vsphere.errors import AmbiguousVm, VmNotFound
from vreplica.vsphere.inventory import find
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.names import escape, same_name, unescape
from vreplica.vsphere.session import Session, connect

Count = Callable[[], int]


@pytest.fixture(params=["folder by folder", "all names"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to look for a name."""
    if request.param == "all names":
        monkeypatch.setattr(find, "FEW_FOLDERS", 0)


@pytest.fixture
def folder(si: Any) -> Any:
    """A new folder beside the VMs, named `Finance/HR ...`."""
    top = si.content.rootFolder.childEntity[0].vmFolder
    return top.CreateFolder(f"Finance%2fHR {uuid.uuid4().hex[:6]}")


@pytest.fixture
def counted(lab: Lab, endpoint: Any) -> Iterator[tuple[Session, Count]]:
    """A session of its own, and the number of its calls so far."""
    with connect(endpoint()) as session:
        mine = next(reversed(lab.sites["site-a"].sessions.by_key.values()))
        yield session, lambda: int(mine.calls)


def moved(si: Any, vm: VmRef, folder: Any, name: str | None = None) -> None:
    top = si.content.rootFolder.childEntity[0].vmFolder
    (managed,) = [v for v in top.childEntity if v._moId == vm.moref]
    WaitForTask(folder.MoveIntoFolder_Task([managed]))
    if name is not None:
        WaitForTask(managed.Rename_Task(name))


@pytest.mark.usefixtures("way")
def test_a_vm_is_found_by_name_path_moref_and_uuid(source: Session, new_vm: Any) -> None:
    vm = new_vm()
    info = source.read_vm(vm)
    for ref in (
        vm.name,
        f"site-a-dc/vm/{vm.name}",
        f"/site-a-dc/vm/{vm.name}",
        f"site-a-dc/{vm.name}",
        vm.moref,
        info.instance_uuid,
        (info.instance_uuid or "").upper(),
        f"  {vm.name} ",
    ):
        assert source.find_vm(ref) == vm


@pytest.mark.usefixtures("way")
def test_a_name_with_a_slash_is_found_in_both_of_its_forms(
    source: Session, new_vm: Any, folder: Any, si: Any
) -> None:
    vm, name = new_vm(), f"team/{uuid.uuid4().hex[:6]} 50%"
    moved(si, vm, folder, name)
    place = f"site-a-dc/vm/{unescape(folder.name)}"
    for ref in (
        name,
        escape(name),
        f"{place}/{name}",
        f"site-a-dc/vm/{folder.name}/{escape(name)}",
        f"site-a-dc/{unescape(folder.name)}/{name}",
    ):
        assert source.find_vm(ref) == VmRef(vm.moref, name)
    assert source.look_up_vm(f"site-a-dc/vm/{name}") is None


@pytest.mark.usefixtures("way")
def test_two_vms_of_a_name_are_not_chosen_from(
    source: Session, new_vm: Any, folder: Any, si: Any
) -> None:
    one, two = new_vm(), new_vm()
    moved(si, two, folder, one.name)
    with pytest.raises(AmbiguousVm) as caught:
        source.find_vm(one.name)
    assert one.moref in str(caught.value)
    assert two.moref in str(caught.value)
    # Each choice of the message can be given back.
    for choice in caught.value.candidates:
        path, _, moref = choice.removesuffix(")").rpartition(" (")
        assert source.find_vm(path).moref == source.find_vm(moref).moref == moref


def test_what_is_not_there_is_nothing(source: Session) -> None:
    for ref in ("", "no such vm", "vm-999999", str(uuid.uuid4()), "site-a-dc/vm", "a/b/c", "/"):
        assert source.look_up_vm(ref) is None, ref
        with pytest.raises(VmNotFound):
            source.find_vm(ref)
    assert source.find_by_uuid(str(uuid.uuid4())) is None


def test_a_renamed_vm_is_found_by_its_uuid(source: Session, new_vm: Any, si: Any) -> None:
    vm = new_vm()
    known = source.read_vm(vm).instance_uuid
    (managed,) = [
        v for v in si.content.rootFolder.childEntity[0].vmFolder.childEntity if v._moId == vm.moref
    ]
    WaitForTask(managed.Rename_Task("another-name-of-it"))
    assert source.find_by_uuid(known or "") == VmRef(vm.moref, "another-name-of-it")


def test_a_vm_with_snapshots_is_found_by_its_marks(source: Session, new_vm: Any) -> None:
    mark = uuid.uuid4().hex
    marks = {"vreplica.job": "web", "vreplica.source": mark}
    # It is marked after its first snapshot, as a VM that becomes a replica by a failback.
    vm, other = new_vm(), new_vm(extra={"vreplica.job": "web"})
    for one in (vm, other):
        source.create_snapshot(one, "first")
    source.set_extra_config(vm, marks)
    new_vm(extra=marks)  # a clone of it, which has no points
    assert source.find_marked(marks) == (vm,)
    assert source.find_marked({**marks, "vreplica.job": "other"}) == ()


def test_calls_do_not_grow_with_the_number_of_vms(
    counted: tuple[Session, Count], control: LabControl, new_vm: Any
) -> None:
    session, calls = counted
    vm = new_vm(disks=[])
    known = session.read_vm(vm).instance_uuid or ""
    costs = []
    for _ in range(2):
        for find_it in (lambda: session.find_vm(vm.name), lambda: session.find_by_uuid(known)):
            before = calls()
            assert find_it() == vm
            costs.append(calls() - before)
        for _ in range(10):
            new_vm(disks=[])
    assert costs[2:] == costs[:2]
    assert costs[1] == 2  # the search, and its name


def test_one_look_reads_places_folders_and_privileges_once(
    counted: tuple[Session, Count], new_vm: Any
) -> None:
    session, calls = counted
    vm, other = new_vm(disks=[]), new_vm(disks=[])

    def cost() -> int:
        before = calls()
        session.hosts()
        session.datastores()
        session.networks()
        session.find_vm(vm.name)
        session.missing_privileges(session.read_vm(vm))
        return calls() - before

    cost()  # the host's name is read once a session
    alone = cost()
    with session.one_look():
        first, second = cost(), cost()
    assert first < alone
    # Left are the VM itself, the VM in each folder, and its datastores.
    assert second <= first - 5
    assert cost() == alone  # what acts reads anew
    assert session.find_vm(other.name) == other


def test_names_are_escaped_once() -> None:
    for plain, stored in (
        ("team/web01", "team%2fweb01"),
        ("50% off", "50%25 off"),
        ("a\\b", "a%5cb"),
        ("100%", "100%25"),
        ("%2e", "%252e"),
        ("web01", "web01"),
    ):
        assert escape(plain) == escape(escape(plain)) == stored
        assert unescape(stored) == plain
        assert same_name(plain, stored)
    assert escape("team%2Fweb01") == "team%2fweb01"
    assert not same_name("team/web01", "team-web01")
