"""The inventory of a site: folders, datacenter, cluster, hosts and resource pools.

Datacenters (root)
  site-a-dc
    vm        folders and VMs
    host      site-a-cluster -> esx1.site-a.lab, ...; Resources
    datastore site-a-ds1, ...
    network   VM Network, Isolated
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from typing import Any

from vreplica.lab.api.managed import cached, live
from vreplica.lab.api.managed_entity import ManagedEntity, duplicate_name
from vreplica.lab.api.names import entity_name, named
from vreplica.lab.api.vmodl import fault, invalid_argument, vim, vmodl
from vreplica.lab.storage.datastore_names import datacenter_of
from vreplica.lab.vcenter.environment import HARDWARE_VERSIONS, number, require_supported
from vreplica.lab.vcenter.file_managers import HostDatastoreBrowser
from vreplica.lab.vcenter.networks import Portgroup, host_network
from vreplica.lab.vcenter.unsupported import host_managers
from vreplica.lab.vcenter.vm_holder import VmHolder
from vreplica.units import MIB

VENDOR, MODEL = "vreplica", "lab"
PACKAGES, CORES, HZ = 2, 16, 2_600_000_000
"""Processors of a host."""


class Folder(VmHolder, ManagedEntity, vim.Folder):
    """A folder of the inventory. One for VMs also creates and registers them."""

    childType: Any
    childEntity: Any

    def task_entity(self) -> Any:
        return self

    def require_free(self, name: str | None) -> str:
        """The stored form of a name for a new child. Raises InvalidName, DuplicateName."""
        stored = entity_name(name)
        taken = named(self.childEntity, stored)
        if taken is not None:
            raise duplicate_name(stored, taken)
        return stored

    def require_type(self, kind: Any) -> None:
        if kind not in self.childType:
            raise fault(vmodl.fault.NotSupported, f"A folder of {self.name} cannot hold this")

    def add_child(self, item: Any) -> None:
        self.childEntity = [*self.childEntity, item]

    def remove_child(self, item: Any) -> None:
        self.childEntity = [c for c in self.childEntity if c is not item]

    def CreateFolder(self, name: str) -> Any:
        made = make_folder(self._site, "group-v", self.require_free(name), self, self.childType)
        self.add_child(made)
        return made

    def CreateDatacenter(self, name: str) -> Any:
        """A datacenter with its four folders. LabControl.add_cluster gives it hosts."""
        self.require_type(vim.Datacenter)
        name, site = self.require_free(name), self._site
        made = Datacenter(site, site.new_id("datacenter"))
        made.__dict__.update(name=name, parent=self, datastore=[], network=[])
        site.add(made)
        kinds = vim.Folder
        made.set(
            vmFolder=make_folder(
                site, "group-v", "vm", made, [kinds, vim.VirtualMachine, vim.VirtualApp]
            ),
            hostFolder=make_folder(site, "group-h", "host", made, [kinds, vim.ComputeResource]),
            datastoreFolder=make_folder(site, "group-s", "datastore", made, [kinds, vim.Datastore]),
            networkFolder=make_folder(site, "group-n", "network", made, [kinds, vim.Network]),
        )
        self.add_child(made)
        site.datacenters = [*site.datacenters, made]
        site.datastores_changed()
        return made

    def UnregisterAndDestroy_Task(self) -> Iterator[int]:
        """Removes the folder; the VMs in it keep their files."""
        self.require_type(vim.VirtualMachine)
        self.require_destructible()
        yield 0
        for item in list(self.childEntity):
            if isinstance(item, vim.VirtualMachine):
                item.UnregisterVM()
            elif isinstance(item, vim.VirtualApp):
                yield from item.unregisterVApp_Task()
            else:
                yield from item.UnregisterAndDestroy_Task()
        self.parent.remove_child(self)
        self._site.remove(self)

    def MoveIntoFolder_Task(self, list: Any) -> None:  # noqa: A002  its name on the wire
        for item in list:
            if item.parent is None:
                raise fault(vmodl.fault.NotSupported, f"{item.name} is part of a vApp.")
            if datacenter_of(item) is not datacenter_of(self):
                text = f"{item.name} cannot move to another datacenter."
                raise fault(vmodl.fault.NotSupported, text)
            self.require_free(item.name)
            old = item.parent
            old.childEntity = [c for c in old.childEntity if c is not item]
            item.parent = self
            self.add_child(item)

    def require_destructible(self) -> None:
        """Raises NotSupported for the root folder, and those of a datacenter's beginning."""
        if not isinstance(self.parent, vim.Folder):
            raise fault(vmodl.fault.NotSupported, f"The folder {self.name} cannot be destroyed.")

    def Destroy_Task(self) -> Iterator[int]:
        """Destroys what is in the folder, VMs with their files, and then the folder."""
        self.require_destructible()
        yield 0
        for item in list(self.childEntity):
            yield from item.Destroy_Task()
        self.parent.remove_child(self)
        self._site.remove(self)

    # -- virtual machines -------------------------------------------------------------------

    def CreateVM_Task(self, config: Any, pool: Any, host: Any = None) -> Generator[int, None, Any]:
        self.require_type(vim.VirtualMachine)
        if isinstance(pool, vim.VirtualApp):
            # "... and therefore cannot be created using the method on a Folder" (vSphere API,
            # CreateChildVM_Task).
            raise invalid_argument("pool")
        self.require_free(config.name)
        if config.files is None or not config.files.vmPathName:
            raise invalid_argument("configSpec.files")
        chosen = self._site.choose_host(pool, host)
        chosen.require_connected()
        yield 0
        vm = self.create_vm(config, pool, chosen)
        self._site.post_vm_event("VmCreatedEvent", vm, f"Created {vm.name}", template=False)
        return vm

    def parents_of_child(self) -> dict[str, Any]:
        return {"parent": self, "parentVApp": None}

    def RegisterVM_Task(
        self,
        path: str,
        name: str | None = None,
        asTemplate: bool = False,
        pool: Any = None,
        host: Any = None,
    ) -> Generator[int, None, Any]:
        self.require_type(vim.VirtualMachine)
        if pool is None:
            raise invalid_argument("pool")
        return (yield from self.register(path, name, asTemplate, pool, host))


