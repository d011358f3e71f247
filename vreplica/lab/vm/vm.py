"""A virtual machine: its properties, its reconfiguration, and its removal."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.managed import cached, live
from vreplica.lab.api.managed_entity import ManagedEntity
from vreplica.lab.api.names import entity_name
from vreplica.lab.api.vmodl import MethodFault, fault, vim
from vreplica.lab.guest import customization
from vreplica.lab.guest.customization import CustomizationMethods
from vreplica.lab.guest.guest import Guest
from vreplica.lab.guest.network import record_conflicts
from vreplica.lab.storage.change_map import ctk_path
from vreplica.lab.storage.paths import split_path
from vreplica.lab.vm.changed_areas import ChangedAreasMethods
from vreplica.lab.vm.clone_and_migrate import CloneAndMigrateMethods
from vreplica.lab.vm.config import apply_spec, stamp
from vreplica.lab.vm.disk_chain import DiskChains
from vreplica.lab.vm.files import FileMethods, remove_home, write_vmx
from vreplica.lab.vm.power import PowerMethods
from vreplica.lab.vm.snapshots import SnapshotMethods


def crypto_state(vm: Any) -> str | None:
    """`runtime.cryptoState`: unset for a VM that is not encrypted."""
    if vm.config.keyId is None:
        return None
    return "locked" if vm.crypto_locked else "unlocked"


log = logging.getLogger("vreplica.lab")

NEWEST = "vmx-21"


class VirtualMachine(
    PowerMethods,
    SnapshotMethods,
    ChangedAreasMethods,
    CloneAndMigrateMethods,
    CustomizationMethods,
    FileMethods,
    ManagedEntity,
    vim.VirtualMachine,
):
    """A VM. Its state is stored by the names of these attributes."""

    config: Any
    host: Any
    parentVApp: Any
    power: str
    boot_time: Any
    shutting_down: bool
    links: dict[str, str]
    current: Any
    snapshot_count: int
    guest_settings: dict[str, Any] | None
    collapse_due: bool
    consolidation_needed: bool
    clean_power_off: bool
    unfinished: bool
    """A clone that is being made: some of its disks are missing."""
    customization: Any
    customized: dict[str, Any]
    crypto_locked: bool
    """The host has no key for an encrypted VM."""

    def __init__(self, site: Any, moid: str) -> None:
        super().__init__(site, moid)
        self.__dict__.update(
            _chains=DiskChains(self),
            _guest=Guest(self),
            _snapshots=[],
            _busy=[],
            _busy_lock=threading.Lock(),
            power="poweredOff",
            boot_time=None,
            shutting_down=False,
            links={},
            current=None,
            snapshot_count=0,
            guest_settings={},
            collapse_due=False,
            consolidation_needed=False,
            clean_power_off=True,
            unfinished=False,
            customization=None,
            customized={},
            crypto_locked=False,
        )

    @property
    def chains(self) -> DiskChains:
        return self.__dict__["_chains"]  # type: ignore[no-any-return]

    @property
    def guest_state(self) -> Guest:
        return self.__dict__["_guest"]  # type: ignore[no-any-return]

    def disks(self) -> list[Any]:
        return hardware.disks_of(self.config)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "config":
            stamp(value, self.config, self.host.now())
        super().__setattr__(name, value)

    def set(self, **values: Any) -> None:
        """Also gives every new configuration its `changeVersion`."""
        with self._site.changed:
            if "config" in values:
                stamp(values["config"], self.config, self.host.now())
            super().set(**values)

    # -- tasks ------------------------------------------------------------------------------

    def begin_task(self, task: Any) -> None:
        """Registers a task. Only clones run side by side: else raises TaskInProgress."""
        with self.__dict__["_busy_lock"]:
            busy = self.__dict__["_busy"]
            if busy and not all(t.method == "CloneVM_Task" for t in (task, *busy)):
                raise fault(
                    vim.fault.TaskInProgress,
                    "The operation is not allowed in the current state: another task is in "
                    "progress.",
                    task=busy[0],
                )
            busy.append(task)

    def end_task(self, task: Any) -> None:
        with self.__dict__["_busy_lock"]:
            self.__dict__["_busy"] = [t for t in self.__dict__["_busy"] if t is not task]

    # -- its place ---------------------------------------------------------------------------

    @property
    def above(self) -> Any:
        return self.parent or self.parentVApp

    def siblings(self) -> Any:
        return self.parentVApp.vm if self.parent is None else self.parent.childEntity

    # -- views ------------------------------------------------------------------------------

    @cached
    def runtime(self) -> Any:
        on = self.power == "poweredOn"
        return vim.vm.RuntimeInfo(
            host=self.host,
            connectionState="connected" if self.host.connected else "disconnected",
            powerState=self.power,
            faultToleranceState="notConfigured",
            toolsInstallerMounted=False,
            bootTime=self.boot_time,
            maxCpuUsage=2600 * self.config.hardware.numCPU if on else None,
            maxMemoryUsage=self.config.hardware.memoryMB if on else None,
            numMksConnections=0,
            recordReplayState="inactive",
            cleanPowerOff=None if on else self.clean_power_off,
            onlineStandby=False,
            consolidationNeeded=self.consolidation_needed,
            suspendInterval=0,
            paused=False,
            cryptoState=crypto_state(self),
        )

    @cached
    def guest(self) -> Any:
        return self.guest_state.info()

    @cached
    def guestHeartbeatStatus(self) -> Any:
        return self.guest_state.heartbeat()

    @cached
    def snapshot(self) -> Any:
        if not self._snapshots:
            return None
        return vim.vm.SnapshotInfo(
            currentSnapshot=self.current, rootSnapshotList=[s.tree() for s in self.rootSnapshot]
        )

    @cached
    def rootSnapshot(self) -> Any:
        return [s for s in self._snapshots if s.parent_snapshot is None]

    @cached
    def capability(self) -> Any:
        names = [p.name for p in vim.vm.Capability._GetPropertyList() if p.type is bool]
        lacking = {"recordReplaySupported", "vmNpivWwnSupported", "seSparseDiskSupported"}
        flags = {n: n not in lacking for n in names if not n.endswith("Ignored")}
        return vim.vm.Capability(**flags)

    @cached
    def datastore(self) -> Any:
        names = {split_path(self.config.files.vmPathName)[0]}
        names |= {split_path(d.backing.fileName)[0] for d in hardware.disks_of(self.config)}
        return [self._site.datastore(n) for n in sorted(names)]

    @cached
    def network(self) -> Any:
        found = {}
        for nic in hardware.nics_of(self.config):
            item = self.host.network_of(nic.backing)
            found[item._moId] = item
        return list(found.values())

    @cached
    def summary(self) -> Any:
        config = self.config
        guest = self.guest
        return vim.vm.Summary(
            vm=self,
            runtime=self.runtime,
            guest=vim.vm.Summary.GuestSummary(
                guestId=guest.guestId,
                guestFullName=guest.guestFullName,
                toolsStatus=guest.toolsStatus,
                toolsVersionStatus2=guest.toolsVersionStatus2,
                toolsRunningStatus=guest.toolsRunningStatus,
                hostName=guest.hostName,
                ipAddress=guest.ipAddress,
            ),
            config=vim.vm.Summary.ConfigSummary(
                name=self.name,
                template=config.template,
                vmPathName=config.files.vmPathName,
                memorySizeMB=config.hardware.memoryMB,
                numCpu=config.hardware.numCPU,
                numEthernetCards=len(hardware.nics_of(config)),
                numVirtualDisks=len(hardware.disks_of(config)),
                uuid=config.uuid,
                instanceUuid=config.instanceUuid,
                guestId=config.guestId,
                guestFullName=config.guestFullName,
                annotation=config.annotation,
            ),
            storage=self.storage_summary(),
            quickStats=vim.vm.Summary.QuickStats(
                guestHeartbeatStatus=self.guestHeartbeatStatus, uptimeSeconds=self.uptime()
            ),
            overallStatus="green",
        )

    def uptime(self) -> int:
        return int((self.host.now() - self.boot_time).total_seconds()) if self.boot_time else 0

    @live
    def environmentBrowser(self) -> Any:
        return self.host.parent.environmentBrowser

    # -- configuration ----------------------------------------------------------------------

    def ReconfigVM_Task(self, spec: Any) -> Iterator[int]:
        yield 0
        self.reconfigure(spec, change_version=spec.changeVersion)
        self._site.post_vm_event(
            "VmReconfiguredEvent", self, f"Reconfigured {self.name}", configSpec=spec
        )

    def reconfigure(self, spec: Any, *, change_version: str | None = None) -> None:
        """Applies a ConfigSpec.

        `change_version` guards it: the VM's configuration must still be that version. Raises
        ConcurrentAccess otherwise; then nothing was changed.
        """
        with self.chains.lock:
            # Here and not in the call: a task before this one may have changed the VM since. A
            # vCenter also reports it as the task's error (vmware/vic issue 6929).
            if change_version and change_version != self.config.changeVersion:
                raise fault(
                    vim.fault.ConcurrentAccess,
                    "Cannot complete operation due to concurrent modification by another "
                    "operation.",
                )
            running = self.power == "poweredOn"
            if spec.name is not None:
                self.require_unique(entity_name(spec.name))
            made = apply_spec(
                self._site,
                self.host,
                self.config,
                spec,
                running=running,
                snapshots=bool(self._snapshots),
            )
            links = dict(self.links)
            for disk in hardware.disks_of(made.config):
                if disk.backing.fileName not in links:
                    links.update(self.chains.read_chain(disk.backing.fileName))
            self.chains.describe_parents(made.config, links)
            # The disks of a running VM are open, so a new disk has to be opened too.
            old = {d.backing.fileName for d in self.disks()}
            if made.grown or old != {d.backing.fileName for d in hardware.disks_of(made.config)}:
                self.chains.close_leaves()
            for key, capacity in made.grown.items():
                self.grow(hardware.find_device(made.config.hardware.device, key), capacity)
            if not running:
                self.chains.update_tracking(made.config)
            self.set(config=made.config, links=links, name=made.config.name)
            self.forget_links(made.removed)
            gone = [link for path in made.destroy for link in self.unshared_links(path)]
            self._site.orphan_files.note_removed(gone)
            self._site.flush()
            for link in gone:
                self.chains.disks.unlink(link)
            if running and not self.chains.leaves:
                self.chains.open_leaves()
            write_vmx(self)
        if made.networks:
            record_conflicts(self)

    def UpgradeVM_Task(self, version: str | None = None) -> Iterator[int]:
        self.require_power("poweredOff", "poweredOff")
        wanted, have = (int(v.rpartition("-")[2]) for v in (version or NEWEST, self.config.version))
        if wanted <= have:
            raise fault(vim.fault.AlreadyUpgraded, "The virtual hardware is up to date.")
        yield 0
        self.reconfigure(vim.vm.ConfigSpec(version=version or NEWEST))

    def grow(self, disk: Any, capacity: int) -> None:
        path = disk.backing.fileName
        self.chains.disks.grow(path, capacity)
        changes = self.chains.change_map(path)
        if changes is not None:
            changes.grow(capacity)

    def forget_links(self, removed: list[Any]) -> None:
        """Drops the links of disks that were removed from the VM."""
        kept: dict[str, str] = {}
        for path in self.chains.needed_links():
            kept.update({link: self.links[link] for link in self.chains.ancestry(path)})
        if removed:
            self.links = kept

    def unshared_links(self, path: str) -> list[str]:
        """The links of a disk that no snapshot and no other VM has."""
        foreign = {link for v in self._site.vms() if v is not self for link in v.links}
        found = self.chains.read_chain(path)
        return [link for link in found if link not in self.links and link not in foreign]

    def Rename_Task(self, newName: str) -> None:
        self.require_unique(entity_name(newName))
        self.reconfigure(vim.vm.ConfigSpec(name=newName))

    def MarkAsTemplate(self) -> None:
        self.require_power("poweredOff", "poweredOff")
        self.mark_template(True)

    def MarkAsVirtualMachine(self, pool: Any, host: Any = None) -> None:
        self.mark_template(False)

    def mark_template(self, template: bool) -> None:
        with self.chains.lock:
            made = self.chains.with_moved_links(self.config, self.links, {})
            made.template = template
            self.config = made

    # -- removal ----------------------------------------------------------------------------

    def UnregisterVM(self) -> None:
        if self.power != "poweredOff":
            self.require_power("poweredOff", "poweredOff")
        write_vmx(self)
        self.remove_from_inventory()

    def Destroy_Task(self) -> Iterator[int]:
        if self.power != "poweredOff":
            self.require_power("poweredOff", "poweredOff")
        yield 0
        with self.chains.lock:
            foreign = self.chains.shared_links()
            links = [link for link in self.links if link not in foreign]
            for path in links:
                if self.chains.disks.path(path).exists():
                    self.chains.disks.check_unlocked(path)
            self._site.orphan_files.note_removed([*links, self.config.files.vmPathName])
            self.remove_from_inventory()
            self._site.flush()
            for path in reversed(links):
                self.chains.disks.unlink(path)
            remove_home(self)
            shutil.rmtree(self.guest_state.files.folder, ignore_errors=True)
        self._site.post_vm_event("VmRemovedEvent", self, f"Removed {self.name}")

    def remove_from_inventory(self) -> None:
        site = self._site
        with site.changed:
            for snapshot in self._snapshots:
                site.remove(snapshot)
            for holder in (self.host, self.resourcePool):
                holder.vm = [v for v in holder.vm if v is not self]
            if self.parent is not None:
                self.parent.remove_child(self)
            for item in (*self.datastore, *self.network):
                item.touch()
            site.remove(self)

    def recover(self) -> None:
        """Continues after a start of the lab: finishes consolidation, opens the disks."""
        for link in self.links:
            ctk_path(self.chains.disks.path(link)).with_suffix(".new").unlink(missing_ok=True)
        try:
            if self.collapse_due:
                for _ in self.chains.consolidate():
                    pass
        except MethodFault as error:
            # runtime.consolidationNeeded shows that it is still to be done.
            log.warning("%s: %s", self.name, error.msg)
        if self.power != "poweredOn":
            return
        try:
            self.chains.open_leaves()
        except MethodFault as error:
            log.warning("%s cannot run any more: %s", self.name, error.msg)
            self.set(power="poweredOff", boot_time=None, clean_power_off=False)
            return
        if self.shutting_down:
            self.guest_state.continue_shutdown()
        customization.start_customization(self)
