"""Managers that every vCenter and every host has, and of which the lab has no method.

A client that finds no reference in `ServiceContent` or in `HostSystem.configManager` often ends
with an error of its own language: a real server always has one. So the reference is there, its
properties are unset, and every method answers NotSupported.

The ids are those of a vCenter 8.0.3.
"""

from __future__ import annotations

from typing import Any

from vreplica.lab.api.managed import Managed, live
from vreplica.lab.api.vmodl import ManagedObject, fault, vim
from vreplica.lab.vcenter.networks import host_network

_OF_VCENTER = {
    "alarmManager": (vim.alarm.AlarmManager, "AlarmManager"),
    "certificateManager": (vim.CertificateManager, "certificateManager"),
    "clusterProfileManager": (vim.profile.cluster.ProfileManager, "ClusterProfileManager"),
    "complianceManager": (vim.profile.ComplianceManager, "MoComplianceManager"),
    "cryptoManager": (vim.encryption.CryptoManagerKmip, "CryptoManager"),
    "datastoreNamespaceManager": (vim.DatastoreNamespaceManager, "DatastoreNamespaceManager"),
    "diagnosticManager": (vim.DiagnosticManager, "DiagMgr"),
    "dvSwitchManager": (vim.dvs.DistributedVirtualSwitchManager, "DVSManager"),
    "extensionManager": (vim.ExtensionManager, "ExtensionManager"),
    "failoverClusterManager": (vim.vcha.FailoverClusterManager, "FailoverClusterManager"),
    "guestCustomizationManager": (vim.vm.GuestCustomizationManager, "GuestCustomizationManager"),
    "healthUpdateManager": (vim.HealthUpdateManager, "HealthUpdateManager"),
    "hostProfileManager": (vim.profile.host.ProfileManager, "HostProfileManager"),
    "hostSpecManager": (vim.profile.host.HostSpecificationManager, "HostSpecificationManager"),
    "ioFilterManager": (vim.IoFilterManager, "IoFilterManager"),
    "ipPoolManager": (vim.IpPoolManager, "IpPoolManager"),
    "licenseManager": (vim.LicenseManager, "LicenseManager"),
    "localizationManager": (vim.LocalizationManager, "LocalizationManager"),
    "overheadMemoryManager": (vim.OverheadMemoryManager, "OverheadMemoryManager"),
    "ovfManager": (vim.OvfManager, "OvfManager"),
    "perfManager": (vim.PerformanceManager, "PerfMgr"),
    "scheduledTaskManager": (vim.scheduler.ScheduledTaskManager, "ScheduledTaskManager"),
    "serviceManager": (vim.ServiceManager, "ServiceMgr"),
    "siteInfoManager": (vim.SiteInfoManager, "SiteInfoManager"),
    "snmpSystem": (vim.host.SnmpSystem, "SnmpSystem"),
    "storageQueryManager": (vim.StorageQueryManager, "StorageQueryManager"),
    "storageResourceManager": (vim.StorageResourceManager, "StorageResourceManager"),
    "userDirectory": (vim.UserDirectory, "UserDirectory"),
    "vStorageObjectManager": (vim.vslm.vcenter.VStorageObjectManager, "VStorageObjectManager"),
    "virtualizationManager": (vim.VirtualizationManager, "VirtualizationManager"),
    "vmCompatibilityChecker": (vim.vm.check.CompatibilityChecker, "CompatChecker"),
    "vmProvisioningChecker": (vim.vm.check.ProvisioningChecker, "ProvChecker"),
}
"""Field of ServiceContent -> class and id."""

_NOT_OF_HOST = ("licenseManager", "userDirectory", "accountManager", "messageBusProxy")
"""Fields of configManager that only a host without vCenter sets."""


class HostNetworkSystem(Managed, vim.host.NetworkSystem):
    _persistent = False
    host: Any

    @live
    def networkInfo(self) -> Any:
        return host_network(self.host.name, self.host.network)


