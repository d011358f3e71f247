"""Creates a replica VM like its source: same controllers, same disk places, empty disks.

The guest must find its disks where they were, so type, bus and unit of each controller and disk
stay. The replica must not talk before the failover, so its network cards are disconnected. After
creation the VM is read back: where a host placed a disk elsewhere, that is found now and not at
the failover.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vreplica.units import KIB
from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.errors import ObjectGone, ReplicaNotAsAsked
from vreplica.vsphere.inventory import placement
from vreplica.vsphere.inventory.devices import ADDABLE, controller_class, nic_class
from vreplica.vsphere.inventory.placement import PlacementObjects
from vreplica.vsphere.inventory.tree import read_places
from vreplica.vsphere.inventory.vm import read_vm
from vreplica.vsphere.model import Controller, Nic, ReplicaSpec, VmDisk, VmInfo, VmRef
from vreplica.vsphere.names import escape, unescape

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

CARRIED_OPTIONS = ("disk.EnableUUID",)
"""Options of the source that a replica gets. Without this one Windows cannot quiesce applications
(VDDK 8.0 Programming Guide)."""


def create(link: ServerLink, spec: ReplicaSpec, limits: WaitLimits) -> VmRef:
    """Creates the replica, powered off, and returns it.

    Raises PlacementNotFound or PlacementAmbiguous before anything is done, DatastoreFull,
    NameTaken, PermissionDenied ..., and ReplicaNotAsAsked after the VM is removed again.
    """
    tree = read_places(link)
    place = placement.choose(link.endpoint.host, tree, spec)
    made = tasks.run(
        link,
        f"creating replica {spec.name!r}",
        place.folder.CreateVM_Task,
        config_spec(spec, place, tree.name(place.store)),
        place.pool,
        place.host.managed,
        vm=spec.name,
        limits=limits,
    )
    vm = VmRef(moref(made), unescape(spec.name))
    difference = differences(spec, read_vm(link, vm))
    if difference:
        destroy(link, vm, limits)
        raise ReplicaNotAsAsked(spec.name, difference).at(vm=spec.name)
    return vm


def config_spec(spec: ReplicaSpec, place: PlacementObjects, datastore: str) -> Any:
    """Returns the ConfigSpec for CreateVM_Task."""
    source = spec.source
    disks = wanted_disks(spec)
    changes = [
        *(_add(controller_device(c)) for c in source.controllers if c.type in ADDABLE),
        *(
            _add(_disk(d, spec, datastore), file="create", policy=spec.storage_policy)
            for d in disks
        ),
        *(
            _add(nic_device(n, place.backings[n.key], keep_mac=bool(spec.keep.mac)))
            for n in source.nics
            if n.key in place.backings
        ),
    ]
    options = {
        key: value
        for key, value in source.extra_config.items()
        if key.lower() in {name.lower() for name in CARRIED_OPTIONS}
    }
    options.update(spec.extra_config)
    config = vim.vm.ConfigSpec(
        name=escape(spec.name),
        version=source.hw_version or None,
        guestId=source.guest_id or None,
        uuid=source.bios_uuid if spec.keep.bios_uuid else None,
        annotation=spec.annotation or None,
        files=vim.vm.FileInfo(vmPathName=f"[{datastore}]"),
        numCPUs=source.cpus,
        numCoresPerSocket=source.cores_per_socket,
        memoryMB=source.memory_mib,
        memoryHotAddEnabled=source.memory_hot_add,
        cpuHotAddEnabled=source.cpu_hot_add,
        firmware=source.firmware,
        bootOptions=vim.vm.BootOptions(efiSecureBootEnabled=source.secure_boot),
        deviceChange=changes,
        extraConfig=[vim.option.OptionValue(key=k, value=v) for k, v in options.items()],
    )
    if spec.storage_policy:
        config.vmProfile = [vim.vm.DefinedProfileSpec(profileId=spec.storage_policy)]
    if spec.new_vtpm and source.has_vtpm:
        config.deviceChange += [_add(vim.vm.device.VirtualTPM(key=-1))]
    if spec.track_changes:
        config.changeTrackingEnabled = True
    if source.nested_hv:
        config.nestedHVEnabled = True
    if source.vbs:
        config.flags = vim.vm.FlagInfo(vbsEnabled=True)
    return config


def wanted_disks(spec: ReplicaSpec) -> list[VmDisk]:
    """The source's disks that the replica gets."""
    return [d for d in spec.source.disks if d.key not in spec.exclude_disks]


def _add(device: Any, file: str | None = None, policy: str | None = None) -> Any:
    change = vim.vm.device.VirtualDeviceSpec(device=device, operation="add")
    if file:
        change.fileOperation = file
    if policy:
        change.profile = [vim.vm.DefinedProfileSpec(profileId=policy)]
    return change