def make_folder(site: Any, prefix: str, name: str, parent: Any, types: Any) -> Any:
    """A new empty folder. The caller adds it to its parent."""
    made = Folder(site, site.new_id(prefix))
    made.__dict__.update(name=name, parent=parent, childType=list(types), childEntity=[])
    return site.add(made)


class Datacenter(ManagedEntity, vim.Datacenter):
    vmFolder: Any
    hostFolder: Any
    datastoreFolder: Any
    networkFolder: Any
    datastore: Any
    network: Any

    @cached
    def configuration(self) -> Any:
        return vim.Datacenter.ConfigInfo()

    def Destroy_Task(self) -> Iterator[int]:
        yield 0
        if self.hostFolder.childEntity or self is self._site.datacenter:
            raise fault(
                vim.fault.ResourceInUse,
                f"The resource '{self.name}' is in use.",
                type=vim.Datacenter,
                name=self.name,
            )
        for folder in (self.vmFolder, self.hostFolder, self.datastoreFolder, self.networkFolder):
            self._site.remove(folder)
        self.parent.remove_child(self)
        self._site.datacenters = [d for d in self._site.datacenters if d is not self]
        self._site.remove(self)
        self._site.datastores_changed()


_NO_VSAN = vim.vsan.cluster.ConfigInfo(
    enabled=False,
    defaultConfig=vim.vsan.cluster.ConfigInfo.HostDefaultInfo(autoClaimStorage=False),
)


