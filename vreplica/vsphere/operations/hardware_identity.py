"""Sets a replica's hardware identity: BIOS UUID and MAC addresses, its source's or its own.

    KeepIdentity   a replica with the source's    a replica with another one
    ----------------------------------------------------------------------------
    True           stays                          gets the source's
    False          gets one of its own            stays
    None           stays                          stays

The cards of source and replica are paired in the order in which the guests see them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.collector import read_one
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.inventory.vm import read_vm
from vreplica.vsphere.model import KeepIdentity, Nic, VmInfo, VmRef
from vreplica.vsphere.operations.create_replica import address_type
from vreplica.vsphere.operations.nics import DEVICES

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink


def pair_cards(source: VmInfo, replica: VmInfo) -> Iterator[tuple[Nic | None, Nic | None]]:
    """Pairs the replica's cards with the source's; None where one has fewer."""
    mine = sorted(replica.nics, key=lambda n: n.key)
    theirs = sorted(source.nics, key=lambda n: n.key)
    for number in range(max(len(mine), len(theirs))):
        yield (
            mine[number] if number < len(mine) else None,
            theirs[number] if number < len(theirs) else None,
        )


def differences(source: VmInfo, replica: VmInfo, keep: KeepIdentity) -> Iterator[str]:
    """Says what is not as `keep` wants it, one sentence each."""
    if wanted_uuid(source, replica, keep) is not None:
        whose = "that of the source" if keep.bios_uuid else "one of its own"
        yield f"BIOS UUID: {replica.bios_uuid} becomes {whose}"
    for mine, theirs in pair_cards(source, replica):
        if mine is not None and needs_new_mac(mine, theirs, keep):
            whose = "that of the source" if keep.mac else "one of its own"
            yield f"{mine.label}: MAC address {mine.mac} becomes {whose}"


def wanted_uuid(source: VmInfo, replica: VmInfo, keep: KeepIdentity) -> str | None:
    """Returns the BIOS UUID that the replica is to get; None where it stays."""
    same = replica.bios_uuid == source.bios_uuid
    if keep.bios_uuid and not same:
        return source.bios_uuid
    return str(uuid.uuid4()) if keep.bios_uuid is False and same else None


def needs_new_mac(mine: Nic, theirs: Nic | None, keep: KeepIdentity) -> bool:
    """Returns True where this card of the replica is to get another MAC address."""
    if theirs is None or not theirs.mac or keep.mac is None:
        return False
    return ((mine.mac or "").lower() == theirs.mac.lower()) is not keep.mac


def write_address(card: Any, theirs: Nic, keep: KeepIdentity) -> None:
    """Writes the source's address into a card that is being changed, or lets the host make one."""
    if keep.mac and theirs.mac:
        card.addressType, card.macAddress = address_type(theirs.mac), theirs.mac
    else:
        # Empty, since an address that is left out stays as it is.
        card.addressType, card.macAddress = "generated", ""


def apply(
    link: ServerLink, vm: VmRef, source: VmInfo, keep: KeepIdentity, limits: WaitLimits
) -> None:
    """Gives a powered-off replica the identity that `keep` wants; nothing where it has it."""
    now = read_vm(link, vm)
    fields: dict[str, Any] = {}
    if (wanted := wanted_uuid(source, now, keep)) is not None:
        fields["uuid"] = wanted
    moved = {
        mine.key: theirs
        for mine, theirs in pair_cards(source, now)
        if mine is not None and theirs is not None and needs_new_mac(mine, theirs, keep)
    }
    operation = "giving the replica its BIOS UUID and MAC addresses"
    managed = link.managed(vim.VirtualMachine, vm.moref)
    if moved:
        entry = read_one(link, operation, managed, [DEVICES], vm=vm.name)
        cards = [d for d in entry.get(DEVICES) or [] if d.key in moved]
        for card in cards:
            write_address(card, moved[card.key], keep)
        fields["deviceChange"] = [
            vim.vm.device.VirtualDeviceSpec(device=card, operation="edit") for card in cards
        ]
    if fields:
        spec = vim.vm.ConfigSpec(**fields)
        tasks.reconfigure(link, operation, vm, spec, limits)
