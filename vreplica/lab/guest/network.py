"""The addresses and names of a guest on its networks, and conflicts with other VMs.

    guest setting addresses   {"4000": ["10.0.0.5/24", "fd00::5/64"], "4001": ["dhcp"]}
                              by the key of the card; `ip` sets that of the first card

On a network with an uplink, a DHCP server answers with an address made from the card's MAC. On an
isolated network there is none, and a card with DHCP gets a link-local address, as in real guests.

For two running VMs with one MAC on one network, vCenter posts VmMacConflictEvent. A conflict of IP
addresses is noticed by the guests only. The lab keeps both (LabControl.conflicts).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.vmodl import vim

DHCP = "dhcp"


@dataclass(frozen=True, slots=True)
class GuestNic:
    """A network card, as the guest sees it."""

    key: int
    network: Any
    mac: str
    connected: bool
    dhcp: bool
    addresses: tuple[str, ...]
    """With prefix lengths."""

    @property
    def ips(self) -> list[str]:
        return [a.partition("/")[0] for a in self.addresses]


@dataclass(frozen=True, slots=True)
class AddressConflict:
    """One address on one network that two running VMs have."""

    network: str
    kind: str
    """mac or ip"""
    value: str
    vms: tuple[str, str]
    """The VM that came later is the first one."""


def checked_addresses(addresses: Any) -> dict[str, list[str]]:
    """The setting `addresses` in its normal form. Raises ValueError."""
    made = {}
    for key, found in dict(addresses).items():
        int(key)
        made[str(key)] = [a if a == DHCP else str(ipaddress.ip_interface(a)) for a in found]
    return made


def guest_nics(vm: Any) -> list[GuestNic]:
    """The cards of a VM with the addresses that they have now."""
    settings, found = vm.guest_state.settings, []
    for number, nic in enumerate(hardware.nics_of(vm.config)):
        network = vm.host.network_of(nic.backing)
        wanted = settings["addresses"].get(str(nic.key))
        if wanted is None:
            wanted = [f"{settings['ip']}/24"] if settings["ip"] and number == 0 else []
        connected = bool(nic.connectable is not None and nic.connectable.connected)
        addresses = [dhcp_answer(network, nic.macAddress) if a == DHCP else a for a in wanted]
        found.append(
            GuestNic(
                key=nic.key,
                network=network,
                mac=nic.macAddress,
                connected=connected,
                dhcp=DHCP in wanted,
                addresses=tuple(addresses) if connected else (),
            )
        )
    return found


def dhcp_answer(network: Any, mac: str) -> str:
    """The address that a card with DHCP gets on a network, with its prefix length."""
    a, b, c = hashlib.sha256(mac.encode()).digest()[:3]
    if not network.uplink:
        return f"169.254.{1 + a % 254}.{b}/16"
    return f"10.{a}.{b}.{1 + c % 254}/8"


# -- properties of the API ------------------------------------------------------------------


def nic_infos(vm: Any) -> list[Any]:
    """GuestInfo.net."""
    net = vim.net
    return [
        vim.vm.GuestInfo.NicInfo(
            network=card.network.name,
            macAddress=card.mac,
            connected=card.connected,
            deviceConfigId=card.key,
            ipAddress=card.ips,
            ipConfig=net.IpConfigInfo(
                ipAddress=[
                    net.IpConfigInfo.IpAddress(
                        ipAddress=ip.partition("/")[0],
                        prefixLength=int(ip.partition("/")[2]),
                        origin="dhcp" if card.dhcp else "manual",
                        state="preferred",
                    )
                    for ip in card.addresses
                ],
                dhcp=net.DhcpConfigInfo(ipv4=net.DhcpConfigInfo.DhcpOptions(enable=card.dhcp)),
            ),
        )
        for card in guest_nics(vm)
    ]


def ip_stack(vm: Any, host_name: str) -> list[Any]:
    """GuestInfo.ipStack: names and gateways."""
    settings, net = vm.guest_state.settings, vim.net
    route: Any = net.IpRouteConfigInfo
    found = guest_nics(vm)
    routes = [
        route.IpRoute(
            network=str(
                ipaddress.ip_network("::/0" if ":" in gateway else "0.0.0.0/0").network_address
            ),
            prefixLength=0,
            gateway=route.Gateway(ipAddress=gateway, device="0"),
        )
        for gateway in settings["gateways"]
    ]
    return [
        vim.vm.GuestInfo.StackInfo(
            dnsConfig=net.DnsConfigInfo(
                dhcp=any(c.dhcp for c in found),
                hostName=host_name,
                domainName=settings["domain"],
                ipAddress=settings["dns"],
            ),
            ipRouteConfig=route(ipRoute=routes),
        )
    ]


# -- conflicts ------------------------------------------------------------------------------


def conflicts_of(vm: Any) -> Iterator[tuple[AddressConflict, Any]]:
    """The addresses that another running VM has on the same network, with that VM."""
    if vm.power != "poweredOn":
        return
    mine = [c for c in guest_nics(vm) if c.connected]
    for other in vm._site.vms():
        if other is vm or other.power != "poweredOn":
            continue
        for theirs in (c for c in guest_nics(other) if c.connected):
            for card in (c for c in mine if c.network is theirs.network):
                names, network = (vm.name, other.name), card.network.name
                if card.mac.lower() == theirs.mac.lower():
                    yield AddressConflict(network, "mac", card.mac, names), other
                for ip in sorted(set(card.ips) & set(theirs.ips)):
                    yield AddressConflict(network, "ip", ip, names), other


def record_conflicts(vm: Any) -> None:
    """Records new conflicts, and posts events of MACs. Call it after a change of cards or power."""
    site = vm._site
    for conflict, other in conflicts_of(vm):
        seen = asdict(conflict)
        if seen in site.conflicts:
            continue
        site.conflicts.append(seen)
        if conflict.kind == "mac":
            site.post_vm_event(
                "VmMacConflictEvent",
                vm,
                f"The MAC address ({conflict.value}) of {vm.name} conflicts with MAC assigned to "
                f"{other.name}",
                template=False,
                conflictedVm=vim.event.VmEventArgument(vm=other, name=other.name),
                mac=conflict.value,
            )
