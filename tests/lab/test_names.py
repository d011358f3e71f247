"""Names of inventory objects: escaped as vCenter stores them, at most 80 characters, unique."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyVim.task import WaitForTask
from pyVmomi import vim

from vreplica.lab import LabControl
from vreplica.lab.api.names import NAME_MAX, escape_name, plain_name

MIB = 1 << 20


@pytest.fixture
def vms(si: Any) -> Iterator[Any]:
    """A folder of its own for a test."""
    made = si.content.rootFolder.childEntity[0].vmFolder.CreateFolder("names")
    yield made
    for vm in made.childEntity:
        WaitForTask(vm.Destroy_Task())
    WaitForTask(made.Destroy_Task())


def create(si: Any, folder: Any, name: str) -> Any:
    """A VM without devices, made as a client makes it."""
    cluster = si.content.rootFolder.childEntity[0].hostFolder.childEntity[0]
    files = vim.vm.FileInfo(vmPathName="[site-a-ds1]")
    spec = vim.vm.ConfigSpec(name=name, files=files, guestId="otherGuest64")
    task = folder.CreateVM_Task(spec, cluster.resourcePool)
    WaitForTask(task)
    return task.info.result


@pytest.mark.parametrize(
    ("given", "stored", "folder"),
    [
        ("team/web01", "team%2fweb01", "team_web01"),
        ("team%2fweb02", "team%2fweb02", "team_web02"),
        ("team%2Fweb03", "team%2fweb03", "team_web03"),
        ("50% off", "50%25 off", "50_ off"),
        ("51%25 off", "51%25 off", "51_ off"),
        ("a\\b%20c", "a%5cb%2520c", "a_b_20c"),
    ],
)
def test_a_name_is_stored_escaped(si: Any, vms: Any, given: str, stored: str, folder: str) -> None:
    vm = create(si, vms, given)
    assert (vm.name, vm.config.name, vm.summary.config.name) == (stored, stored, stored)
    assert vm.config.files.vmPathName == f"[site-a-ds1] {folder}/{folder}.vmx"
    search = si.content.searchIndex
    assert search.FindByInventoryPath(f"site-a-dc/vm/names/{stored}") == vm
    assert search.FindChild(vms, stored) == vm
    # The escaped and the plain form are one name.
    with pytest.raises(vim.fault.DuplicateName) as raised:
        create(si, vms, given)
    assert (raised.value.name, raised.value.object) == (stored, vm)
    with pytest.raises(vim.fault.DuplicateName):
        create(si, vms, plain_name(stored))


def test_a_rename_escapes_and_checks_like_a_creation(si: Any, vms: Any) -> None:
    first, second = create(si, vms, "first"), create(si, vms, "second")
    WaitForTask(first.Rename_Task("a/b"))
    assert (first.name, first.config.name) == ("a%2fb", "a%2fb")
    WaitForTask(second.ReconfigVM_Task(vim.vm.ConfigSpec(name="c/d")))
    assert (second.name, second.config.name) == ("c%2fd", "c%2fd")
    with pytest.raises(vim.fault.DuplicateName):
        WaitForTask(second.Rename_Task("a%2fb"))
    with pytest.raises(vim.fault.DuplicateName):
        WaitForTask(second.ReconfigVM_Task(vim.vm.ConfigSpec(name="a/b")))
    with pytest.raises(vim.fault.InvalidName):
        WaitForTask(second.Rename_Task("x" * (NAME_MAX + 1)))
    assert second.name == "c%2fd"
    WaitForTask(second.Rename_Task("c%2fd"))


def test_a_name_has_eighty_characters_at_most(si: Any, vms: Any) -> None:
    assert len(create(si, vms, "n" * NAME_MAX).name) == NAME_MAX
    for name in ("m" * (NAME_MAX + 1), "/" * 27, " ", ""):
        with pytest.raises(vim.fault.InvalidName):
            create(si, vms, name)
        with pytest.raises(vim.fault.InvalidName):
            vms.CreateFolder(name)


def test_a_clone_has_the_stored_name(si: Any, vms: Any, control: LabControl) -> None:
    source = create(si, vms, "to clone")
    task = source.CloneVM_Task(
        vms, "c%/1", vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=False)
    )
    WaitForTask(task)
    made = task.info.result
    assert (made.name, made.config.name) == ("c%25%2f1", "c%25%2f1")
    assert control.describe_vm("site-a", "c%/1")["moref"] == made._moId


@given(st.text(alphabet="%/\\2fF5cCx", max_size=12))
def test_escaping_twice_changes_nothing(name: str) -> None:
    stored = escape_name(name)
    assert escape_name(stored) == stored
    assert "/" not in stored
    assert "\\" not in stored