def controller_device(controller: Controller) -> Any:
    """Returns pyVmomi's device for a controller of the replica."""
    device = controller_class(controller.type)(key=controller.key, busNumber=controller.bus_number)
    if isinstance(device, vim.vm.device.VirtualSCSIController):
        # A replica never shares its disks, even where the source does.
        device.sharedBus = "noSharing"
    return device


def _disk(disk: VmDisk, spec: ReplicaSpec, datastore: str) -> Any:
    thin = disk.thin if spec.thin is None else spec.thin
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
        # Without a file name the host names the file after the VM.
        fileName=f"[{datastore}]",
        diskMode="persistent",
        thinProvisioned=thin,
    )
    if not thin and disk.eagerly_scrub:
        backing.eagerlyScrub = True
    return vim.vm.device.VirtualDisk(
        key=disk.key,
        controllerKey=disk.controller_key,
        unitNumber=disk.unit_number,
        guestReadOnly=disk.guest_read_only or None,
        capacityInBytes=disk.capacity_bytes,
        capacityInKB=-(-disk.capacity_bytes // KIB),
        backing=backing,
    )


def nic_device(nic: Nic, backing: Any, *, keep_mac: bool) -> Any:
    """Returns pyVmomi's device for a disconnected network card of the replica."""
    device = nic_class(nic.type)(
        key=nic.key,
        backing=backing,
        addressType=address_type(nic.mac) if keep_mac and nic.mac else "generated",
        connectable=vim.vm.device.VirtualDevice.ConnectInfo(
            startConnected=False, connected=False, allowGuestControl=True
        ),
    )
    if keep_mac and nic.mac:
        device.macAddress = nic.mac
    return device


def address_type(mac: str) -> str:
    """Returns the addressType under which ESXi accepts a MAC address at power-on.

    It refuses a generated address as `manual`: of 00:50:56 it takes 00 to 3F only (vSphere
    Networking, "MAC Addresses"). So one that vCenter made is `assigned`, a host's `generated`.
    """
    parts = mac.lower().split(":")
    if parts[:3] == ["00", "50", "56"]:
        return "manual" if int(parts[3], 16) < 0x40 else "assigned"
    return "generated" if parts[:3] == ["00", "0c", "29"] else "manual"


def differences(spec: ReplicaSpec, made: VmInfo) -> str:
    """Says where the new VM's disks and cards are not as asked for; empty where all are."""
    found = {d.position: d for d in made.disks}
    wrong = []
    for disk in wanted_disks(spec):
        kind, bus, unit = disk.position
        there = found.pop(disk.position, None)
        if there is None:
            wrong.append(f"{disk.label} is not at {kind} {bus}:{unit}")
        elif there.key != disk.key:
            wrong.append(f"{disk.label} has device key {there.key} instead of {disk.key}")
        elif there.capacity_bytes != disk.capacity_bytes:
            wrong.append(
                f"{disk.label} has {there.capacity_bytes} bytes instead of {disk.capacity_bytes}"
            )
    wrong += [f"{d.label} was not asked for" for d in found.values()]
    plain = [d.label for d in made.disks if not d.encrypted]
    if spec.must_encrypt and plain:
        wrong.append(f"{', '.join(plain)} is not encrypted by policy {spec.storage_policy}")
    if spec.new_vtpm and spec.source.has_vtpm and not made.has_vtpm:
        wrong.append("it has no virtual TPM")
    cards = {n.key: n for n in made.nics}
    for nic in spec.source.nics if spec.keep.mac else ():
        card = cards.get(nic.key)
        if nic.mac and card is not None and (card.mac or "").lower() != nic.mac.lower():
            wrong.append(f"{nic.label} has address {card.mac} instead of {nic.mac}")
    return "; ".join(wrong)


def destroy(link: ServerLink, vm: VmRef, limits: WaitLimits) -> None:
    """Removes a VM with its files. A VM that is gone already is a success."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    try:
        tasks.run(link, "removing the VM", managed.Destroy_Task, vm=vm.name, limits=limits)
    except ObjectGone:
        return


def set_extra_config(
    link: ServerLink,
    vm: VmRef,
    options: Mapping[str, str],
    limits: WaitLimits,
    *,
    change_version: str | None = None,
) -> None:
    """Sets entries of a VM's extraConfig; an empty value removes one.

    change_version: change nothing unless the configuration is still this version (vSphere API,
    VirtualMachineConfigSpec.changeVersion). Raises ConfigurationChanged.
    """
    spec = vim.vm.ConfigSpec(
        changeVersion=change_version,
        extraConfig=[vim.option.OptionValue(key=k, value=v) for k, v in options.items()],
    )
    tasks.reconfigure(link, "writing the VM's options", vm, spec, limits)
