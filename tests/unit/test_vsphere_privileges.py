"""docs/vsphere.md names the privilege of every call that is made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pyVmomi import VmomiSupport

ROOT = Path(__file__).parents[2]
CALL = re.compile(r"\.(\w+_Task|QueryChangedDiskAreas|ShutdownGuest)\b")


def calls() -> list[str]:
    sources = (ROOT / "vreplica" / "vsphere").glob("*.py")
    return sorted({name for file in sources for name in CALL.findall(file.read_text())})


def test_the_calls_are_found() -> None:
    assert {"CreateSnapshotEx_Task", "PowerOffVM_Task", "QueryChangedDiskAreas"} <= set(calls())


@pytest.mark.parametrize("method", calls())
def test_a_call_has_its_privilege_in_the_documentation(method: str) -> None:
    privilege = VmomiSupport.GetWsdlMethod("urn:vim25", method).info.privId
    own = {"Destroy_Task": "VirtualMachine.Inventory.Delete"}.get(method)
    if method == "ReconfigVM_Task":
        own = "VirtualMachine.Config.ChangeTracking"
    assert f"`{privilege or own}`" in (ROOT / "docs" / "vsphere.md").read_text()
