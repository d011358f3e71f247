"""Gives a replica the hardware of its source: says what differs, and changes it in one call.

    differences(source, replica)    in words, for a plan; changes nothing
    apply(vm, ReshapeSpec)          one ReconfigVM_Task: disks detached and attached, controllers,
                                    network cards, processors, memory, firmware, guest

The replica may have snapshots. Each keeps the hardware of its time, and a revert brings that back:
vSphere freezes configuration and disks together. A detached disk's files stay.

Hardware that only the replica has (a controller that somebody added) stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vreplica.units import KIB
from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.collector import read_one
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.errors import ReplicaNotAsAsked
from vreplica.vsphere.inventory.devices import ADDABLE
from vreplica.vsphere.inventory.vm import read_vm
from vreplica.vsphere.model import (
    Controller,
    KeepIdentity,
    NewDisk,
    Nic,
    ReshapeSpec,
    VmInfo,
    VmRef,
    mapped_network,
)
from vreplica.vsphere.operations import hardware_identity
from vreplica.vsphere.operations.create_replica import (
    CARRIED_OPTIONS,
    controller_device,
    nic_device,
)
from vreplica.vsphere.operations.hardware_identity import (
    needs_new_mac,
    pair_cards,
    wanted_uuid,
    write_address,
)
from vreplica.vsphere.operations.nics import DEVICES, HostNetworks

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

# -- what differs ---------------------------------------------------------------------------

PLAIN = (
    ("cpus", "numCPUs", "processors"),
    ("cores_per_socket", "numCoresPerSocket", "cores per socket"),
    ("memory_mib", "memoryMB", "MiB of memory"),
    ("memory_hot_add", "memoryHotAddEnabled", "memory hot add"),
    ("cpu_hot_add", "cpuHotAddEnabled", "processor hot add"),
    ("guest_id", "guestId", "guest"),
    ("firmware", "firmware", "firmware"),
    ("nested_hv", "nestedHVEnabled", "nested virtualisation"),
)
"""Field of VmInfo, of ConfigSpec, and its name for people."""


def differences(
    source: VmInfo, replica: VmInfo, networks: Mapping[str, str], keep: KeepIdentity
) -> tuple[str, ...]:
    """Says what `apply` would change beside disks, one sentence each."""
    hardware = _differences(source, replica, networks)
    return (*hardware, *hardware_identity.differences(source, replica, keep))


def _differences(source: VmInfo, replica: VmInfo, networks: Mapping[str, str]) -> Iterator[str]:
    named = [(name, words) for name, _, words in PLAIN]
    for name, words in [*named, ("secure_boot", "secure boot"), ("vbs", "VBS")]:
        was, now = getattr(replica, name), getattr(source, name)
        if was != now:
            yield f"{words}: {_said(was)} becomes {_said(now)}"
    if _newer(source, replica):
        yield f"virtual hardware: {replica.hw_version} becomes {source.hw_version}"
    for key, value in _options(source, replica).items():
        yield f"{key} becomes {value or 'unset'}"
    for old, new in _controllers(source, replica):
        if old is None:
            yield f"controller {new.type} {new.bus_number} is added"
        else:
            yield f"controller {old.type} {old.bus_number} becomes {new.type}"
    for mine, theirs in pair_cards(source, replica):
        if theirs is None:
            assert mine is not None
            yield f"{mine.label} is removed"
        elif mine is None:
            yield f"{theirs.label} is added on {_mapped(theirs, networks)}"
        elif mine.type != theirs.type:
            yield f"{mine.label}: {mine.type} becomes {theirs.type}"
        elif not mine.is_on(_mapped(theirs, networks)):
            yield f"{mine.label}: network {mine.network} becomes {_mapped(theirs, networks)}"


def wanted_networks(source: VmInfo, replica: VmInfo, networks: Mapping[str, str]) -> dict[str, str]:
    """Returns the networks that `apply` attaches cards to: label of a card -> network."""
    return {
        theirs.label: _mapped(theirs, networks) or "unknown"
        for mine, theirs in pair_cards(source, replica)
        if theirs is not None
        and (mine is None or mine.type != theirs.type or not mine.is_on(_mapped(theirs, networks)))
    }


def _said(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _newer(source: VmInfo, replica: VmInfo) -> bool:
    """True where the source's virtual hardware is newer. vSphere upgrades it, never back."""
    numbers = [_number(source.hw_version), _number(replica.hw_version)]
    return numbers[0] > numbers[1] > 0


