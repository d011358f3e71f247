"""The environment browser: hardware versions and guest operating systems that hosts support."""

from __future__ import annotations

from typing import Any

from vreplica.lab.api.managed import Managed
from vreplica.lab.api.vmodl import fault, invalid_argument, vim
from vreplica.lab.guest.os_names import full_name, guest_family

HARDWARE_VERSIONS = (
    *("vmx-10", "vmx-11", "vmx-12", "vmx-13", "vmx-14", "vmx-15"),
    *("vmx-17", "vmx-18", "vmx-19", "vmx-20", "vmx-21", "vmx-22"),
)
"""Of ESXi 5.5 to 9.0. vmx-16 is of other products."""

NEWEST_OF = {
    "6.5": "vmx-13",
    "6.7": "vmx-14",
    "7.0.3": "vmx-19",
    "8.0": "vmx-21",
    "9.0": "vmx-22",
}
"""The newest hardware version of a release of ESXi."""

GUESTS: tuple[str, ...] = tuple(vim.vm.GuestOsDescriptor.GuestOsIdentifier.values)


def number(version: str) -> int:
    """`vmx-21` -> 21."""
    return int(version.rpartition("-")[2])


def require_supported(host: Any, version: str | None, guest_id: str | None) -> None:
    """Raises VirtualHardwareVersionNotSupported, InvalidArgument for what a host lacks."""
    if version is not None and version not in host.hardware_versions():
        newest = host.newest_hardware
        raise fault(
            vim.fault.VirtualHardwareVersionNotSupported,
            f"{host.name} supports virtual hardware up to {newest}, not {version}.",
            hostName=host.name,
            host=host,
        )
    if guest_id is not None and (guest_id not in GUESTS or guest_id in host.missing_guests):
        raise invalid_argument("configSpec.guestId")


class EnvironmentBrowser(Managed, vim.EnvironmentBrowser):
    """The browser of one cluster."""

    def _hosts(self) -> list[Any]:
        found = next(c for c in self._site.clusters if c.environmentBrowser is self)
        return list(found.host)

    def _default(self, host: Any = None) -> str:
        hosts = [host] if host is not None else self._hosts()
        return min((str(h.newest_hardware) for h in hosts), key=number)

    def QueryConfigOptionDescriptor(self) -> Any:
        hosts, default = self._hosts(), self._default()
        made = []
        for version in HARDWARE_VERSIONS:
            able = [h for h in hosts if version in h.hardware_versions()]
            if able:
                made.append(
                    vim.vm.ConfigOptionDescriptor(
                        key=version,
                        description=version,
                        host=able,
                        createSupported=True,
                        runSupported=True,
                        upgradeSupported=True,
                        defaultConfigOption=version == default,
                    )
                )
        return made

    def QueryConfigOption(self, key: str | None = None, host: Any = None) -> Any:
        return self._option(key, host, ())

    def QueryConfigOptionEx(self, spec: Any = None) -> Any:
        if spec is None:
            return self._option(None, None, ())
        return self._option(spec.key, spec.host, tuple(spec.guestId or ()))

    def _option(self, key: str | None, host: Any, guests: tuple[str, ...]) -> Any:
        """None for a version that no host of the cluster has."""
        version = key or self._default(host)
        asked = [host] if host is not None else self._hosts()
        able = [h for h in asked if version in h.hardware_versions()]
        if not able:
            return None
        known = [g for g in GUESTS if any(g not in h.missing_guests for h in able)]
        return vim.vm.ConfigOption(
            version=version,
            description=version,
            guestOSDescriptor=[_guest(g) for g in known if not guests or g in guests],
            supportedMonitorType=["release"],
        )


def _guest(guest_id: str) -> Any:
    kinds: Any = vim.vm.device
    family = guest_family(guest_id)
    return vim.vm.GuestOsDescriptor(
        id=guest_id,
        family=f"{family}Guest" if family != "other" else "otherGuestFamily",
        fullName=full_name(guest_id),
        supportedMaxCPUs=768,
        supportedMinMemMB=4,
        supportedMaxMemMB=24 * 1024 * 1024,
        supportedDiskControllerList=[kinds.ParaVirtualSCSIController],
        recommendedDiskController=kinds.ParaVirtualSCSIController,
        recommendedCdromController=kinds.VirtualAHCIController,
        supportedEthernetCard=[kinds.VirtualVmxnet3],
        supportedFirmware=["bios", "efi"],
        recommendedFirmware="efi",
        supportLevel="supported",
        supportedForCreate=True,
    )
