"""Makes VMs with content on their disks, for tests and demonstrations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vreplica.extents import Extents
from vreplica.lab import hardware
from vreplica.lab.api.vmodl import vim
from vreplica.lab.context import SiteContext
from vreplica.lab.storage.datastore_names import datacenter_of
from vreplica.units import KIB, MIB, SECTOR, round_up
from vreplica.vddk.handle import DiskHandle

_PIECE = 4 * MIB
kinds: Any = hardware.device


def make_vm(
    site: SiteContext,
    name: str,
    *,
    disks: list[Any],
    guest_id: str = "otherGuest64",
    cpus: int = 1,
    memory_mib: int = 1024,
    power_on: bool = False,
    cbt: bool = False,
    datastore: str | None = None,
    network: str | None = "VM Network",
    firmware: str = "bios",
    extra: dict[str, str] | None = None,
    host: str | None = None,
    devices: list[str] | tuple[str, ...] = (),
    encrypted: bool = False,
    sector_bytes: int = 512,
    version: str | None = None,
) -> Any:
    """Makes a VM as CreateVM_Task does, then fills its disks, then tracks and starts it.

    It lies in the datacenter of its host, which is the first one where none is named.
    """
    found = [h for h in site.hosts() if host in (None, h.name, h._moId)]
    if not found:
        raise ValueError(f"{site.name} has no host {host}")
    place = found[0]
    stores = [d for d in place.datastore if datastore in (None, d.name, d._moId)]
    if not stores:
        raise ValueError(f"{place.name} has no datastore {datastore}")
    store = stores[0].folder
    changes = [
        _added(
            kinds.ParaVirtualSCSIController(key=-1, busNumber=0, sharedBus="noSharing"),
            create=False,
        )
    ]
    for number, (capacity, thin, _) in enumerate(disks):
        unit = number if number < 7 else number + 1
        changes.append(_added(_disk(store, capacity, bool(thin), unit, -100 - number), create=True))
    if network:
        card = kinds.VirtualVmxnet3(key=-900, backing=_card_backing(place, network))
        changes.append(_added(card, create=False))
    changes += [_added(_other(place, kind), create=False) for kind in devices]
    if (encrypted or "tpm" in devices) and not site.settings.key_provider:
        site.settings.change(key_provider="lab-provider")
    key = vim.encryption.CryptoKeyId(keyId="")
    spec = vim.vm.ConfigSpec(
        name=name,
        version=version,
        crypto=vim.encryption.CryptoSpecEncrypt(cryptoKeyId=key) if encrypted else None,
        guestId=guest_id,
        numCPUs=cpus,
        memoryMB=memory_mib,
        firmware=firmware,
        files=vim.vm.FileInfo(vmPathName=f"[{store}]"),
        deviceChange=changes,
        extraConfig=[vim.option.OptionValue(key=k, value=v) for k, v in (extra or {}).items()],
    )
    folder = datacenter_of(place).vmFolder
    folder.require_free(name)
    vm = folder.create_vm(spec, place.parent.resourcePool, place)
    for disk, (_, _, content) in zip(hardware.disks_of(vm.config), disks, strict=True):
        if content:
            write_content(site, disk, Path(content))
    if encrypted or sector_bytes != 512:
        for disk in hardware.disks_of(vm.config):
            if encrypted:
                disk.backing.keyId = vm.config.keyId
            if sector_bytes == 4096:
                disk.virtualDiskFormat = "native_4k"
                with site.disks.open(disk.backing.fileName, read_only=False) as opened:
                    opened.write_metadata("logicalSectorSize", "4096")
        vm.touch()
    if cbt:
        vm.reconfigure(vim.vm.ConfigSpec(changeTrackingEnabled=True))
    if power_on:
        for _ in vm.PowerOnVM_Task():
            pass
    site.flush()
    return vm


def _other(host: Any, kind: str) -> Any:
    """A device by its short name: tpm, pci, usb, cdrom, serial. `host` has pci and usb then."""
    if kind == "tpm":
        return kinds.VirtualTPM(key=-800)
    if kind == "cdrom":
        backing = kinds.VirtualCdrom.RemotePassthroughBackingInfo(deviceName="", exclusive=False)
        return kinds.VirtualCdrom(key=-801, controllerKey=200, unitNumber=0, backing=backing)
    if kind == "serial":
        backing = kinds.VirtualSerialPort.URIBackingInfo(
            serviceURI="telnet://:2345", direction="server"
        )
        return kinds.VirtualSerialPort(key=-802, controllerKey=400, backing=backing)
    if kind == "usb":
        name = "path:1/0/1 version:2"
        backing = kinds.VirtualUSB.USBBackingInfo(deviceName=name)
        made = kinds.VirtualUSB(key=-803, connected=True, backing=backing)
    elif kind == "pci":
        name = "0000:3b:00.0"
        made = kinds.VirtualPCIPassthrough(
            key=-804,
            backing=kinds.VirtualPCIPassthrough.DeviceBackingInfo(
                id=name, deviceId="1db4", systemId="lab", vendorId=4318, deviceName="GPU"
            ),
        )
    else:
        raise ValueError(f"no such device: {kind}; known: tpm, pci, usb, cdrom, serial")
    host.own_devices = sorted({*host.own_devices, name})
    return made


def _card_backing(host: Any, network: str) -> Any:
    """The backing of a card on a network of the host, by its name or moref."""
    card = kinds.VirtualEthernetCard
    found = next((n for n in host.network if network in (n.name, n._moId)), None)
    if found is None or not hasattr(found, "switch"):
        return card.NetworkBackingInfo(deviceName=found.name if found else network)
    port = vim.dvs.PortConnection(portgroupKey=found.key, switchUuid=found.switch.uuid)
    return card.DistributedVirtualPortBackingInfo(port=port)


def _added(device: Any, *, create: bool) -> Any:
    made = kinds.VirtualDeviceSpec(operation="add", device=device)
    if create:
        made.fileOperation = "create"
    return made


def _disk(store: str, capacity: int, thin: bool, unit: int, key: int) -> Any:
    return kinds.VirtualDisk(
        key=key,
        controllerKey=-1,
        unitNumber=unit,
        capacityInKB=capacity // KIB,
        capacityInBytes=capacity,
        backing=kinds.VirtualDisk.FlatVer2BackingInfo(
            fileName=f"[{store}]", diskMode="persistent", thinProvisioned=thin
        ),
    )


def write_content(site: SiteContext, disk: Any, content: Path) -> None:
    """Copies a raw image onto a disk. Holes of the file are not written."""
    with site.disks.open(disk.backing.fileName, read_only=False) as handle:
        copy_raw(content, handle, disk.capacityInBytes)


def copy_raw(content: Path, handle: DiskHandle, capacity: int) -> None:
    size = content.stat().st_size
    if size > capacity:
        raise ValueError(f"{content} has {size} bytes, the disk only {capacity}")
    with content.open("rb") as file:
        for start, end in _data(file.fileno(), size).align(SECTOR).split(_PIECE):
            file.seek(start)
            piece = file.read(end - start)
            handle.write_from(start, memoryview(piece.ljust(round_up(len(piece), SECTOR), b"\0")))
    handle.flush()


def _data(fd: int, size: int) -> Extents:
    """The areas of a sparse file that hold data."""
    pairs, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        pairs.append((start, min(at, size)))
    return Extents.from_pairs(pairs)
