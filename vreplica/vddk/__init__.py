"""Disks of VMware's VixDiskLib, or of the native library with the same ABI.

    from vreplica.vddk import VddkConfig, VddkConnection, open_disk

    with open_disk(VddkConfig(), VddkConnection(), "/path/disk.vmdk") as disk:
        disk.read_into(0, memoryview(bytearray(65536)))

Names are loaded on first use: the helper process imports parts of this package, and must
start fast and without numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vreplica.vddk.abi import Adapter, DiskType
    from vreplica.vddk.access import cleanup, end_access, prepare_for_access
    from vreplica.vddk.config import VddkConfig, VddkConnection
    from vreplica.vddk.disk import VddkDisk, open_disk
    from vreplica.vddk.errors import VddkError
    from vreplica.vddk.handle import Handle
    from vreplica.vddk.info import DiskInfo
    from vreplica.vddk.library import Library

__all__ = [
    "Adapter",
    "DiskInfo",
    "DiskType",
    "Handle",
    "Library",
    "VddkConfig",
    "VddkConnection",
    "VddkDisk",
    "VddkError",
    "cleanup",
    "end_access",
    "open_disk",
    "prepare_for_access",
]

_HOMES = {
    "Adapter": "abi",
    "DiskInfo": "info",
    "DiskType": "abi",
    "Handle": "handle",
    "Library": "library",
    "VddkConfig": "config",
    "VddkConnection": "config",
    "VddkDisk": "disk",
    "VddkError": "errors",
    "cleanup": "access",
    "end_access": "access",
    "open_disk": "disk",
    "prepare_for_access": "access",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
