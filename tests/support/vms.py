"""VMs and disks as vSphere would describe them, with values that a test names where they matter."""

from __future__ import annotations

from typing import Any

from vreplica.units import GIB
from vreplica.vsphere.model import VmDisk, VmInfo, VmRef


def make_disk(key: int = 2000, **more: Any) -> VmDisk:
    """A thin, persistent, flat disk on the first pvscsi controller; "Hard disk 1" is key 2000."""
    values: dict[str, Any] = {
        "label": f"Hard disk {key - 1999}",
        "capacity_bytes": GIB,
        "path": f"[ds] web01/web01_{key}.vmdk",
        "uuid": f"uuid-{key}",
        "disk_object_id": None,
        "mode": "persistent",
        "sharing": "sharingNone",
        "thin": True,
        "backing": "flat",
        "controller_key": 1000,
        "controller_type": "pvscsi",
        "bus_number": 0,
        "unit_number": key - 2000,
        "change_id": None,
    }
    return VmDisk(key, **{**values, **more})


def make_vm(ref: VmRef | None = None, **more: Any) -> VmInfo:
    """A small VM with change tracking, off, without disks, Tools, snapshots or network cards."""
    values: dict[str, Any] = {
        "instance_uuid": None,
        "bios_uuid": None,
        "vmx_path": "[ds] web01/web01.vmx",
        "guest_id": "otherGuest64",
        "guest_family": "other",
        "power_state": "poweredOff",
        "tools_running": False,
        "tools_status": "toolsNotRunning",
        "hw_version": "vmx-19",
        "cpus": 1,
        "cores_per_socket": 1,
        "memory_mib": 64,
        "firmware": "bios",
        "secure_boot": False,
        "cbt_supported": True,
        "cbt_enabled": True,
        "disks": (),
        "controllers": (),
        "nics": (),
        "snapshots": (),
        "current_snapshot": None,
        "host": None,
        "datastores": (),
        "extra_config": {},
        "consolidation_needed": False,
        "connection_state": "connected",
        "is_template": False,
    }
    return VmInfo(ref or VmRef("vm-1", "web01"), **{**values, **more})
