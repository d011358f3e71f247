"""The configuration of a VM: that of a new VM, and the changes of a ConfigSpec.

`apply_spec` changes a copy, and collects what has to be done to files. The VM takes the copy over
once that is done.
"""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.names import entity_name
from vreplica.lab.api.vmodl import fault, invalid_argument, invalid_power_state, vim
from vreplica.lab.context import SiteContext
from vreplica.lab.guest.os_names import full_name
from vreplica.lab.storage.paths import split_path
from vreplica.lab.vm.encryption import apply_to_home, key_of_spec, require_tpm
from vreplica.units import KIB, SECTOR, TIB

CAPACITY_MAX = 62 * TIB
MEMORY_MAX_MIB = 24 * 1024 * 1024
_Create: Any = hardware.device.VirtualDeviceSpec.FileOperation.create
_FLAT: Any = hardware.device.VirtualDisk.FlatVer2BackingInfo
_RAW: Any = hardware.device.VirtualDisk.RawDiskMappingVer1BackingInfo


def stamp(config: Any, before: Any, at: datetime) -> None:
    """Gives a configuration that takes the place of `before` a new `changeVersion`.

    The version is a time, as vCenter's is (`2017-11-21T13:16:07.743507Z`, vmware/vic issue 6642):
    `at`, which is now by the host's clock. It always lies after the one before, also where the
    clock was set back: a client compares it to learn of changes, so none may come twice.
    """
    config.modified = at
    if before is not None:
        at = max(at, datetime.fromisoformat(before.changeVersion) + timedelta(microseconds=1))
    config.changeVersion = f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"


def nvram_name(vmx_path: str) -> str:
    """The name that a new VM's NVRAM file has: that of the .vmx."""
    return vmx_path.rpartition("/")[2].removesuffix(".vmx") + ".nvram"


def new_config(name: str, vmx_path: str, at: datetime) -> Any:
    """The configuration of a VM without disks and network cards, made now: `at`."""
    folder = vmx_path.rpartition("/")[0]
    made = vim.vm.ConfigInfo(
        createDate=at,
        name=name,
        guestFullName=full_name("otherGuest64"),
        guestId="otherGuest64",
        alternateGuestName="",
        version="vmx-21",
        uuid=str(uuid.uuid4()),
        instanceUuid=str(uuid.uuid4()),
        template=False,
        annotation="",
        files=vim.vm.FileInfo(
            vmPathName=vmx_path,
            snapshotDirectory=f"{folder}/",
            suspendDirectory=f"{folder}/",
            logDirectory=f"{folder}/",
        ),
        tools=vim.vm.ToolsConfigInfo(
            toolsVersion=12389,
            syncTimeWithHost=False,
            toolsUpgradePolicy="manual",
            lastInstallInfo=vim.vm.ToolsConfigInfo.ToolsLastInstallInfo(counter=0),
        ),
        flags=vim.vm.FlagInfo(diskUuidEnabled=False, enableLogging=True, snapshotLocked=False),
        defaultPowerOps=vim.vm.DefaultPowerOpInfo(
            powerOffType="soft",
            suspendType="hard",
            resetType="soft",
            defaultPowerOffType="soft",
            defaultSuspendType="hard",
            defaultResetType="soft",
        ),
        hardware=vim.vm.VirtualHardware(
            numCPU=1, numCoresPerSocket=1, memoryMB=1024, device=hardware.default_devices()
        ),
        extraConfig=[vim.option.OptionValue(key="nvram", value=nvram_name(vmx_path))],
        bootOptions=vim.vm.BootOptions(efiSecureBootEnabled=False),
        firmware="bios",
        changeTrackingEnabled=False,
        cpuHotAddEnabled=False,
        memoryHotAddEnabled=False,
        swapPlacement="inherit",
    )
    stamp(made, None, at)
    return made


@dataclass
class ConfigChange:
    """A new configuration, and the files that were made or are to be removed."""

    config: Any
    created: list[str] = field(default_factory=list)
    destroy: list[str] = field(default_factory=list)
    removed: list[Any] = field(default_factory=list)
    grown: dict[int, int] = field(default_factory=dict)
    """Disk key -> new capacity in bytes."""
    networks: bool = False
    """Network cards were added or changed."""


