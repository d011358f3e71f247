"""docs/vsphere.md names the privilege of every call that is made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pyVmomi import VmomiSupport

from vreplica.vsphere.inventory import privileges

ROOT = Path(__file__).parents[2]
CALL = re.compile(r"\.(\w+_Task|QueryChangedDiskAreas|ShutdownGuest)\b")


def calls() -> list[str]:
    sources = (ROOT / "vreplica" / "vsphere").rglob("*.py")
    return sorted({name for file in sources for name in CALL.findall(file.read_text())})


def test_the_calls_are_found() -> None:
    assert {"CreateSnapshotEx_Task", "PowerOffVM_Task", "QueryChangedDiskAreas"} <= set(calls())


@pytest.mark.parametrize("method", calls())
def test_a_call_has_its_privilege_in_the_documentation(method: str) -> None:
    privilege = VmomiSupport.GetWsdlMethod("urn:vim25", method).info.privId
    own = {
        "Destroy_Task": "VirtualMachine.Inventory.Delete",
        "CloneVM_Task": "VirtualMachine.Provisioning.Clone",
    }.get(method)
    if method == "ReconfigVM_Task":
        own = "VirtualMachine.Config.ChangeTracking"
    if method.endswith("VirtualDisk_Task"):
        # The registry says System.View; the API reference asks for this on the datastore.
        privilege = "Datastore.FileManagement"
    assert f"`{privilege or own}`" in (ROOT / "docs" / "vsphere.md").read_text()


def test_what_check_asks_for_is_what_the_documentation_lists() -> None:
    page = (ROOT / "docs" / "vsphere.md").read_text().partition("## Privileges")[2]
    page = page.partition("\n## ")[0]
    listed = [
        {p for p in re.findall(r"`((?:\w+\.)+\w+)`", part) if p[0].isupper()}
        for part in page.split("At the destination", 1)
    ]
    assert listed == [
        {
            *privileges.ON_SOURCE,
            *privileges.ON_ENCRYPTED_SOURCE,
            *privileges.ON_SOURCE_DATASTORE,
        },
        {
            *privileges.ON_FOLDER,
            *(p for names in privileges.ON_FOLDER_AT_TIMES.values() for p in names),
            *privileges.ON_POOL,
            *privileges.ON_DATASTORE,
            *privileges.ON_NETWORK,
        },
    ]
