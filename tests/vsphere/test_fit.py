"""An answer of other types than the API declares is a BadReply; an error of our own is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from vreplica.vsphere.connection import fit
from vreplica.vsphere.errors import BadReply
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.session import Session

OBJECT = vmodl.query.PropertyCollector.ObjectContent
VM = vim.VirtualMachine("vm-1")
HOST = vim.HostSystem("host-1")


def read(path: str, value: Any) -> Any:
    """The value of a VM's property, as a PropertyCollector gives it: in a list of objects."""
    return of(VM, path, value)


def of(managed: Any, path: str, value: Any) -> Any:
    found = vmodl.DynamicProperty(name=path)
    object.__setattr__(found, "val", value)  # pyVmomi's reader sets what it has read
    return [OBJECT(obj=managed, propSet=[found])]


def with_item(item: Any) -> Any:
    hardware = vim.vm.VirtualHardware()
    hardware.device.append(item)
    return hardware


@pytest.mark.parametrize(
    "answer",
    [
        read("name", "web01"),
        read("runtime.host", HOST),
        read("config.hardware.device", [vim.vm.device.VirtualDisk()]),
        read("config.modified", datetime.now(UTC)),
        read("config.changeTrackingEnabled", True),
        read("runtime.powerState", "poweredOn"),
        read("summary.storage.committed", 7),
        read("of.another.version", 7),
        read("snapshot", None),
        of(vim.Folder("f"), "childType", ["Folder"]),
    ],
)
def test_what_servers_give_fits(answer: Any) -> None:
    fit.require("the answer", answer, vmodl.query.PropertyCollector.ObjectContent.Array)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (read("name", 7), "name is int, not str"),
        (read("name", ["web01"]), "name is list, not str"),
        (read("runtime.host", "host-1"), r"runtime.host is str, not vim.HostSystem"),
        (read("runtime.host", VM), r"runtime.host is vim.VirtualMachine, not vim.HostSystem"),
        (read("config.hardware.device", "x"), r"device is str, not"),
        (read("config.hardware.device", [HOST]), r"device is vim.HostSystem, not"),
        (read("config.hardware", with_item("x")), r"device is str, not"),
        (read("config", vim.vm.VirtualHardware()), r"config is vim.vm.VirtualHardware, not"),
        (read("config.modified", "yesterday"), "config.modified is str, not datetime"),
        (read("summary.storage.committed", "7"), "committed is str, not"),
        (["x"], "the answer is str, not"),
        ("x", "the answer is str, not"),
    ],
)
def test_a_value_of_another_type_is_a_misfit(answer: Any, says: str) -> None:
    with pytest.raises(fit.Misfit, match=says):
        fit.require("the answer", answer, vmodl.query.PropertyCollector.ObjectContent.Array)


class Ours:
    pass


def ours() -> None:
    """A function of ours."""


@pytest.mark.parametrize(
    ("code", "of_an_answer"),
    [
        (lambda: VM.frob, True),
        (lambda: None.name, True),  # type: ignore[attr-defined]
        (lambda: len(None), True),  # type: ignore[arg-type]
        (lambda: None + 1, True),  # type: ignore[operator]
        (lambda: {}["scsi0"], True),
        (lambda: int("x"), True),
        (lambda: Ours().name, False),  # type: ignore[attr-defined]
        (lambda: Ours.name, False),  # type: ignore[attr-defined]
        (lambda: fit.name, False),  # type: ignore[attr-defined]
        (lambda: ours(1), False),  # type: ignore[call-arg]
        (lambda: ours(name=1), False),  # type: ignore[call-arg]
        (lambda: 1 + "x", False),  # type: ignore[operator]
        (lambda: Ours()(), False),  # type: ignore[operator]
    ],
)
def test_an_error_of_our_own_code_is_not_the_servers(code: Any, of_an_answer: bool) -> None:
    with pytest.raises(fit.UNFIT) as caught:
        code()
    assert fit.is_of_an_answer(caught.value) is of_an_answer


@pytest.mark.parametrize("error", [TypeError("f() takes 0 arguments but 1 was given"), KeyError(2)])
def test_a_session_tells_them_apart(
    source: Session, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("vreplica.vsphere.inventory.guest.read_guest", fail)
    kind = BadReply if isinstance(error, KeyError) else TypeError
    with pytest.raises(kind) as caught:
        source.read_guest(VmRef("vm-1", "web01"))
    assert error in (caught.value, caught.value.__cause__)


def test_a_request_that_we_make_wrongly_is_not_the_servers(source: Session) -> None:
    link = source._link
    finder = link.content.searchIndex
    with pytest.raises(TypeError, match="bool"):
        link.ask("finding", finder.FindByUuid, None, "uuid", "not a bool", True)
    assert (
        link.ask("finding", finder.FindByUuid, None, "uuid", True, True, expects_answer=False)
        is None
    )