class Cluster(ManagedEntity, vim.ClusterComputeResource):
    """A cluster: its hosts, without DRS and HA."""

    host: Any
    resourcePool: Any
    datastore: Any
    network: Any
    environmentBrowser: Any

    @cached
    def configurationEx(self) -> Any:
        return vim.cluster.ConfigInfoEx(
            dasConfig=vim.cluster.DasConfigInfo(enabled=False),
            drsConfig=vim.cluster.DrsConfigInfo(enabled=False),
            dpmConfigInfo=vim.cluster.DpmConfigInfo(enabled=False),
            vmSwapPlacement="vmDirectory",
            spbmEnabled=False,
            vsanConfigInfo=_NO_VSAN,
        )

    @cached
    def configuration(self) -> Any:
        return vim.cluster.ConfigInfo(
            dasConfig=vim.cluster.DasConfigInfo(enabled=False),
            drsConfig=vim.cluster.DrsConfigInfo(enabled=False),
        )

    @live
    def summary(self) -> Any:
        hosts = len(self.host)
        return vim.ClusterComputeResource.Summary(
            totalCpu=hosts * 16 * 2600,
            totalMemory=sum(h.memory_mib for h in self.host) * MIB,
            numCpuCores=16 * hosts,
            numCpuThreads=sum(h.threads for h in self.host),
            effectiveCpu=hosts * 16 * 2600,
            effectiveMemory=hosts * 250 * 1024,
            numHosts=hosts,
            numEffectiveHosts=sum(1 for h in self.host if h.connected),
            overallStatus="green",
            currentFailoverLevel=0,
            numVmotions=0,
        )

    def GetResourceUsage(self) -> Any:
        running = [vm for host in self.host for vm in host.running()]
        room = sum(store.capacity for store in self.datastore)
        used = sum(self._site.disks.used(store.folder) for store in self.datastore)
        return vim.cluster.ResourceUsageSummary(
            cpuUsedMHz=0,
            cpuCapacityMHz=len(self.host) * CORES * HZ // 1_000_000,
            memUsedMB=sum(vm.config.hardware.memoryMB for vm in running),
            memCapacityMB=sum(host.memory_mib for host in self.host),
            storageUsedMB=used // MIB,
            storageCapacityMB=room // MIB,
        )


