"""Makes the demo's VM with its content in a running lab, and writes as its guest."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vreplica.cli.commands.demo import content

if TYPE_CHECKING:
    from vreplica.lab import LabControl

VM_NAME = "web01"
"""The lab's own job file has a job for a VM of this name."""

DISKS = {content.SYSTEM: 2000, content.DATA: 2001}
"""VirtualDisk.key of each disk: the first two units of the first SCSI controller."""


def make_vm(control: LabControl, site: str) -> None:
    """Makes a VM with a thin and a thick disk, as `content` draws them, and powers it on."""
    with tempfile.TemporaryDirectory(dir=control.directory, prefix="content-") as folder:
        files = {disk: Path(folder) / disk for disk in DISKS}
        for file, size in zip(
            files.values(), (content.SYSTEM_CAPACITY, content.DATA_CAPACITY), strict=True
        ):
            with file.open("wb") as raw:
                raw.truncate(size)
        for piece in content.before():
            with files[piece.disk].open("r+b") as raw:
                os.pwrite(raw.fileno(), piece.data, piece.offset)
        control.create_vm(
            site,
            VM_NAME,
            disks=[
                (content.SYSTEM_CAPACITY, True, files[content.SYSTEM]),
                (content.DATA_CAPACITY, False, files[content.DATA]),
            ],
            guest_id="debian12_64Guest",
            cpus=2,
            memory_mib=4096,
            power_on=True,
        )


def write_as_guest(control: LabControl, site: str) -> dict[str, int]:
    """Makes the guest's changes. Returns the bytes of each kind of change, in order."""
    done: dict[str, int] = {}
    for write in content.changes():
        control.guest_write(site, VM_NAME, DISKS[write.disk], write.offset, write.data)
        done[write.what] = done.get(write.what, 0) + len(write.data)
    control.guest_flush(site, VM_NAME)
    return done
