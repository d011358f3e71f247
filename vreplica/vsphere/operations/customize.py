"""Customizes a guest: VMware Tools set its host name and addresses at its next boot.

    GuestCustomization ──► CustomizationSpec (LinuxPrep) ──┐
    name of a specification in vCenter ────────────────────┴─► CustomizeVM_Task ──► next power-on

A specification made here is for Linux only. One for Windows runs Sysprep, which takes a licence
key and an administrator's password, and makes a new machine of the guest. For that, the job names
a specification that vCenter has; addresses alone can be set by the script.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.collector import read_one
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.errors import CustomizationRefused, NoSpecification
from vreplica.vsphere.inventory.vm import read_vm
from vreplica.vsphere.model import GuestCustomization, NicRule, VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink


def stored_specification(link: ServerLink, name: str) -> Any:
    """Reads a specification of vCenter. Raises NoSpecification, with the names that exist."""
    manager = link.content.customizationSpecManager
    if manager is None:
        raise NoSpecification(
            link.endpoint.host, name, "none, since a single ESXi host has no specifications"
        )
    operation = f"reading the customization specification {name!r}"
    try:
        found = link.ask(
            operation, manager.GetCustomizationSpec, name, unmapped=(vim.fault.NotFound,)
        )
    except vim.fault.NotFound:
        entry = read_one(link, operation, manager, ["info"])
        names = ", ".join(sorted(i.name for i in entry.get("info") or [])) or "none"
        raise NoSpecification(link.endpoint.host, name, names) from None
    return found.spec


def make_specification(identity: GuestCustomization, cards: int) -> Any:
    """Makes a specification for a Linux guest. `cards`: number of its network cards."""
    kinds = vim.vm.customization
    rules = (*identity.nics, *[NicRule()] * max(0, cards - len(identity.nics)))
    servers = list(dict.fromkeys(server for rule in rules for server in rule.dns))
    return kinds.Specification(
        options=kinds.LinuxOptions(),
        identity=kinds.LinuxPrep(
            hostName=kinds.FixedName(name=identity.hostname), domain=identity.domain or "local"
        ),
        globalIPSettings=kinds.GlobalIPSettings(
            dnsServerList=servers, dnsSuffixList=[identity.domain] if identity.domain else []
        ),
        nicSettingMap=[kinds.AdapterMapping(adapter=_settings(rule)) for rule in rules],
    )


def _settings(rule: NicRule) -> Any:
    kinds = vim.vm.customization
    gateways = [rule.gateway] if rule.gateway else []
    settings = kinds.IPSettings(ip=kinds.DhcpIpGenerator(), dnsServerList=list(rule.dns))
    if rule.ip is None:
        return settings
    found = ipaddress.ip_interface(rule.ip)
    if found.version == 4:
        settings.ip = kinds.FixedIp(ipAddress=str(found.ip))
        settings.subnetMask, settings.gateway = str(found.netmask), gateways
    else:
        settings.ipV6Spec = kinds.IPSettings.IpV6AddressSpec(
            ip=[kinds.FixedIpV6(ipAddress=str(found.ip), subnetMask=found.network.prefixlen)],
            gateway=gateways,
        )
    return settings


def problem(link: ServerLink, vm: VmRef, spec: str | GuestCustomization) -> str | None:
    """The reason why `apply` would be refused for this VM; None: nothing is known. Changes nothing.

    Raises NoSpecification.
    """
    now = read_vm(link, vm)
    cards = len(now.nics)
    if isinstance(spec, str):
        found = len(stored_specification(link, spec).nicSettingMap or [])
        if found != cards:
            return f"specification {spec} is for {found} network cards, and {vm.name} has {cards}"
        return None
    if now.guest_family != "linux":
        return f"hostname and nics are for Linux guests, and this one is {now.guest_family}"
    if spec.hostname is None:
        return "hostname is missing"
    return too_many_rules(spec, vm.name, cards)


def too_many_rules(spec: GuestCustomization, vm: str, cards: int) -> str | None:
    """The reason why these rules do not fit a VM with so many network cards; None: they do."""
    if len(spec.nics) <= cards:
        return None
    return f"nics has rules for {len(spec.nics)} network cards, and {vm} has {cards}"


def apply(link: ServerLink, vm: VmRef, spec: str | GuestCustomization, limits: WaitLimits) -> None:
    """Gives a VM that is off a specification for its next boot; nothing where one is pending.

    Raises NoSpecification, CustomizationRefused.
    """
    operation = "customizing the guest"
    now = read_vm(link, vm)
    if isinstance(spec, str):
        wanted = stored_specification(link, spec)
    elif now.guest_family != "linux":
        reason = f"hostname and nics are for Linux guests, and this one is {now.guest_family}"
        raise CustomizationRefused(reason).at(vm=vm.name)
    elif spec.hostname is None:
        raise CustomizationRefused("hostname is missing").at(vm=vm.name)
    else:
        wanted = make_specification(spec, len(now.nics))
    managed = link.managed(vim.VirtualMachine, vm.moref)
    refused = (vim.fault.CustomizationFault,)
    try:
        tasks.run(
            link,
            operation,
            managed.CustomizeVM_Task,
            wanted,
            vm=vm.name,
            limits=limits,
            unmapped=refused,
        )
    except vim.fault.CustomizationPending:
        return
    except vim.fault.CustomizationFault as fault:
        raise CustomizationRefused(fault.msg or type(fault).__name__).at(vm=vm.name) from fault
