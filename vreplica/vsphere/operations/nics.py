"""Connects, disconnects and attaches a VM's network cards.

A replica is created with disconnected cards. A failover connects them; a test failover first
attaches them to an isolated network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.collector import FoundObject, read_one
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.inventory.choose import the_one
from vreplica.vsphere.inventory.placement import network_backing, networks_of
from vreplica.vsphere.inventory.tree import InventoryTree, networks, read_places
from vreplica.vsphere.inventory.vm import read_vm
from vreplica.vsphere.model import NetworkInfo, Nic, VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

DEVICES = "config.hardware.device"


def set_connected(
    link: ServerLink, vm: VmRef, connect: bool, networks: Mapping[str, str], limits: WaitLimits
) -> tuple[Nic, ...]:
    """Connects or disconnects all cards, now (where the VM is on) and at power-on.

    networks: name of a card's network -> name of the network to attach it to. Returns the cards
    as they are then. Raises PlacementNotFound, with the networks of the VM's host.
    """
    operation = f"{'connecting' if connect else 'disconnecting'} the network cards"
    now = read_vm(link, vm)
    here = {nic.key: nic for nic in now.nics}
    managed = link.managed(vim.VirtualMachine, vm.moref)
    paths = [DEVICES, "runtime.host"]
    entry = read_one(link, operation, managed, paths, vm=vm.name)
    reachable = HostNetworks(link, entry.get("runtime.host")) if networks else None
    edits = []
    for device in entry.get(DEVICES) or []:
        nic = here.get(device.key)
        if nic is None:
            continue
        wanted = networks.get(nic.network or "")
        if wanted is not None and reachable is not None:
            device.backing = reachable.backing(wanted)
        info = device.connectable or vim.vm.device.VirtualDevice.ConnectInfo(allowGuestControl=True)
        info.startConnected = connect
        info.connected = connect and now.power_state == "poweredOn"
        device.connectable = info
        edits.append(vim.vm.device.VirtualDeviceSpec(device=device, operation="edit"))
    if edits:
        spec = vim.vm.ConfigSpec(deviceChange=edits)
        tasks.reconfigure(link, operation, vm, spec, limits)
    return read_vm(link, vm).nics


def attach_all_to(link: ServerLink, vm: VmRef, network: str, limits: WaitLimits) -> tuple[Nic, ...]:
    """Attaches all cards of a VM that is off to one network, with new MAC addresses.

    They connect at power-on. Raises PlacementNotFound, with the networks of the VM's host.
    """
    operation = f"attaching the network cards to {network}"
    managed = link.managed(vim.VirtualMachine, vm.moref)
    entry = read_one(link, operation, managed, [DEVICES, "runtime.host"], vm=vm.name)
    wanted = HostNetworks(link, entry.get("runtime.host")).backing(network)
    edits = []
    for card in entry.get(DEVICES) or []:
        if isinstance(card, vim.vm.device.VirtualEthernetCard):
            card.backing = wanted
            # A clone would keep an address that was set by hand. Empty, since an address that is
            # left out stays as it is.
            card.addressType, card.macAddress = "generated", ""
            card.connectable = vim.vm.device.VirtualDevice.ConnectInfo(
                startConnected=True, connected=False, allowGuestControl=True
            )
            edits.append(vim.vm.device.VirtualDeviceSpec(device=card, operation="edit"))
    if edits:
        spec = vim.vm.ConfigSpec(deviceChange=edits)
        tasks.reconfigure(link, operation, vm, spec, limits)
    return read_vm(link, vm).nics


def network_of_host(link: ServerLink, vm: VmRef, wanted: str) -> NetworkInfo:
    """Finds a network that the VM's host reaches. Raises PlacementNotFound, PlacementAmbiguous."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    entry = read_one(link, "reading the VM's host", managed, ["runtime.host"], vm=vm.name)
    return HostNetworks(link, entry.get("runtime.host")).info(wanted)


class HostNetworks:
    """The networks of one host, by name, path or moref."""

    def __init__(self, link: ServerLink, host: Any) -> None:
        self._server = link.endpoint.host
        self._tree: InventoryTree = read_places(link)
        found = self._tree.objects.get(moref(host)) if host is not None else None
        self._found = networks_of(self._tree, found)

    def backing(self, wanted: str) -> Any:
        """Returns what attaches a card to a network.

        Raises PlacementNotFound, PlacementAmbiguous.
        """
        return network_backing(self._tree, self._one(wanted))

    def info(self, wanted: str) -> NetworkInfo:
        """Raises PlacementNotFound, PlacementAmbiguous."""
        (info,) = networks(InventoryTree({"": self._one(wanted)}))
        return replace(info, path=self._tree.path(self._one(wanted)))

    def _one(self, wanted: str) -> FoundObject:
        return the_one(self._server, self._tree, "network called", wanted, self._found)