class Host(ManagedEntity, vim.HostSystem):
    """An ESXi host. Its NFC server is in `site.host_servers`."""

    vm: Any
    datastore: Any
    network: Any
    connected: bool
    maintenance: bool = False
    memory_mib: int = 256 * 1024
    threads: int = 32
    newest_hardware: str = "vmx-21"
    """The newest virtual hardware that the host runs."""
    clock_ahead_s: float = 0.0
    """How far its clock is ahead of its vCenter's."""
    release: str = "8.0"
    """The release of ESXi (lab.nfc.profile.RELEASES)."""
    nfc: Any = None
    """Traits of its NFC service that are not those of the release (lab.nfc.profile)."""
    missing_guests: Any = ()
    """guestIds that the host does not know."""
    own_devices: Any = ()
    """PCI and USB devices of the host, by the id or name that a backing has."""
    uuid: str

    @live
    def runtime(self) -> Any:
        return vim.host.RuntimeInfo(
            connectionState="connected" if self.connected else "disconnected",
            powerState="poweredOn",
            inMaintenanceMode=self.maintenance,
            bootTime=self._site.started,
            cryptoState="safe" if self._site.settings.key_provider else "incapable",
        )

    @cached
    def config(self) -> Any:
        return vim.host.ConfigInfo(
            host=self,
            product=about(self._site, self),
            network=host_network(self.name, self.network),
            certificate=list(self._site.host_servers.certificate(self)),
        )

    @live
    def summary(self) -> Any:
        return vim.host.Summary(
            host=self,
            hardware=vim.host.Summary.HardwareSummary(
                vendor=VENDOR,
                model=MODEL,
                uuid=self.uuid,
                memorySize=self.memory_mib * MIB,
                cpuModel=MODEL,
                cpuMhz=HZ // 1_000_000,
                numCpuPkgs=PACKAGES,
                numCpuCores=CORES,
                numCpuThreads=self.threads,
                numNics=2,
                numHBAs=1,
            ),
            runtime=self.runtime,
            config=vim.host.Summary.ConfigSummary(
                name=self.name,
                port=self._site.spec.port,
                sslThumbprint=self._site.host_servers.thumbprint(self),
                product=about(self._site, self),
                vmotionEnabled=False,
            ),
            quickStats=vim.host.Summary.QuickStats(
                overallMemoryUsage=sum(v.config.hardware.memoryMB for v in self.running())
            ),
            overallStatus="green" if self.connected else "red",
            rebootRequired=False,
        )

    @cached
    def capability(self) -> Any:
        return vim.host.Capability(cryptoSupported=True, e2e4knSupported=True)

    @cached
    def hardware(self) -> Any:
        kinds: Any = vim.host
        return kinds.HardwareInfo(
            systemInfo=kinds.SystemInfo(vendor=VENDOR, model=MODEL, uuid=self.uuid),
            cpuInfo=kinds.CpuInfo(
                numCpuPackages=PACKAGES, numCpuCores=CORES, numCpuThreads=self.threads, hz=HZ
            ),
            cpuPkg=[
                kinds.CpuPackage(
                    index=i,
                    vendor="intel",
                    hz=HZ,
                    busHz=100_000_000,
                    description=MODEL,
                    threadId=list(range(i, self.threads, PACKAGES)),
                )
                for i in range(PACKAGES)
            ],
            # CPUID 80000001h; bit 29 of EDX says that the processor has 64-bit mode.
            cpuFeature=[
                kinds.CpuIdInfo(
                    level=-0x7FFFFFFF,
                    vendor="intel",
                    eax=_bits(0),
                    ebx=_bits(0),
                    ecx=_bits(0),
                    edx=_bits(1 << 29),
                )
            ],
            memorySize=self.memory_mib * MIB,
            biosInfo=kinds.BIOSInfo(biosVersion="1.0", vendor=VENDOR),
        )

    @cached
    def configManager(self) -> Any:
        return host_managers(self)

    @live
    def datastoreBrowser(self) -> Any:
        moid = f"ha-datastoreBrowser-{self._moId}"
        found = self._site.objects.get(moid)
        if found is None:
            found = self._site.add(HostDatastoreBrowser(self._site, moid))
            found.__dict__["host"] = self
        return found

    def now(self) -> datetime:
        """The time by this host's clock: that of its snapshots, configurations and guests."""
        return self._site.now() + timedelta(seconds=self.clock_ahead_s)

    def hardware_versions(self) -> list[str]:
        newest = number(self.newest_hardware)
        return [v for v in HARDWARE_VERSIONS if number(v) <= newest]

    def require_supported(self, version: str | None, guest_id: str | None) -> None:
        """Raises VirtualHardwareVersionNotSupported, InvalidArgument for what the host lacks."""
        require_supported(self, version, guest_id)

    def require_connected(self) -> None:
        if not self.connected:
            raise fault(
                vmodl.fault.HostNotConnected, "The host is not connected to vCenter Server."
            )

    def require_datastore(self, folder: str) -> None:
        """Raises InvalidDatastore for a datastore that the host does not have."""
        store = self._site.datastore(folder)
        if store not in self.datastore:
            text = f"The datastore '{store.name}' is not accessible to {self.name}."
            raise fault(vim.fault.InvalidDatastore, text, datastore=store, name=store.name)

    def require_access(self, vm: Any) -> None:
        """Raises CannotAccessVmDisk, CannotAccessNetwork where the VM cannot move to this host."""
        for store in vm.datastore:
            if store not in self.datastore:
                text = f"{self.name} cannot access the datastore '{store.name}'."
                cause = fault(vim.fault.InvalidDatastore, text, name=store.name)
                raise fault(
                    vim.fault.CannotAccessVmDisk,
                    text,
                    device="disk",
                    backing=store.name,
                    connected=False,
                    fault=cause,
                )
        for network in vm.network:
            if network not in self.network:
                text = f"{self.name} cannot access the network '{network.name}'."
                raise fault(
                    vim.fault.CannotAccessNetwork,
                    text,
                    device="network adapter",
                    backing=network.name,
                    connected=False,
                    network=network,
                )

    def network_for(self, backing: Any, index: int) -> Any:
        """The network that the backing in a spec asks for. Raises InvalidDeviceBacking.

        The name or the port group decides. "This [the reference] is not used during
        configuration" (vSphere API, VirtualEthernetCardNetworkBackingInfo.network).
        """
        port: Any = getattr(backing, "port", None)
        name = getattr(backing, "deviceName", None)
        for item in self.network:
            if port is not None and item._moId == port.portgroupKey:
                return item
            if port is None and item.name == name and not isinstance(item, Portgroup):
                backing.network = item
                return item
        raise fault(
            vim.fault.InvalidDeviceBacking,
            f"Invalid backing for device '{index}'.",
            deviceIndex=index,
            property="virtualDeviceSpec.device.backing",
        )

    def network_of(self, backing: Any) -> Any:
        """The network of a card that the VM has."""
        port: Any = getattr(backing, "port", None)
        moid = port.portgroupKey if port is not None else backing.network._moId
        return self._site.objects[moid]

    def running(self) -> list[Any]:
        return [v for v in self.vm if v.power == "poweredOn"]

    def require_resources(self, vm: Any) -> None:
        """Checks that a VM may start on this host. Memory is overcommitted, but not reservations.

        Raises NotEnoughLogicalCpus, InsufficientMemoryResourcesFault.
        """
        wanted = vm.config.hardware.numCPU
        if wanted > self.threads:
            raise fault(
                vim.fault.NotEnoughLogicalCpus,
                f"The host has {self.threads} logical CPUs, the virtual machine {wanted}.",
                numCpuDest=self.threads,
                numCpuVm=wanted,
                host=self,
            )
        asked = _reserved_mib(vm)
        free = self.memory_mib - sum(map(_reserved_mib, self.running()))
        if asked > free:
            raise fault(
                vim.fault.InsufficientMemoryResourcesFault,
                "The host does not have sufficient memory resources to satisfy the reservation.",
                unreserved=max(0, free) * MIB,
                requested=asked * MIB,
            )

    def change_connection(self, connected: bool) -> None:
        self.connected = connected
        for vm in self.vm:
            vm.touch()

    def DisconnectHost_Task(self) -> Iterator[int]:
        yield 0
        self.change_connection(False)

    def ReconnectHost_Task(self, cnxSpec: Any = None, reconnectSpec: Any = None) -> Iterator[int]:
        yield 0
        self.change_connection(True)