def apply_spec(
    site: SiteContext, host: Any, old: Any, spec: Any, *, running: bool, snapshots: bool
) -> ConfigChange:
    """Applies `spec` to a copy of `old`. Raises the faults of a host; then no file is left.

    `host`: the VM's, whose datastores and networks it may use.
    """
    made = ConfigChange(copy.deepcopy(old))
    try:
        host.require_supported(spec.version, spec.guestId)
        _scalars(made.config, spec, running)
        apply_to_home(site, made.config, spec, running=running)
        _extra(made.config, spec.extraConfig)
        _DeviceChanges(site, host, made, running, snapshots).apply(spec.deviceChange or ())
    except BaseException:
        for path in made.created:
            site.disks.unlink(path)
        raise
    return made


def _scalars(config: Any, spec: Any, running: bool) -> None:
    virtual = config.hardware
    if spec.numCPUs is not None and not 1 <= spec.numCPUs <= 768:
        raise invalid_argument("configSpec.numCPUs")
    if spec.memoryMB is not None and not (
        4 <= spec.memoryMB <= MEMORY_MAX_MIB and spec.memoryMB % 4 == 0
    ):
        raise invalid_argument("configSpec.memoryMB")
    for name, hot in (
        ("numCPUs", config.cpuHotAddEnabled),
        ("memoryMB", config.memoryHotAddEnabled),
        ("firmware", spec.firmware == config.firmware),
        ("version", spec.version == config.version),
    ):
        if running and getattr(spec, name) is not None and not hot:
            raise invalid_power_state("poweredOn", "poweredOff")
    virtual.numCPU = spec.numCPUs or virtual.numCPU
    virtual.numCoresPerSocket = spec.numCoresPerSocket or virtual.numCoresPerSocket
    if virtual.numCPU % (virtual.numCoresPerSocket or 1):
        raise invalid_argument("configSpec.numCoresPerSocket")
    virtual.memoryMB = int(spec.memoryMB or virtual.memoryMB)
    if spec.guestId:
        config.guestId, config.guestFullName = spec.guestId, full_name(spec.guestId)
    if spec.name is not None:
        config.name = entity_name(spec.name)
    plain = (
        "version",
        "uuid",
        "instanceUuid",
        "annotation",
        "firmware",
        "alternateGuestName",
    )
    for name in (
        *(*plain, "changeTrackingEnabled", "cpuHotAddEnabled", "memoryHotAddEnabled"),
        *("sevEnabled", "sevSnpEnabled", "tdxEnabled"),
    ):
        value = getattr(spec, name)
        if value is not None:
            setattr(config, name, value)
    for name in (
        "bootOptions",
        "flags",
        "tools",
        "cpuAllocation",
        "memoryAllocation",
        "managedBy",
        "vAppConfig",
    ):
        value = getattr(spec, name, None)
        if value is not None and name != "vAppConfig":
            _overlay(config, name, value)


def _overlay(config: Any, name: str, value: Any) -> None:
    """Takes over the fields of a nested object that are set."""
    old = getattr(config, name)
    if old is None:
        setattr(config, name, value)
        return
    for info in value._GetPropertyList():
        given = getattr(value, info.name)
        if given is not None and given != []:
            setattr(old, info.name, given)


def _extra(config: Any, options: Any) -> None:
    """An empty value removes a key, as in a .vmx file."""
    if not options:
        return
    merged = {o.key: o.value for o in config.extraConfig}
    for option in options:
        merged.pop(option.key, None)
        if option.value not in ("", None):
            merged[option.key] = str(option.value)
    config.extraConfig = [vim.option.OptionValue(key=k, value=v) for k, v in merged.items()]


