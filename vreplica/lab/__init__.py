"""A vCenter with ESXi hosts for each site, in one process, over real VMDK files.

    from vreplica.lab import Lab, LabControl

    with Lab.create("/tmp/lab") as lab:
        control = LabControl(lab.directory)
        control.create_vm("site-a", "web01", disks=[(64 << 20, True, None)], power_on=True)
        ...                                 any vSphere client against lab.json's urls

`up`, `status` and `down` run the same as a process of its own. docs/lab.md says what is
modelled, on what ground, and what is not. Names are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vreplica.lazy import on_first_use

if TYPE_CHECKING:
    from vreplica.lab.client import LabControl, LabNotRunning, LabRefused
    from vreplica.lab.lab import Lab
    from vreplica.lab.lab_dir import LabExists, NoLab
    from vreplica.lab.process import LabDidNotStart, down, status, up

__all__ = [
    "Lab",
    "LabControl",
    "LabDidNotStart",
    "LabExists",
    "LabNotRunning",
    "LabRefused",
    "NoLab",
    "down",
    "status",
    "up",
]

__getattr__ = on_first_use(
    __name__,
    {
        "client": ["LabControl", "LabNotRunning", "LabRefused"],
        "lab": ["Lab"],
        "lab_dir": ["LabExists", "NoLab"],
        "process": ["LabDidNotStart", "down", "status", "up"],
    },
)