def _bits(register: int) -> str:
    """A register of CPUID as the API writes it: `0010:0000:...`, the highest bit first."""
    text = f"{register:032b}"
    return ":".join(text[i : i + 4] for i in range(0, 32, 4))


def _reserved_mib(vm: Any) -> int:
    allocation = vm.config.memoryAllocation
    return int(allocation.reservation or 0) if allocation is not None else 0


def about(site: Any, host: Any = None) -> Any:
    """AboutInfo of the server that clients log in to, or of a host."""
    esxi = host is not None or site.spec.bare_host
    product = "VMware ESXi" if esxi else "VMware vCenter Server"
    api_version = site.settings.api_version
    if host is not None and host.release != type(host).release:
        # Of a release that was set: its own version, in as many parts as the API has.
        api_version = ".".join([*host.release.split("."), "0", "0"][:4])
    version = api_version.rpartition(".")[0]
    return vim.AboutInfo(
        name=product,
        fullName=f"{product} {version} build-0 (vreplica lab)",
        vendor="VMware, Inc.",
        version=version,
        build="0",
        localeVersion="INTL",
        localeBuild="000",
        osType="linux-x64",
        productLineId="embeddedEsx" if esxi else "vpx",
        apiType="HostAgent" if esxi else "VirtualCenter",
        apiVersion=api_version,
        instanceUuid=site.instance_uuid,
        licenseProductName=product,
        licenseProductVersion=version.rpartition(".")[0],
    )