def _number(version: str) -> int:
    tail = version.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def _options(source: VmInfo, replica: VmInfo) -> dict[str, str]:
    """Returns the carried options that differ, with the source's value; "" removes one."""
    carried = {name.lower(): name for name in CARRIED_OPTIONS}
    sides = [
        {k.lower(): v for k, v in vm.extra_config.items() if k.lower() in carried}
        for vm in (source, replica)
    ]
    there, here = sides
    return {
        carried[k]: there.get(k, "") for k in sorted({*there, *here}) if there.get(k) != here.get(k)
    }


def _controllers(source: VmInfo, replica: VmInfo) -> Iterator[tuple[Controller | None, Controller]]:
    have = {c.key: c for c in replica.controllers}
    for wanted in source.controllers:
        old = have.get(wanted.key)
        if wanted.type in ADDABLE and (old is None or old.type != wanted.type):
            yield old, wanted


def _mapped(nic: Nic, networks: Mapping[str, str]) -> str | None:
    return mapped_network(nic, networks)


# -- changing it ----------------------------------------------------------------------------


def upgrade(link: ServerLink, vm: VmRef, source: VmInfo, limits: WaitLimits) -> None:
    """Upgrades a replica's virtual hardware to its source's version, where that is newer."""
    if _newer(source, read_vm(link, vm)):
        managed = link.managed(vim.VirtualMachine, vm.moref)
        operation = f"upgrading the virtual hardware to {source.hw_version}"
        method, version = managed.UpgradeVM_Task, source.hw_version
        tasks.run(link, operation, method, version, vm=vm.name, limits=limits)


def apply(
    link: ServerLink,
    vm: VmRef,
    want: ReshapeSpec,
    limits: WaitLimits,
    *,
    change_version: str | None = None,
) -> VmInfo:
    """Changes the replica, reads it back, and returns it.

    change_version: change nothing unless the configuration is still this version. Raises
    ConfigurationChanged, ReplicaNotAsAsked.
    """
    now = read_vm(link, vm)
    managed = link.managed(vim.VirtualMachine, vm.moref)
    operation = "bringing the replica's hardware up to date"
    entry = read_one(link, operation, managed, [DEVICES, "runtime.host"], vm=vm.name)
    devices = {d.key: d for d in entry.get(DEVICES) or []}
    cards = wanted_networks(want.source, now, want.networks)
    reachable = HostNetworks(link, entry.get("runtime.host")) if cards else None
    spec = _config_spec(want, now, devices, reachable)
    if spec is not None:
        spec.changeVersion = change_version
        tasks.reconfigure(link, operation, vm, spec, limits)
    made = read_vm(link, vm)
    wrong = _wrong(want, made)
    if wrong:
        raise ReplicaNotAsAsked(vm.name, wrong).at(vm=vm.name)
    return made


