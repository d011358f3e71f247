"""Guest customization: gives a VM a host name and addresses, which its guest sets at its boot.

    CustomizeVM_Task, CloneVM_Task --> pending --> power-on --> CustomizationStartedEvent
                                                   --> the guest sets them
                                                   --> CustomizationSucceeded, or ...Failure

    guest settings (LabControl.set_guest)
      customize     works | fails | networkFails
      customize_s   seconds until it has ended

It needs Tools, and a guest of the family of the spec. It stays pending while Tools do not run.
"""

from __future__ import annotations

import copy
import ipaddress
import re
import threading
from collections.abc import Iterator
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.managed import Managed, cached
from vreplica.lab.api.vmodl import fault, invalid_argument, vim
from vreplica.lab.guest.network import DHCP, record_conflicts
from vreplica.lab.guest.os_names import guest_family

custom: Any = vim.vm.customization

_FAILURES = {
    "fails": ("CustomizationUnknownFailure", "The customization failed in the guest"),
    "networkFails": (
        "CustomizationNetworkSetupFailed",
        "An error occurred while setting up network properties of the guest OS",
    ),
}


# -- checks ---------------------------------------------------------------------------------


def check_spec(vm: Any, config: Any, spec: Any) -> None:
    """Checks that a guest can be customized by `spec`. Raises CustomizationFault and its kinds."""
    family, identity = guest_family(config.guestId), spec.identity
    windows = isinstance(identity, custom.Sysprep | custom.SysprepText)
    if not windows and not isinstance(identity, custom.LinuxPrep):
        raise _fault("A guest of the lab knows only LinuxPrep and Sysprep.")
    if vm.guest_state.settings["tools"] == "notInstalled":
        raise _uncustomizable(config, "VMware Tools is not installed in the guest")
    if family != ("windows" if windows else "linux"):
        raise _uncustomizable(config, "the specification is for another operating system")
    cards, adapters = hardware.nics_of(config), spec.nicSettingMap or []
    known = {c.macAddress.lower() for c in cards}
    strangers = [a for a in adapters if a.macAddress and a.macAddress.lower() not in known]
    if len(adapters) != len(cards) or strangers:
        raise fault(
            vim.fault.NicSettingMismatch,
            "The number of network adapters in the customization specification does not match "
            "the virtual machine.",
            numberOfNicsInSpec=len(adapters),
            numberOfNicsInVM=len(cards),
        )
    host_name(vm, spec)
    for adapter in adapters:
        _addresses(adapter.adapter)


def _fault(message: str, kind: Any = None, **fields: Any) -> Any:
    return fault(kind or vim.fault.CustomizationFault, message, **fields)


def _uncustomizable(config: Any, why: str) -> Any:
    return _fault(
        f"Customization of the guest operating system '{config.guestId}' is not supported: {why}.",
        vim.fault.UncustomizableGuest,
        uncustomizableGuestOS=config.guestFullName,
    )


# -- result ---------------------------------------------------------------------------------


def host_name(vm: Any, spec: Any) -> str:
    """The host name that `spec` leads to. Raises IpHostnameGeneratorError where it has none."""
    identity = spec.identity
    limit = 63
    if isinstance(identity, custom.SysprepText):
        wanted: Any = custom.VirtualMachineNameGenerator()
    elif isinstance(identity, custom.Sysprep):
        wanted, limit = identity.userData.computerName, 15
    else:
        wanted = identity.hostName
    if isinstance(wanted, custom.FixedName):
        name = wanted.name
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", name) or len(name) > limit:
            raise invalid_argument("spec.identity.hostName")
        return str(name)
    if isinstance(wanted, custom.VirtualMachineNameGenerator):
        made = re.sub(r"[^A-Za-z0-9-]", "", vm.name)
    elif isinstance(wanted, custom.PrefixNameGenerator):
        made = f"{wanted.base}-{vm._moId.rpartition('-')[2]}"
    else:
        raise _fault("The host name is not known.", vim.fault.IpHostnameGeneratorError)
    return made[:limit].strip("-") or "guest"


def _addresses(adapter: Any) -> list[str]:
    """The addresses of a card. Raises InvalidArgument, IpHostnameGeneratorError."""
    wanted, made = adapter.ip, []
    if isinstance(wanted, custom.FixedIp):
        try:
            made.append(
                str(ipaddress.IPv4Interface(f"{wanted.ipAddress}/{adapter.subnetMask or '-'}"))
            )
            for gateway in adapter.gateway or ():
                ipaddress.ip_address(gateway)
        except ValueError:
            raise invalid_argument("spec.nicSettingMap.adapter.ip") from None
    elif isinstance(wanted, custom.DhcpIpGenerator):
        made.append(DHCP)
    else:
        raise _fault("The IP address is not known.", vim.fault.IpHostnameGeneratorError)
    sixes = adapter.ipV6Spec.ip if adapter.ipV6Spec is not None else ()
    fixed = (six for six in sixes if isinstance(six, custom.FixedIpV6))
    return [*made, *(f"{six.ipAddress}/{six.subnetMask}" for six in fixed)]


