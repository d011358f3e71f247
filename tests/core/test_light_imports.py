"""A module loads what it needs itself: who wants a value or an error pays for no library."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numpy", "pyVmomi", "sqlalchemy", "ctypes")
CONNECTING = (*HEAVY, "ssl", "http.client")

LIGHT = [
    ("vreplica.errors", CONNECTING),
    ("vreplica.vsphere", CONNECTING),
    ("vreplica.vsphere.errors", CONNECTING),
    ("vreplica.vsphere.model", CONNECTING),
    ("vreplica.vsphere.change_id", CONNECTING),
    ("vreplica.vsphere.session", CONNECTING),
    ("vreplica.vsphere.operations.reshape", CONNECTING),
    ("vreplica.vsphere.connection.link", HEAVY),
    ("vreplica.nfc.config", CONNECTING),
    ("vreplica.nfc.errors", CONNECTING),
    ("vreplica.nfc.authd", HEAVY),
    ("vreplica.nfc.ticket", HEAVY),
    ("vreplica.vddk.config", ("numpy", "pyVmomi")),
    ("vreplica.vddk.errors", ("numpy", "pyVmomi")),
    ("vreplica.vddk.helper.main", ("numpy", "pyVmomi", "ssl", "logging", "pathlib")),
]


@pytest.mark.parametrize(("module", "without"), LIGHT, ids=[module for module, _ in LIGHT])
def test_a_module_loads_no_more_than_it_needs(module: str, without: tuple[str, ...]) -> None:
    script = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not set(without) & set(loaded)
