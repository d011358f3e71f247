"""A vCenter with ESXi hosts for each site, in one process, over real VMDK files.

    from vreplica.lab import Lab, LabControl

    with Lab.create("/tmp/lab") as lab:
        control = LabControl(lab.directory)
        control.create_vm("site-a", "web01", disks=[(64 << 20, True, None)], power_on=True)
        ...                                 any vSphere client, at the urls in lab.json

`up`, `status` and `down` run the lab as a process of its own. docs/lab.md says what is modelled,
from which source, and what is not. Names are loaded on first use.

Each line imports only from lines below it:

    process                               the lab as a process of its own
    lab                                   starts and stops the sites
    control     client, lab_dir           what tests change in a running lab; the lab's folder
    vcenter/                              inventory, service objects, file managers; builds a site
    nfc/                                  the NFC servers of the hosts
    web/                                  HTTPS endpoints: SOAP, datastore files, guest files
    site/                                 one site: dispatcher, state, fault rules
    vm/                                   a VM: configuration, power, snapshots, moves
    guest/      storage/                  the guest of a VM; datastores and disk files
    hardware                              virtual devices
    api/                                  the vSphere API: SOAP, properties, sessions, tasks
    context     certificate     chance    what the parts may know of their site and VM; basics
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