def settings_after(vm: Any, spec: Any) -> dict[str, Any]:
    """The guest settings once the guest was customized by `spec`."""
    cards = hardware.nics_of(vm.config)
    by_mac = {c.macAddress.lower(): c.key for c in cards}
    addresses: dict[str, list[str]] = {}
    gateways: list[str] = []
    dns = list(spec.globalIPSettings.dnsServerList or ())
    for card, mapping in zip(cards, spec.nicSettingMap or (), strict=False):
        key = by_mac.get((mapping.macAddress or "").lower(), card.key)
        addresses[str(key)] = _addresses(mapping.adapter)
        gateways += mapping.adapter.gateway or ()
        dns += [d for d in mapping.adapter.dnsServerList or () if d not in dns]
    domain = getattr(spec.identity, "domain", "") or ""
    return {
        "hostname": host_name(vm, spec),
        "ip": "",
        "addresses": addresses,
        "gateways": gateways,
        "dns": dns,
        "domain": domain,
    }


# -- in the guest ---------------------------------------------------------------------------


def start_customization(vm: Any) -> None:
    """Starts a pending customization, at a boot and after a restart of the lab."""
    guest = vm.guest_state
    if vm.customization is None or not guest.tools_running:
        return
    if not vm.customized.get("begun"):
        vm.customized = {"status": "RUNNING", "begun": vm.host.now()}
        vm._site.post_vm_event(
            "CustomizationStartedEvent",
            vm,
            f"Started customization of VM {vm.name}",
            template=False,
            logLocation=None,
        )
    timer = threading.Timer(float(guest.settings["customize_s"]), _finish, (vm, vm.boot_time))
    timer.daemon = True
    timer.start()


def _finish(vm: Any, boot: Any) -> None:
    spec, guest = vm.customization, vm.guest_state
    if spec is None or vm.power != "poweredOn" or vm.boot_time != boot:
        return
    how = guest.settings["customize"]
    ended = {"begun": vm.customized.get("begun"), "ended": vm.host.now()}
    if how == "works":
        guest.change(**settings_after(vm, spec))
        vm.set(customization=None, customized={"status": "SUCCEEDED", **ended})
        kind, message = "CustomizationSucceeded", f"Customization of VM {vm.name} succeeded"
        fields: dict[str, Any] = {}
    else:
        kind, message = _FAILURES[how]
        vm.set(customization=None, customized={"status": "FAILED", "error": message, **ended})
        fields = {"reason": None}
    vm._site.post_vm_event(kind, vm, message, template=False, logLocation=None, **fields)
    record_conflicts(vm)
    vm._site.flush()


def customization_info(vm: Any) -> Any:
    """GuestInfo.customizationInfo."""
    found = vm.customized
    return vim.vm.GuestInfo.CustomizationInfo(
        customizationStatus=f"TOOLSDEPLOYPKG_{found.get('status', 'IDLE')}",
        startTime=found.get("begun"),
        endTime=found.get("ended"),
        errorMsg=found.get("error"),
    )


class CustomizationMethods:
    """The methods of a VirtualMachine about customization."""

    power: str
    config: Any
    customization: Any
    set: Any

    def CheckCustomizationSpec(self, spec: Any) -> None:
        check_spec(self, self.config, spec)

    def CustomizeVM_Task(self, spec: Any) -> Iterator[int]:
        if self.power != "poweredOff":
            raise _fault("The virtual machine has to be powered off to be customized.")
        if self.customization is not None:
            raise _fault("A customization is pending already.", vim.fault.CustomizationPending)
        check_spec(self, self.config, spec)
        yield 0
        self.set_customization(spec)

    def set_customization(self, spec: Any) -> None:
        """Stores a customization for the next power-on."""
        self.set(customization=copy.deepcopy(spec), customized={"status": "PENDING"})


# -- named specifications -------------------------------------------------------------------


class CustomizationSpecManager(Managed, vim.CustomizationSpecManager):
    items: Any = None

    @cached
    def info(self) -> Any:
        return [item.info for item in (self.items or {}).values()]

    def DoesCustomizationSpecExist(self, name: str) -> bool:
        return name in (self.items or {})

    def GetCustomizationSpec(self, name: str) -> Any:
        if not self.DoesCustomizationSpecExist(name):
            raise fault(vim.fault.NotFound, f"There is no specification {name}")
        return self.items[name]

    def CreateCustomizationSpec(self, item: Any) -> None:
        name = item.info.name
        if self.DoesCustomizationSpecExist(name):
            raise fault(
                vim.fault.AlreadyExists, f"The specification {name} exists already.", name=name
            )
        self._keep(item)

    def OverwriteCustomizationSpec(self, item: Any) -> None:
        old = self.GetCustomizationSpec(item.info.name)
        if item.info.changeVersion and item.info.changeVersion != old.info.changeVersion:
            raise fault(
                vim.fault.ConcurrentAccess, "The specification was changed in the meantime."
            )
        self._keep(item)

    def _keep(self, item: Any) -> None:
        made = copy.deepcopy(item)
        made.info.changeVersion, made.info.lastUpdateTime = (
            self._site.now().isoformat(),
            self._site.now(),
        )
        self.items = {**(self.items or {}), made.info.name: made}

    def DeleteCustomizationSpec(self, name: str) -> None:
        self.GetCustomizationSpec(name)
        self.items = {n: i for n, i in self.items.items() if n != name}

    def DuplicateCustomizationSpec(self, name: str, newName: str) -> None:
        made = copy.deepcopy(self.GetCustomizationSpec(name))
        made.info.name = newName
        self.CreateCustomizationSpec(made)

    def RenameCustomizationSpec(self, name: str, newName: str) -> None:
        self.DuplicateCustomizationSpec(name, newName)
        self.DeleteCustomizationSpec(name)

    def CheckCustomizationResources(self, guestOs: str) -> None:
        """Does nothing: the lab can customize every guest that it knows."""

    def IsGuestOsCustomizable(self, guestId: str) -> bool:
        return guest_family(guestId) != "other"