def _config_spec(
    want: ReshapeSpec, now: VmInfo, devices: Mapping[int, Any], reachable: HostNetworks | None
) -> Any:
    """Returns the ConfigSpec; None where nothing is to be changed."""
    source = want.source
    changes = [
        *(_change("remove", devices[key]) for key in want.detach),
        *_controller_changes(want, now, devices),
        *(_attach(disk) for disk in want.attach),
        *_nic_changes(want, now, devices, reachable),
    ]
    fields = {
        name: getattr(source, own)
        for own, name, _ in PLAIN
        if getattr(source, own) != getattr(now, own)
    }
    if "numCPUs" in fields:
        # vCenter checks one against the other.
        fields["numCoresPerSocket"] = source.cores_per_socket
    if source.secure_boot != now.secure_boot:
        fields["bootOptions"] = vim.vm.BootOptions(efiSecureBootEnabled=source.secure_boot)
    if source.vbs != now.vbs:
        fields["flags"] = vim.vm.FlagInfo(vbsEnabled=source.vbs)
    if (wanted := wanted_uuid(source, now, want.keep)) is not None:
        fields["uuid"] = wanted
    options = _options(source, now)
    if options:
        fields["extraConfig"] = [vim.option.OptionValue(key=k, value=v) for k, v in options.items()]
    if changes:
        fields["deviceChange"] = changes
    return vim.vm.ConfigSpec(**fields) if fields else None


def _change(operation: str, device: Any, file: str | None = None) -> Any:
    made = vim.vm.device.VirtualDeviceSpec(device=device, operation=operation)
    if file:
        made.fileOperation = file
    return made


def _controller_changes(
    want: ReshapeSpec, now: VmInfo, devices: Mapping[int, Any]
) -> Iterator[Any]:
    """A controller of another type takes the place of the old one, and keeps its disks."""
    for old, new in _controllers(want.source, now):
        if old is not None:
            yield _change("remove", devices[old.key])
        yield _change("add", controller_device(new))
        for disk in now.disks:
            moves = old is not None and disk.controller_key == old.key
            if moves and disk.key not in want.detach:
                yield _change("edit", devices[disk.key])


def _attach(disk: NewDisk) -> Any:
    like = disk.like
    device = vim.vm.device.VirtualDisk(
        key=like.key,
        controllerKey=like.controller_key,
        unitNumber=like.unit_number,
        # A file that exists keeps its own capacity.
        capacityInBytes=None if disk.exists else like.capacity_bytes,
        capacityInKB=0 if disk.exists else -(-like.capacity_bytes // KIB),
        backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName=disk.path, diskMode="persistent", thinProvisioned=True
        ),
    )
    return _change("add", device, None if disk.exists else "create")


def _nic_changes(
    want: ReshapeSpec, now: VmInfo, devices: Mapping[int, Any], reachable: HostNetworks | None
) -> Iterator[Any]:
    for mine, theirs in pair_cards(want.source, now):
        network = _mapped(theirs, want.networks) if theirs is not None else None
        if mine is not None and (theirs is None or mine.type != theirs.type):
            yield _change("remove", devices[mine.key])
            mine = None
        if theirs is None:
            continue
        moves = mine is None or not mine.is_on(network)
        if mine is not None and not moves and not needs_new_mac(mine, theirs, want.keep):
            continue
        backing = None
        if moves:
            assert reachable is not None, "asked for where a card changes"
            backing = reachable.backing(network or "unknown")
        if mine is None:
            yield _change("add", nic_device(theirs, backing, keep_mac=bool(want.keep.mac)))
            continue
        if moves:
            devices[mine.key].backing = backing
        if needs_new_mac(mine, theirs, want.keep):
            write_address(devices[mine.key], theirs, want.keep)
        yield _change("edit", devices[mine.key])


def _wrong(want: ReshapeSpec, made: VmInfo) -> str:
    """Says which disks are not as asked for: a guest would not find them."""
    there = {d.key: d for d in made.disks}
    wrong = [f"disk {key} is still there" for key in want.detach if key in there
             and key not in {n.like.key for n in want.attach}]  # fmt: skip
    for disk in want.attach:
        found = there.get(disk.like.key)
        if found is None or found.position != disk.like.position:
            kind, bus, unit = disk.like.position
            wrong.append(f"{disk.like.label} is not at {kind} {bus}:{unit}")
        elif not disk.any_size and found.capacity_bytes != disk.like.capacity_bytes:
            wrong.append(f"{disk.like.label} has {found.capacity_bytes} bytes")
    return "; ".join(wrong)
