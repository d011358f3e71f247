"""Maps virtual devices between pyVmomi's classes and the values of `model`, by tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from vreplica.units import KIB
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.model import Controller, Nic, VmDisk

# Our name of a type -> its class in vim.vm.device. The more special class stands before its base:
# the first that fits is taken.
CONTROLLERS: Final = {
    "pvscsi": "ParaVirtualSCSIController",
    "lsilogic-sas": "VirtualLsiLogicSASController",
    "lsilogic": "VirtualLsiLogicController",
    "buslogic": "VirtualBusLogicController",
    "sata": "VirtualAHCIController",
    "nvme": "VirtualNVMEController",
    "ide": "VirtualIDEController",
}
ADDABLE = frozenset(CONTROLLERS) - {"ide"}
"""IDE controllers are part of every VM and are not added."""

NICS: Final = {
    "vmxnet3": "VirtualVmxnet3",
    "vmxnet2": "VirtualVmxnet2",
    "vmxnet": "VirtualVmxnet",
    "e1000e": "VirtualE1000e",
    "e1000": "VirtualE1000",
    "pcnet32": "VirtualPCNet32",
    "sriov": "VirtualSriovEthernetCard",
}

BACKINGS: Final = (
    ("FlatVer2BackingInfo", "flat"),
    ("SeSparseBackingInfo", "sesparse"),
    ("SparseVer2BackingInfo", "sparse"),
    ("FlatVer1BackingInfo", "flat-v1"),
    ("SparseVer1BackingInfo", "sparse-v1"),
    ("LocalPMemBackingInfo", "pmem"),
    ("RawDiskVer2BackingInfo", "raw"),
)


def controller_class(type_name: str) -> Any:
    """pyVmomi's class of a controller; KeyError for a type that is not in CONTROLLERS."""
    return getattr(vim.vm.device, CONTROLLERS[type_name])


def nic_class(type_name: str) -> Any:
    """pyVmomi's class of a network card; vmxnet3 for a type that is not in NICS."""
    return getattr(vim.vm.device, NICS.get(type_name, NICS["vmxnet3"]))


def _short(device: Any) -> str:
    return type(device).__name__.rpartition(".")[2]


def _type_in(table: dict[str, str], device: Any) -> str:
    for name, kind in table.items():
        if isinstance(device, getattr(vim.vm.device, kind)):
            return name
    return _short(device)


def controllers_of(devices: Iterable[Any]) -> tuple[Controller, ...]:
    """Returns the storage controllers among a VM's devices."""
    known = (*CONTROLLERS.values(), "VirtualSCSIController", "VirtualSATAController")
    kinds = tuple(getattr(vim.vm.device, name) for name in known)
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
    """Returns the virtual disks among a VM's (or a snapshot's) devices, by key."""
    devices = list(devices)
    controllers = {c.key: c for c in controllers_of(devices)}
    found = [
        _disk_of(device, controllers.get(device.controllerKey))
        for device in devices
        if isinstance(device, vim.vm.device.VirtualDisk)
    ]
    return tuple(sorted(found, key=lambda d: d.key))


def _disk_of(device: Any, controller: Controller | None) -> VmDisk:
    backing = device.backing
    return VmDisk(
        key=device.key,
        label=_label(device),
        # capacityInBytes is optional in the API; capacityInKB is always set.
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
        # Older servers and older versions of the API do not have these.
        sector_format=getattr(device, "virtualDiskFormat", None) or "",
        chain_issue=getattr(device, "diskChainBrokenIssue", None) or "",
        guest_read_only=bool(getattr(device, "guestReadOnly", None)),
        encrypted=getattr(backing, "keyId", None) is not None,
        parents=tuple(_parents(backing)),
    )


def _backing_kind(backing: Any) -> str:
    if isinstance(backing, vim.vm.device.VirtualDisk.RawDiskMappingVer1BackingInfo):
        physical = str(backing.compatibilityMode) == "physicalMode"
        return "rdm-physical" if physical else "rdm-virtual"
    for kind, name in BACKINGS:
        if isinstance(backing, getattr(vim.vm.device.VirtualDisk, kind)):
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


def nics_of(devices: Iterable[Any], networks: Mapping[str, tuple[str, str]]) -> tuple[Nic, ...]:
    """Returns the network cards. `networks`: moref, portgroup key or opaque id -> (name, moref)."""
    return tuple(
        Nic(
            key=device.key,
            label=_label(device),
            type=_type_in(NICS, device),
            mac=device.macAddress,
            network=(on := _network_of(device.backing, networks))[0],
            network_moref=on[1],
            connected=bool(device.connectable and device.connectable.connected),
            start_connected=bool(device.connectable and device.connectable.startConnected),
            controller_key=device.controllerKey,
            unit_number=device.unitNumber,
        )
        for device in devices
        if isinstance(device, vim.vm.device.VirtualEthernetCard)
    )


def _network_of(
    backing: Any, networks: Mapping[str, tuple[str, str]]
) -> tuple[str | None, str | None]:
    """Returns name and moref of a card's network, None where it is not known."""
    card = vim.vm.device.VirtualEthernetCard
    unknown = (None, None)
    if isinstance(backing, card.DistributedVirtualPortBackingInfo):
        return networks.get(backing.port.portgroupKey or "", unknown)
    if isinstance(backing, card.OpaqueNetworkBackingInfo):
        return networks.get(backing.opaqueNetworkId, unknown)
    name, network = getattr(backing, "deviceName", None), getattr(backing, "network", None)
    if network is not None:
        return name, moref(network)
    # A snapshot's configuration names the network only.
    called = {found for known, found in networks.values() if known == name}
    return name, called.pop() if len(called) == 1 else None


def has_vtpm(devices: Iterable[Any]) -> bool:
    """True where a virtual TPM is among the devices."""
    return any(isinstance(device, vim.vm.device.VirtualTPM) for device in devices)
