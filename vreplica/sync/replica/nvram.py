"""Carries the firmware's variables (NVRAM) of an EFI source with each recovery point.

    source     [ds] web/web.nvram           read at each run; hosts refuse that while the VM runs
    point      vreplica-SHA.nvram           in the replica's folder, named by its content; points
                                            with the same content share it
    boot       vreplica-boot.nvram          a copy, made before the replica or a test VM is started

What could not be read is as the newest point before has it. A VM that was never started has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from vreplica.errors import VSphereError
from vreplica.points import RecoveryPoint
from vreplica.vsphere.errors import FileRefused
from vreplica.vsphere.model import VmInfo
from vreplica.vsphere.session import Session

NVRAM_OPTION: Final = "nvram"
"""Key in a VM's extraConfig: the name of its NVRAM file, beside the .vmx."""

BOOT_FILE: Final = "vreplica-boot.nvram"


@dataclass(frozen=True, slots=True)
class CarriedNvram:
    """The NVRAM of one point. `note`: why it is not that of now."""

    sha256: str = ""
    """"" where the source has none, or where none could be read yet."""
    note: str = ""

    @property
    def is_missing(self) -> bool:
        """True where the source may have one, and the point has none."""
        return bool(self.note) and not self.sha256


def carry(
    source: Session, vm: VmInfo, destination: Session, replica: VmInfo, latest: RecoveryPoint | None
) -> CarriedNvram:
    """Reads the source's NVRAM and keeps it beside the replica. Never raises for a site."""
    name = vm.extra_config.get(NVRAM_OPTION, "")
    before = latest.nvram if latest is not None else ""
    if vm.firmware != "efi" or not name:
        return CarriedNvram()
    try:
        data = source.read_vm_file(vm.ref, beside(vm, name))
        if data is None:
            return CarriedNvram()
        digest = hashlib.sha256(data).hexdigest()
        if digest != before:
            destination.write_vm_file(replica.ref, beside(replica, file_of(digest)), data)
        return CarriedNvram(digest)
    except VSphereError as error:
        kept = "that of the point before is kept" if before else "no point has it yet"
        return CarriedNvram(before, f"NVRAM was not read ({error.message}): {kept}")


def place(session: Session, replica: VmInfo, point: RecoveryPoint, vm: VmInfo) -> None:
    """Gives a VM that is off the NVRAM of a point: the replica itself, or a test VM of it.

    Raises FileRefused.
    """
    if not point.nvram:
        return
    path = beside(replica, file_of(point.nvram))
    data = session.read_vm_file(replica.ref, path)
    if data is None:
        raise FileRefused(f"reading {path}", 404).at(vm=vm.ref.name)
    session.write_vm_file(vm.ref, beside(vm, BOOT_FILE), data)
    session.set_extra_config(vm.ref, {NVRAM_OPTION: BOOT_FILE})


def drop(session: Session, replica: VmInfo, gone: str, left: Iterable[RecoveryPoint]) -> None:
    """Deletes the file of a point that was removed, unless another point has the same."""
    if gone and gone not in {point.nvram for point in left}:
        # A small file that stays is no reason to call the removal of the point failed.
        with suppress(VSphereError):
            session.delete_vm_file(replica.ref, beside(replica, file_of(gone)))


def file_of(sha256: str) -> str:
    return f"vreplica-{sha256[:32]}.nvram"


def beside(vm: VmInfo, name: str) -> str:
    """The path of a file in the folder of a VM's .vmx."""
    return f"{vm.vmx_path.rpartition('/')[0]}/{name}"
