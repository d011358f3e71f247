"""Virtual devices of a VM: defaults, keys by position, and the changes of a ConfigSpec.

    controller       key          devices on it
    IDE              200 + bus    3000 + 2 * bus + unit
    SCSI             1000 + bus   2000 + 16 * bus + unit     unit 7 is the controller itself
    SATA (AHCI)      15000 + bus  16000 + 30 * bus + unit
    NVMe             31000 + bus  32000 + 15 * bus + unit
    network cards    4000 + n, on PCI (100) from unit 7

A client gives new devices negative keys, which the server replaces.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any

from vreplica.lab.api.vmodl import fault, vim

device: Any = vim.vm.device
Operation: Any = device.VirtualDeviceSpec.Operation


@dataclass(frozen=True, slots=True)
class ControllerFamily:
    """A kind of disk controller, with the keys of its controllers and of the devices on them."""

    kind: Any
    first: int
    buses: int
    first_device: int
    units: int
    label: str
    vmx_name: str
    """Its name in a .vmx file."""


FAMILIES = (
    ControllerFamily(device.VirtualIDEController, 200, 2, 3000, 2, "IDE", "ide"),
    ControllerFamily(device.VirtualSCSIController, 1000, 4, 2000, 16, "SCSI controller", "scsi"),
    ControllerFamily(device.VirtualAHCIController, 15000, 4, 16000, 30, "SATA controller", "sata"),
    ControllerFamily(device.VirtualNVMEController, 31000, 4, 32000, 15, "NVME controller", "nvme"),
)
_SCSI = FAMILIES[1]

SCSI_MODELS: dict[Any, str] = {
    device.VirtualBusLogicController: "buslogic",
    device.VirtualLsiLogicController: "lsilogic",
    device.VirtualLsiLogicSASController: "lsisas1068",
    device.ParaVirtualSCSIController: "pvscsi",
}
CARD_MODELS: dict[Any, str] = {
    device.VirtualPCNet32: "vlance",
    device.VirtualE1000: "e1000",
    device.VirtualE1000e: "e1000e",
    device.VirtualVmxnet3: "vmxnet3",
}
"""Names of models in a .vmx file."""


def family_of(controller: Any) -> ControllerFamily | None:
    """None for a controller that takes no disks."""
    return next((f for f in FAMILIES if isinstance(controller, f.kind)), None)


def description(label: str, summary: str) -> Any:
    return vim.Description(label=label, summary=summary)


def default_devices() -> list[Any]:
    """The devices that every VM has."""
    made = [
        device.VirtualIDEController(key=200, busNumber=0, deviceInfo=description("IDE 0", "IDE 0")),
        device.VirtualIDEController(key=201, busNumber=1, deviceInfo=description("IDE 1", "IDE 1")),
        device.VirtualPS2Controller(
            key=300, busNumber=0, deviceInfo=description("PS2 controller 0", "PS2 controller 0")
        ),
        device.VirtualPCIController(
            key=100, busNumber=0, deviceInfo=description("PCI controller 0", "PCI controller 0")
        ),
        device.VirtualSIOController(
            key=400, busNumber=0, deviceInfo=description("SIO controller 0", "SIO controller 0")
        ),
        device.VirtualKeyboard(
            key=600,
            controllerKey=300,
            unitNumber=0,
            deviceInfo=description("Keyboard", "Keyboard"),
        ),
        device.VirtualPointingDevice(
            key=700,
            controllerKey=300,
            unitNumber=1,
            deviceInfo=description("Pointing device", "Pointing device; Device"),
            backing=device.VirtualPointingDevice.DeviceBackingInfo(
                deviceName="", useAutoDetect=False, hostPointingDevice="autodetect"
            ),
        ),
        device.VirtualVideoCard(
            key=500,
            controllerKey=100,
            unitNumber=0,
            deviceInfo=description("Video card", "Video card"),
            videoRamSizeInKB=4096,
        ),
        device.VirtualVMCIDevice(
            key=12000,
            controllerKey=100,
            unitNumber=17,
            deviceInfo=description("VMCI device", "Device on the virtual machine PCI bus"),
        ),
    ]
    made[0].device = []
    return made


def invalid_device(index: int, name: str, message: str, kind: Any = None) -> Any:
    """The fault InvalidDeviceSpec or `kind`, to be raised; `index` is the place in the spec."""
    return fault(
        kind or vim.fault.InvalidDeviceSpec,
        f"Invalid configuration for device '{index}'. {message}",
        deviceIndex=index,
        property=f"virtualDeviceSpec.device.{name}",
    )


def find_device(devices: list[Any], key: int | None) -> Any:
    """The device with this key, or None."""
    return next((d for d in devices if d.key == key), None)


def disks_of(config: Any) -> list[Any]:
    return [d for d in config.hardware.device if isinstance(d, device.VirtualDisk)]


def nics_of(config: Any) -> list[Any]:
    return [d for d in config.hardware.device if isinstance(d, device.VirtualEthernetCard)]


def add_controller(devices: list[Any], made: Any, index: int) -> None:
    """Adds a controller: its key follows from its bus, the server fills in the rest."""
    family = family_of(made)
    if family is None:
        add_other(devices, made)
        return
    taken = {d.busNumber for d in devices if isinstance(d, family.kind)}
    bus = made.busNumber
    if bus is None or bus < 0 or (bus in taken and made.key < 0 and bus == 0):
        bus = next((b for b in range(family.buses) if b not in taken), family.buses)
    if bus in taken or bus >= family.buses:
        raise invalid_device(index, "busNumber", f"Bus {bus} is taken or does not exist.")
    made.busNumber, made.key = bus, family.first + bus
    made.controllerKey, made.unitNumber = 100, 3 + bus
    made.deviceInfo = description(
        f"{family.label} {bus}", type(made)._wsdlName.removeprefix("Virtual")
    )
    if isinstance(made, device.VirtualSCSIController):
        made.scsiCtlrUnitNumber = 7
        made.sharedBus = made.sharedBus or "noSharing"
        made.hotAddRemove = True
    devices.append(made)


def place_on_controller(devices: list[Any], made: Any, index: int) -> None:
    """Gives a disk, or another device on a disk controller, its unit and the key of that unit."""
    controller = find_device(devices, made.controllerKey)
    if made.controllerKey is None:
        controller = next((d for d in devices if isinstance(d, _SCSI.kind)), None)
    family = family_of(controller)
    if controller is None or family is None:
        raise invalid_device(index, "controllerKey", "There is no such controller.")
    used = {d.unitNumber for d in devices if d.controllerKey == controller.key}
    if family is _SCSI:
        used.add(7)
    unit = made.unitNumber
    if unit is None or unit < 0:
        unit = next((u for u in range(family.units) if u not in used), family.units)
    if unit in used or unit >= family.units:
        raise invalid_device(index, "unitNumber", f"Unit {unit} is taken or does not exist.")
    made.controllerKey, made.unitNumber = controller.key, unit
    made.key = family.first_device + family.units * controller.busNumber + unit
    controller.device = [*(controller.device or ()), made.key]


def add_nic(
    devices: list[Any], made: Any, index: int, networks: Any, *, running: bool = False
) -> None:
    """Adds a network card. `networks(backing, index)` returns its network or raises a fault."""
    made.key = _free_key(devices, 4000)
    made.controllerKey = 100
    made.unitNumber = 7 + made.key - 4000
    network = networks(made.backing, index)
    made.deviceInfo = description(f"Network adapter {made.key - 3999}", network.name)
    set_mac(made, made.addressType, made.macAddress, index)
    if made.connectable is None:
        made.connectable = device.VirtualDevice.ConnectInfo(
            startConnected=True, allowGuestControl=True, connected=running
        )
    made.connectable.connected = running and bool(made.connectable.connected)
    devices.append(made)


def set_mac(nic: Any, kind: str | None, mac: str | None, index: int) -> None:
    """Sets type and MAC address of a card.

    manual      the given address
    assigned    by vCenter, the default
    generated   by the host

    The last two accept a given address with their own prefix. Without one, the card keeps an
    address of that type or gets a new one; an empty address asks for a new one.
    """
    kind = (kind or "assigned").lower()
    if kind == "manual":
        if not re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", mac or "") or (
            int(str(mac)[:2], 16) & 1
        ):
            raise invalid_device(index, "macAddress", f"'{mac}' is not a MAC address.")
        nic.macAddress = str(mac).lower()
    elif kind in _PREFIXES:
        had = nic.macAddress if nic.addressType == kind else None
        given = had if mac is None else mac.lower()
        nic.macAddress = given if (given or "").startswith(_PREFIXES[kind]) else new_mac(kind)
    else:
        raise invalid_device(index, "addressType", f"'{kind}' is not an address type.")
    nic.addressType = kind


def new_mac(kind: str = "assigned") -> str:
    tail = secrets.token_bytes(3)
    first = 0x80 | (tail[0] & 0x3F) if kind == "assigned" else tail[0]
    return _PREFIXES[kind] + bytes([first, *tail[1:]]).hex(":")


_PREFIXES = {"assigned": "00:50:56:", "generated": "00:0c:29:"}


def add_device(devices: list[Any], made: Any) -> None:
    """Adds a device that the lab only stores: CD-ROM, USB, TPM, serial port, ..."""
    if isinstance(made, device.VirtualCdrom):
        controller = find_device(devices, made.controllerKey)
        if controller is not None and family_of(controller) is not None:
            place_on_controller(devices, made, 0)
            number = 1 + sum(isinstance(d, device.VirtualCdrom) for d in devices)
            made.deviceInfo = description(f"CD/DVD drive {number}", "CD/DVD drive")
            devices.append(made)
            return
    add_other(devices, made)


_OTHERS: tuple[tuple[Any, int, str], ...] = (
    (device.VirtualUSBXHCIController, 14000, "USB xHCI controller "),
    (device.VirtualUSBController, 7000, "USB controller "),
    (device.VirtualFloppy, 8000, "Floppy drive {}"),
    (device.VirtualSerialPort, 9000, "Serial port {}"),
    (device.VirtualParallelPort, 10000, "Parallel port {}"),
    (device.VirtualTPM, 11000, "Virtual TPM"),
    (device.VirtualPCIPassthrough, 13000, "PCI device {}"),
    (device.VirtualSoundCard, 5000, "Sound card"),
    (device.VirtualUSB, 8500, "USB {}"),
)
"""Devices that the lab only stores: the first key, and the label with its number."""


def add_other(devices: list[Any], made: Any) -> None:
    """Gives a device that the lab only stores its key and its label."""
    kind, first, label = next(
        (o for o in _OTHERS if isinstance(made, o[0])), (type(made), 30000, type(made)._wsdlName)
    )
    number = sum(isinstance(d, kind) for d in devices)
    made.key = _free_key(devices, first)
    # PCI devices are counted from 0, all others from 1.
    shown = label.format(number if kind is device.VirtualPCIPassthrough else number + 1)
    made.deviceInfo = description(shown, shown.strip())
    devices.append(made)


def tpm_of(config: Any) -> Any:
    """The virtual TPM of a configuration, or None."""
    found = config.hardware.device
    return next((d for d in found if isinstance(d, device.VirtualTPM)), None)


_WORDS = {
    "de": (
        ("Hard disk", "Festplatte"),
        ("Network adapter", "Netzwerkadapter"),
        ("SCSI controller", "SCSI-Controller"),
        ("SATA controller", "SATA-Controller"),
        ("NVME controller", "NVMe-Controller"),
        ("CD/DVD drive", "CD-/DVD-Laufwerk"),
        ("Serial port", "Serieller Anschluss"),
    ),
    "ja": (
        ("Hard disk", "ハード ディスク"),
        ("Network adapter", "ネットワーク アダプタ"),
        ("SCSI controller", "SCSI コントローラ"),
        ("SATA controller", "SATA コントローラ"),
        ("NVME controller", "NVMe コントローラ"),
        ("CD/DVD drive", "CD/DVD ドライブ"),
        ("Serial port", "シリアル ポート"),
    ),
}


def translate_label(made: Any, language: str) -> None:
    """Gives a new device the label that it has in another language; the number stays."""
    for english, word in _WORDS.get(language, ()):
        label = made.deviceInfo.label
        if label.startswith(f"{english} "):
            made.deviceInfo = description(word + label[len(english) :], made.deviceInfo.summary)
            return


def remove_device(devices: list[Any], gone: Any) -> None:
    devices.remove(gone)
    controller = find_device(devices, gone.controllerKey)
    if controller is not None and hasattr(controller, "device"):
        controller.device = [k for k in controller.device or () if k != gone.key]


def set_nics_connected(config: Any, on: bool) -> None:
    """Connects the cards that start connected, or disconnects all: a VM was switched on or off."""
    for nic in nics_of(config):
        if nic.connectable is not None:
            nic.connectable.connected = on and bool(nic.connectable.startConnected)


def free_disk_label(devices: list[Any]) -> str:
    """`Hard disk 3`: the lowest free number, whatever the language of the other labels."""
    labels = [d.deviceInfo.label for d in devices if isinstance(d, device.VirtualDisk)]
    taken = {label.rpartition(" ")[2] for label in labels}
    return f"Hard disk {next(n for n in range(1, len(taken) + 2) if str(n) not in taken)}"


def _free_key(devices: list[Any], first: int) -> int:
    taken = {d.key for d in devices}
    return next(k for k in range(first, first + 1000) if k not in taken)
