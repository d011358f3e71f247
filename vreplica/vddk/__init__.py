"""Disks of VMware's VixDiskLib, or of the native library with the same ABI.

    from vreplica.vddk import VddkConfig, VddkConnection, open_disk

    with open_disk(VddkConfig(), VddkConnection(), "/path/disk.vmdk") as disk:
        disk.read_into(0, memoryview(bytearray(65536)))

Names are loaded on first use: the helper process imports parts of this package, and must
start fast and without numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vreplica.lazy import on_first_use

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

__getattr__ = on_first_use(
    __name__,
    {
        "abi": ["Adapter", "DiskType"],
        "access": ["cleanup", "end_access", "prepare_for_access"],
        "config": ["VddkConfig", "VddkConnection"],
        "disk": ["VddkDisk", "open_disk"],
        "errors": ["VddkError"],
        "handle": ["Handle"],
        "info": ["DiskInfo"],
        "library": ["Library"],
    },
)
