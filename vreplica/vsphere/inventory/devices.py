"""Virtual devices of pyVmomi <-> values of `model`, by one table each way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vreplica.units import KIB
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.model import Controller, Nic, VmDisk

_d = vim.vm.device

# The more special class before its base: lookup takes the first that fits.
CONTROLLERS: dict[str, Any] = {
    "pvscsi": _d.ParaVirtualSCSIController,
    "lsilogic-sas": _d.VirtualLsiLogicSASController,
    "lsilogic": _d.VirtualLsiLogicController,
    "buslogic": _d.VirtualBusLogicController,
    "sata": _d.VirtualAHCIController,
    "nvme": _d.VirtualNVMEController,
    "ide": _d.VirtualIDEController,
}
ADDABLE = frozenset(CONTROLLERS) - {"ide"}
"""IDE controllers are part of every VM and are not added."""

NICS: dict[str, Any] = {
    "vmxnet3": _d.VirtualVmxnet3,
    "vmxnet2": _d.VirtualVmxnet2,
    "vmxnet": _d.VirtualVmxnet,
    "e1000e": _d.VirtualE1000e,
    "e1000": _d.VirtualE1000,
    "pcnet32": _d.VirtualPCNet32,
    "sriov": _d.VirtualSriovEthernetCard,
}

_disk = _d.VirtualDisk
BACKINGS: tuple[tuple[Any, str], ...] = (
    (_disk.FlatVer2BackingInfo, "flat"),
    (_disk.SeSparseBackingInfo, "sesparse"),
    (_disk.SparseVer2BackingInfo, "sparse"),
    (_disk.FlatVer1BackingInfo, "flat-v1"),
    (_disk.SparseVer1BackingInfo, "sparse-v1"),
    (_disk.LocalPMemBackingInfo, "pmem"),
    (_disk.RawDiskVer2BackingInfo, "raw"),
)


def _short(device: Any) -> str:
    return type(device).__name__.rpartition(".")[2]


def _type_in(table: dict[str, Any], device: Any) -> str:
    for name, kind in table.items():
        if isinstance(device, kind):
            return name
    return _short(device)


def controllers_of(devices: Iterable[Any]) -> tuple[Controller, ...]:
    """The storage controllers among a VM's devices."""
    kinds = (*CONTROLLERS.values(), _d.VirtualSCSIController, _d.VirtualSATAController)
    return tuple(
        Controller(
            key=device.key,
            type=_type_in(CONTROLLERS, device),
            bus_number=device.busNumber,
            shared_bus=str(getattr(device, "sharedBus", None) or "noSharing"),
            label=_label(device),
        )
        for device in devices
        if isinstance(device, kinds)
    )


def disks_of(devices: Iterable[Any]) -> tuple[VmDisk, ...]:
    """The virtual disks among a VM's (or a snapshot's) devices, in the order of their keys."""
    devices = list(devices)
    controllers = {c.key: c for c in controllers_of(devices)}
    found = [
        _disk_of(device, controllers.get(device.controllerKey))
        for device in devices
        if isinstance(device, _disk)
    ]
    return tuple(sorted(found, key=lambda d: d.key))


def _disk_of(device: Any, controller: Controller | None) -> VmDisk:
    backing = device.backing
    return VmDisk(
        key=device.key,
        label=_label(device),
        # capacityInBytes is optional in the API; the KiB field always there.
        capacity_bytes=device.capacityInBytes or device.capacityInKB * KIB,
        path=getattr(backing, "fileName", None) or "",
        uuid=getattr(backing, "uuid", None),
        disk_object_id=device.diskObjectId,
        mode=str(getattr(backing, "diskMode", None) or "persistent"),
        sharing=str(getattr(backing, "sharing", None) or "sharingNone"),
        thin=bool(getattr(backing, "thinProvisioned", None)),
        backing=_backing_kind(backing),
        controller_key=device.controllerKey or 0,
        controller_type=controller.type if controller else "unknown",
        bus_number=controller.bus_number if controller else 0,
        unit_number=device.unitNumber or 0,
        change_id=getattr(backing, "changeId", None) or None,
        shared_bus=controller.shared_bus if controller else "noSharing",
        eagerly_scrub=bool(getattr(backing, "eagerlyScrub", None)),
        parents=tuple(_parents(backing)),
    )


def _backing_kind(backing: Any) -> str:
    if isinstance(backing, _disk.RawDiskMappingVer1BackingInfo):
        physical = str(backing.compatibilityMode) == "physicalMode"
        return "rdm-physical" if physical else "rdm-virtual"
    for kind, name in BACKINGS:
        if isinstance(backing, kind):
            return name
    return _short(backing)


def _parents(backing: Any) -> Iterable[str]:
    parent = getattr(backing, "parent", None)
    while parent is not None:
        yield parent.fileName
        parent = getattr(parent, "parent", None)


def _label(device: Any) -> str:
    info = device.deviceInfo
    return (info.label if info is not None else None) or f"{_short(device)} {device.key}"


def nics_of(devices: Iterable[Any], networks: dict[str, str]) -> tuple[Nic, ...]:
    """The network cards. `networks`: moref, portgroup key or opaque id -> name."""
    return tuple(
        Nic(
            key=device.key,
            label=_label(device),
            type=_type_in(NICS, device),
            mac=device.macAddress,
            network=_network_of(device.backing, networks),
            connected=bool(device.connectable and device.connectable.connected),
            start_connected=bool(device.connectable and device.connectable.startConnected),
            controller_key=device.controllerKey,
            unit_number=device.unitNumber,
        )
        for device in devices
        if isinstance(device, _d.VirtualEthernetCard)
    )


def _network_of(backing: Any, networks: dict[str, str]) -> str | None:
    card = _d.VirtualEthernetCard
    if isinstance(backing, card.DistributedVirtualPortBackingInfo):
        return networks.get(backing.port.portgroupKey or "")
    if isinstance(backing, card.OpaqueNetworkBackingInfo):
        return networks.get(backing.opaqueNetworkId)
    return getattr(backing, "deviceName", None)


def has_vtpm(devices: Iterable[Any]) -> bool:
    return any(isinstance(device, _d.VirtualTPM) for device in devices)
