"""Lists what a VM has that a replica made of its processors, disks and cards does not get.

Every device that is not known to be carried over, or to be part of every VM, is listed: a device
class of a later vSphere is not passed over in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.inventory.devices import CONTROLLERS
from vreplica.vsphere.model import NotCarried

EVERYWHERE: Final = (
    "VirtualIDEController",
    "VirtualPS2Controller",
    "VirtualPCIController",
    "VirtualSIOController",
    "VirtualKeyboard",
    "VirtualPointingDevice",
    "VirtualVideoCard",
    "VirtualVMCIDevice",
)
"""Devices that every VM gets by itself."""

CARRIED: Final = ("VirtualDisk", "VirtualEthernetCard", *CONTROLLERS.values())

STARTS_WITHOUT: Final = "the guest starts without it"

MEANINGS: Final = (
    (
        "VirtualTPM",
        "virtual TPM",
        (
            "the replica has none, or an empty one: BitLocker asks for its recovery key, and what "
            "else is sealed by it is lost; have the recovery keys at hand"
        ),
    ),
    (
        "VirtualPCIPassthrough",
        "PCI device",
        f"{STARTS_WITHOUT}; add one of the destination's host after the failover",
    ),
    ("VirtualUSBController", "USB controller", "USB keyboard, mouse and devices are missing"),
    ("VirtualUSBXHCIController", "USB controller", "USB keyboard, mouse and devices are missing"),
    (
        "VirtualUSB",
        "USB device",
        f"{STARTS_WITHOUT}, as with a licence dongle; connect it at the destination",
    ),
    ("VirtualCdrom", "CD-ROM drive", f"{STARTS_WITHOUT}; add one where it needs a medium"),
    ("VirtualFloppy", "floppy drive", STARTS_WITHOUT),
    ("VirtualSerialPort", "serial port", f"{STARTS_WITHOUT}; consoles and modems are missing"),
    ("VirtualParallelPort", "parallel port", STARTS_WITHOUT),
    ("VirtualSoundCard", "sound card", STARTS_WITHOUT),
    ("VirtualNVDIMM", "NVDIMM", "what it holds is not replicated, and the guest starts without it"),
    ("VirtualWDT", "watchdog timer", "a guest that hangs is not restarted by it"),
    ("VirtualPrecisionClock", "precision clock", "the guest's time source is missing"),
)
"""Class of a device in vim.vm.device, its name for people, and what its absence means."""

FLAGS: Final = (
    ("sevEnabled", "AMD SEV"),
    ("sevSnpEnabled", "AMD SEV-SNP"),
    ("tdxEnabled", "Intel TDX"),
)
"""Fields of ConfigInfo for memory that the host cannot read."""

NVRAM: Final = NotCarried(
    "NVRAM",
    "the firmware's variables (boot entries, Secure Boot keys of its own) are those of a new VM: a "
    "guest that does not boot from the default path of its disk needs its boot entry again",
    key="nvram",
)


def not_carried(config: Any) -> tuple[NotCarried, ...]:
    """Returns what of a VM's ConfigInfo a replica does not get."""
    return (*_devices(config.hardware.device), *_settings(config))


@cache
def _known() -> tuple[Any, ...]:
    names = (*EVERYWHERE, *CARRIED)
    return tuple(getattr(vim.vm.device, name) for name in names)


@cache
def _kinds() -> tuple[tuple[Any, str, str], ...]:
    """The table's rows of classes that this pyVmomi knows."""
    rows = ((getattr(vim.vm.device, name, None), what, means) for name, what, means in MEANINGS)
    return tuple(row for row in rows if row[0] is not None)


def _devices(devices: Iterable[Any]) -> Iterator[NotCarried]:
    for device in devices:
        if isinstance(device, _known()):
            continue
        info = device.deviceInfo
        label = (info.label or "").strip() if info is not None else ""
        key = "vtpm" if isinstance(device, vim.vm.device.VirtualTPM) else "device"
        for kind, what, means in _kinds():
            if isinstance(device, kind):
                name = f"{what} ({label})" if label and label.lower() != what.lower() else what
                yield NotCarried(name, means, key)
                break
        else:
            short = type(device).__name__.rpartition(".")[2]
            yield NotCarried(label or short, STARTS_WITHOUT, key)


def _settings(config: Any) -> Iterator[NotCarried]:
    if config.firmware == "efi":
        yield NVRAM
    for name, what in FLAGS:
        if getattr(config, name, None):
            yield NotCarried(what, "the replica's memory is not protected by it", "setting")
    for name, what in (("memoryAllocation", "memory"), ("cpuAllocation", "CPU")):
        reserved = getattr(getattr(config, name, None), "reservation", None)
        if reserved:
            means = "under load the replica may get less than the source did"
            yield NotCarried(f"{what} reservation", means, "setting")
