"""Virtual hardware and guest types that a host does not have are named before a replica is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim

from tests.support.vms import make_vm
from vreplica.vsphere.connection.collector import FoundObject
from vreplica.vsphere.errors import TaskFailed
from vreplica.vsphere.inventory.host_support import unsupported
from vreplica.vsphere.inventory.placement import PlacementObjects
from vreplica.vsphere.inventory.tree import InventoryTree

HOST = FoundObject(vim.HostSystem("host-1"), {"name": "esx1"})
OTHER = vim.HostSystem("host-2")


def version(key: str, *, create: bool | None = True, host: list[Any] | None = None) -> Any:
    made = vim.vm.ConfigOptionDescriptor(key=key, description=key, host=host or [])
    made.createSupported = create
    return made


class Browser:
    """An EnvironmentBrowser of a cluster whose hosts have these versions and guest types."""

    def __init__(self, versions: list[Any], guests: list[str], *, filters: bool = True) -> None:
        self._versions, self._known, self._filters = versions, guests, filters

    def _GetMoId(self) -> str:
        return "envbrowser-1"

    def QueryConfigOptionDescriptor(self) -> Any:
        return self._versions

    def QueryConfigOptionEx(self, spec: Any) -> Any:
        wanted = set(spec.guestId or self._known) if self._filters or not spec.guestId else set()
        found = [
            SimpleNamespace(id=g, supportLevel="supported") for g in self._known if g in wanted
        ]
        return SimpleNamespace(guestOSDescriptor=found)


def said(browser: Any, *, ask: Any = None, **source: Any) -> tuple[str, ...]:
    link: Any = SimpleNamespace(look=None, ask=ask or (lambda _, method, *a, **__: method(*a)))
    compute = FoundObject(vim.ClusterComputeResource("domain-1"), {"environmentBrowser": browser})
    place = PlacementObjects(HOST, None, None, HOST, compute, {})
    vm = make_vm(**{"hw_version": "vmx-19", "guest_id": "ubuntu64Guest", **source})
    return unsupported(link, InventoryTree.of([HOST]), place, vm)


GUESTS = ["ubuntu64Guest", "rhel8_64Guest"]
OLD = [version("vmx-13"), version("vmx-19"), version("vmx-9")]


@pytest.mark.parametrize("filters", [True, False])
def test_what_the_host_has_is_no_finding(filters: bool) -> None:
    assert said(Browser(OLD, GUESTS, filters=filters)) == ()


@pytest.mark.parametrize(
    "versions",
    [
        OLD,
        [*OLD, version("vmx-21", create=False)],
        [*OLD, version("vmx-21", host=[OTHER])],
    ],
)
def test_newer_hardware_than_the_host_has_is_named(versions: list[Any]) -> None:
    (text,) = said(Browser(versions, GUESTS), hw_version="vmx-21")
    assert "supports virtual hardware up to vmx-" in text
    assert "has vmx-21" in text


@pytest.mark.parametrize("filters", [True, False])
def test_a_guest_type_that_the_host_does_not_have_is_named(filters: bool) -> None:
    (text,) = said(Browser(OLD, GUESTS, filters=filters), guest_id="windows2022srvNext_64Guest")
    assert "does not support the guest type windows2022srvNext_64Guest" in text


def test_a_server_that_does_not_say_is_believed_capable() -> None:
    def refuses(operation: str, *_: object, **__: object) -> None:
        raise TaskFailed(operation, "NotSupported", "not supported")

    assert said(Browser([], []), hw_version="vmx-21") == ()
    assert said(None) == ()
    assert said(Browser(OLD, GUESTS), ask=refuses, hw_version="vmx-21") == ()