class _DeviceChanges:
    """Applies the device changes of one spec, in their order."""

    def __init__(
        self, site: SiteContext, host: Any, made: ConfigChange, running: bool, snapshots: bool
    ) -> None:
        self.site = site
        self.host = host
        self.made = made
        self.list = made.config.hardware.device
        self.running = running
        self.snapshots = snapshots
        self.keys: dict[int, int] = {}

    def apply(self, changes: Any) -> None:
        for index, entry in enumerate(changes):
            wanted = copy.deepcopy(entry.device)
            if wanted.controllerKey in self.keys:
                wanted.controllerKey = self.keys[wanted.controllerKey]
            key = wanted.key
            if entry.operation == "add":
                self.add(index, wanted, entry)
                hardware.translate_label(wanted, self.site.settings.language)
                self.keys[key] = wanted.key
                continue
            existing = hardware.find_device(self.list, key)
            if existing is None:
                raise hardware.invalid_device(index, "key", f"There is no device {key}.")
            if entry.operation == "remove":
                self.remove(existing, entry.fileOperation)
            elif entry.operation == "edit":
                self.edit(index, existing, wanted)
            else:
                raise hardware.invalid_device(index, "operation", "An operation is required.")

    def add(self, index: int, wanted: Any, entry: Any) -> None:
        kinds = hardware.device
        if isinstance(wanted, kinds.VirtualDisk):
            self.add_disk(index, wanted, entry.fileOperation)
            crypto = entry.backing.crypto if entry.backing is not None else None
            if isinstance(wanted.backing, _FLAT):
                wanted.backing.keyId = key_of_spec(self.site, None, crypto, entry.profile)
        elif isinstance(wanted, kinds.VirtualController):
            hardware.add_controller(self.list, wanted, index)
        elif isinstance(wanted, kinds.VirtualEthernetCard):
            self.made.networks = True
            hardware.add_nic(self.list, wanted, index, self.host.network_for, running=self.running)
        elif isinstance(wanted, kinds.VirtualTPM):
            require_tpm(self.site, self.made.config, index)
            hardware.add_device(self.list, wanted)
        else:
            self.require_backing(index, wanted)
            hardware.add_device(self.list, wanted)

    def require_backing(self, index: int, wanted: Any) -> None:
        """Raises InvalidDeviceBacking, InvalidDatastore for what the host does not have."""
        backing, kinds = wanted.backing, hardware.device
        if isinstance(backing, kinds.VirtualDevice.FileBackingInfo) and backing.fileName:
            self.host.require_datastore(split_path(backing.fileName)[0])
        physical = isinstance(wanted, kinds.VirtualPCIPassthrough | kinds.VirtualUSB)
        name = getattr(backing, "id", None) or getattr(backing, "deviceName", None)
        if physical and name not in self.host.own_devices:
            text = f"{self.host.name} has no device {name}."
            raise hardware.invalid_device(index, "backing", text, vim.fault.InvalidDeviceBacking)

    def add_disk(self, index: int, wanted: Any, file_operation: Any) -> None:
        backing = wanted.backing
        if not isinstance(backing, _FLAT | _RAW):
            raise hardware.invalid_device(
                index, "backing", "Incompatible device backing.", vim.fault.InvalidDeviceBacking
            )
        disks, path = self.site.disks, self.file_of(index, backing)
        self.host.require_datastore(split_path(path)[0])
        hardware.place_on_controller(self.list, wanted, index)
        below = getattr(backing, "parent", None)
        if file_operation == _Create and below is not None:
            # A child of another disk, as linked clones have: an empty link on top of it.
            path = disks.next_link_name(path)
            if not disks.path(below.fileName).is_file():
                text = f"File {below.fileName} was not found"
                raise fault(vim.fault.FileNotFound, text, file=below.fileName)
            disks.create_child(below.fileName, path)
            self.made.created.append(path)
            capacity, backing.uuid = disks.capacity(path), disks.uuid_of(path)
        elif file_operation == _Create:
            capacity = wanted.capacityInBytes or (wanted.capacityInKB or 0) * KIB
            if not 0 < capacity <= CAPACITY_MAX or capacity % SECTOR:
                raise hardware.invalid_device(index, "capacityInKB", f"{capacity} bytes.")
            path = path if backing.fileName.endswith(".vmdk") else disks.free_name(path)
            uuid_text = disks.create(
                path, capacity, thin=bool(getattr(backing, "thinProvisioned", 0))
            )
            self.made.created.append(path)
            backing.uuid = uuid_text
        else:
            if not disks.path(path).is_file():
                raise fault(vim.fault.FileNotFound, f"File {path} was not found", file=path)
            if path in {d.backing.fileName for d in hardware.disks_of(self.made.config)}:
                raise hardware.invalid_device(index, "backing.fileName", f"{path} is attached.")
            if self.running:
                disks.check_unlocked(path)
            capacity = disks.capacity(path)
            backing.uuid = disks.uuid_of(path)
            text = disks.path(path).read_bytes()[:2048]
            backing.thinProvisioned = b"thinProvisioned" in text
        backing.fileName, backing.datastore = path, self.site.datastore(split_path(path)[0])
        backing.diskMode = backing.diskMode or "persistent"
        if isinstance(backing, _FLAT):
            backing.thinProvisioned = bool(backing.thinProvisioned)
            backing.split = backing.writeThrough = backing.digestEnabled = False
            backing.sharing = backing.sharing or "sharingNone"
            backing.changeId = backing.parent = None
        wanted.capacityInBytes, wanted.capacityInKB = capacity, capacity // KIB
        wanted.deviceInfo = hardware.description(
            hardware.free_disk_label(self.list), f"{capacity // KIB:,} KB"
        )
        wanted.shares = wanted.shares or vim.SharesInfo(shares=1000, level="normal")
        wanted.nativeUnmanagedLinkedClone = False
        wanted.diskObjectId = f"{self.made.config.instanceUuid[:8]}-{wanted.key}"
        self.list.append(wanted)

    def file_of(self, index: int, backing: Any) -> str:
        """The path of a new disk: the given one, or the VM's name beside its .vmx."""
        folder = self.made.config.files.vmPathName.rpartition("/")[0]
        name = (backing.fileName or "").strip()
        if not name or name.endswith("]"):
            store = split_path(name + " x")[0] if name else split_path(folder)[0]
            if backing.datastore is not None and not name:
                store = backing.datastore.folder
            directory = split_path(folder)[1]
            return f"[{store}] {directory}/{directory.rpartition('/')[2]}.vmdk"
        store, rest = split_path(name)
        if rest.endswith("/") or not rest.endswith(".vmdk"):
            raise hardware.invalid_device(
                index, "backing.fileName", name, vim.fault.InvalidDeviceBacking
            )
        return f"[{store}] {rest}"

    def remove(self, existing: Any, file_operation: Any) -> None:
        hardware.remove_device(self.list, existing)
        self.made.removed.append(existing)
        if file_operation == "destroy" and isinstance(existing, hardware.device.VirtualDisk):
            self.made.destroy.append(existing.backing.fileName)

    def edit(self, index: int, existing: Any, wanted: Any) -> None:
        if isinstance(existing, hardware.device.VirtualDisk):
            self.edit_disk(index, existing, wanted)
        elif isinstance(existing, hardware.device.VirtualEthernetCard):
            self.edit_nic(index, existing, wanted)
        else:
            for info in wanted._GetPropertyList():
                given = getattr(wanted, info.name)
                if given is not None and given != [] and info.name not in ("key", "deviceInfo"):
                    setattr(existing, info.name, given)

    def edit_nic(self, index: int, existing: Any, wanted: Any) -> None:
        """Changes a card. While the VM runs, its MAC address cannot change."""
        self.made.networks = True
        if wanted.backing is not None:
            network = self.host.network_for(wanted.backing, index)
            existing.backing = wanted.backing
            existing.deviceInfo = hardware.description(existing.deviceInfo.label, network.name)
        if wanted.connectable is not None:
            existing.connectable = wanted.connectable
            # A card of a VM that is off is never connected.
            connected = self.running and bool(wanted.connectable.connected)
            existing.connectable.connected = connected
        before = existing.addressType, existing.macAddress
        if wanted.addressType or wanted.macAddress:
            kind = wanted.addressType or ("manual" if wanted.macAddress else None)
            hardware.set_mac(existing, kind, wanted.macAddress, index)
        if self.running and (existing.addressType, existing.macAddress) != before:
            raise invalid_power_state("poweredOn", "poweredOff")

    def edit_disk(self, index: int, existing: Any, wanted: Any) -> None:
        old = existing.capacityInBytes
        size = wanted.capacityInBytes or old
        if size == old and wanted.capacityInKB and wanted.capacityInKB != existing.capacityInKB:
            size = wanted.capacityInKB * KIB
        if size < old or size > CAPACITY_MAX or size % SECTOR:
            raise hardware.invalid_device(index, "capacityInKB", "A disk cannot shrink.")
        if size > old:
            if self.snapshots:
                raise fault(
                    vim.fault.InvalidDeviceOperation,
                    "A disk of a virtual machine with snapshots cannot be extended.",
                    deviceIndex=index,
                    property="virtualDeviceSpec.device.capacityInKB",
                    badOp="edit",
                )
            self.made.grown[existing.key] = size
            existing.capacityInBytes, existing.capacityInKB = size, size // KIB
            existing.deviceInfo = hardware.description(
                existing.deviceInfo.label, f"{size // KIB:,} KB"
            )
        mode = wanted.backing.diskMode if wanted.backing is not None else None
        if mode and mode != existing.backing.diskMode:
            if self.running or self.snapshots:
                raise hardware.invalid_device(index, "backing.diskMode", "Power off first.")
            existing.backing.diskMode = mode
        sharing = getattr(wanted.backing, "sharing", None) if wanted.backing is not None else None
        if sharing:
            existing.backing.sharing = sharing