class HostDatastoreSystem(Managed, vim.host.DatastoreSystem):
    _persistent = False
    host: Any

    @live
    def datastore(self) -> Any:
        return list(self.host.datastore)


class HostOptionManager(Managed, vim.option.OptionManager):
    """The advanced settings of a host: it has none that differ from their default."""

    _persistent = False

    def QueryOptions(self, name: str | None = None) -> Any:
        if name:
            raise fault(vim.fault.InvalidName, f"There is no option {name}", name=name)
        return []


class HostDateTimeSystem(Managed, vim.host.DateTimeSystem):
    _persistent = False
    host: Any

    @live
    def dateTimeInfo(self) -> Any:
        zone = vim.host.DateTimeSystem.TimeZone(
            key="UTC", name="UTC", description="UTC", gmtOffset=0
        )
        return vim.host.DateTimeInfo(timeZone=zone, ntpConfig=vim.host.NtpConfig())

    def QueryDateTime(self) -> Any:
        return self.host.now()

    def UpdateDateTime(self, dateTime: Any) -> None:
        self.host.clock_ahead_s = (dateTime - self._site.now()).total_seconds()


class HostStorageSystem(Managed, vim.host.StorageSystem):
    """The VMFS volumes of a host. The devices below them are not modelled."""

    _persistent = False
    host: Any

    @live
    def fileSystemVolumeInfo(self) -> Any:
        kinds: Any = vim.host
        return kinds.FileSystemVolumeInfo(
            volumeTypeList=["VMFS", "NFS", "NFS41", "vsan", "VVOL", "VFFS", "OTHER"],
            mountInfo=[
                kinds.FileSystemMountInfo(
                    mountInfo=kinds.MountInfo(
                        path=store.url.removeprefix("ds://").rstrip("/"),
                        accessMode="readWrite",
                        mounted=True,
                        accessible=store.accessible,
                    ),
                    volume=store.info.vmfs,
                    vStorageSupport="vStorageUnsupported",
                )
                for store in self.host.datastore
            ],
        )

    @live
    def storageDeviceInfo(self) -> Any:
        return vim.host.StorageDeviceInfo(softwareInternetScsiEnabled=False)


class HostVsanSystem(Managed, vim.host.VsanSystem):
    """The host is in no vSAN cluster."""

    _persistent = False

    def QueryHostStatus(self) -> Any:
        state = vim.vsan.host.ClusterStatus.State(state="agent")
        return vim.vsan.host.ClusterStatus(health="unknown", nodeState=state)


_CLASSES: dict[Any, Any] = {
    vim.host.NetworkSystem: HostNetworkSystem,
    vim.host.DatastoreSystem: HostDatastoreSystem,
    vim.host.DateTimeSystem: HostDateTimeSystem,
    vim.host.StorageSystem: HostStorageSystem,
    vim.host.VsanSystem: HostVsanSystem,
    vim.option.OptionManager: HostOptionManager,
}


def _make(site: Any, kind: Any, moid: str, **values: Any) -> Any:
    if kind not in _CLASSES:
        name = f"Unsupported{kind.__name__.replace('.', '')}"
        _CLASSES[kind] = type(name, (Managed, kind), {"_persistent": False})
    made = _CLASSES[kind](site, moid)
    made.__dict__.update(values)
    return site.add(made)


def vcenter_managers(site: Any) -> dict[str, Any]:
    """The managers of ServiceContent that the lab does not play, by their fields."""
    return {field: _make(site, kind, moid) for field, (kind, moid) in _OF_VCENTER.items()}


def host_managers(host: Any) -> Any:
    """HostSystem.configManager. Each manager is made at the first read."""
    site, number = host._site, host._moId.rpartition("-")[2]
    made = vim.host.ConfigManager()
    for info in made._GetPropertyList():
        if info.name in _NOT_OF_HOST or not issubclass(info.type, ManagedObject):
            continue
        moid = f"{info.name}-{number}"
        found = site.objects.get(moid) or _make(site, info.type, moid, host=host)
        setattr(made, info.name, found)
    return made
