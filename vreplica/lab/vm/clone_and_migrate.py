"""Clones (full, linked, instant) and moves of a VM to another datastore, host or pool."""

from __future__ import annotations

import copy
import shutil
import uuid
from collections.abc import Generator, Iterator
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.vmodl import fault, invalid_argument, vim
from vreplica.lab.guest.customization import check_spec
from vreplica.lab.storage.paths import split_path
from vreplica.lab.vm.files import nvram_path, write_vmx
from vreplica.lab.vm.relocate import move_files, plan_move

_LINKED = "createNewChildDiskBacking"
_LOCATORS = ("moveAllDiskBackingsAndDisallowSharing", "moveAllDiskBackingsAndAllowSharing")


class CloneAndMigrateMethods:
    """The methods of a VirtualMachine that clone and move it."""

    _site: Any
    name: Any
    config: Any
    power: str
    chains: Any
    links: dict[str, str]
    host: Any
    resourcePool: Any
    parent: Any
    current: Any
    guest_settings: dict[str, Any] | None

    def CloneVM_Task(self, folder: Any, name: str, spec: Any) -> Generator[int, None, Any]:
        location = spec.location
        holder = _holder(folder, location.pool)
        holder.require_free(name)
        if self.config.template and location.pool is None:
            raise invalid_argument("spec.location.pool")
        linked = location.diskMoveType == _LINKED
        if linked and spec.snapshot is None:
            raise invalid_argument("spec.location.diskMoveType")
        if not linked and location.diskMoveType not in (None, *_LOCATORS):
            raise fault(vim.fault.InvalidArgument, location.diskMoveType)
        source = spec.snapshot.config if spec.snapshot is not None else self.config
        if spec.customization is not None:
            check_spec(self, source, spec.customization)
        yield 0
        made = self.create_copy(holder, name, location, source, linked)
        made.guest_settings = dict(self.guest_settings or {})
        if spec.customization is not None:
            made.set_customization(spec.customization)
        if spec.config is not None:
            made.reconfigure(spec.config)
        if spec.template:
            made.mark_template(True)
        self._site.post_vm_event(
            "VmClonedEvent", made, f"{self.name} was cloned", sourceVm=_named(self)
        )
        if spec.powerOn:
            for _ in made.PowerOnVM_Task():
                pass
        yield 90
        return made

    def InstantClone_Task(self, spec: Any) -> Generator[int, None, Any]:
        if self.power != "poweredOn":
            self.require_power("poweredOn", "poweredOn")  # type: ignore[attr-defined]
        pool = spec.location.pool or self.resourcePool
        holder = _holder(spec.location.folder or self.parent, pool)
        holder.require_free(spec.name)
        yield 0
        # The child shares the present content of the parent's disks, through links of its own.
        taken = self.add_snapshot(f"instant clone {spec.name}", "", False)  # type: ignore[attr-defined]
        made = self.create_copy(holder, spec.name, spec.location, taken.config, True)
        made.reconfigure(vim.vm.ConfigSpec(extraConfig=spec.config or []))
        for _ in made.PowerOnVM_Task():
            pass
        return made

    def create_copy(self, holder: Any, name: str, location: Any, source: Any, linked: bool) -> Any:
        """Makes a VM with the disks of `source`: whole copies, or links on top of them."""
        site, disks = self._site, self._site.disks
        store = (
            location.datastore.folder
            if location.datastore
            else split_path(self.config.files.vmPathName)[0]
        )
        pool = location.pool or self.resourcePool
        host = location.host or (self.host if pool is self.resourcePool else None)
        config = copy.deepcopy(source)
        found = hardware.disks_of(config)
        spec = vim.vm.ConfigSpec(name=name, files=vim.vm.FileInfo(vmPathName=f"[{store}]"))
        made = holder.create_vm(spec, pool, site.choose_host(pool, host), unfinished=True)
        vmx = made.config.files.vmPathName
        links: dict[str, str] = {}
        created: list[str] = []
        try:
            for disk in found:
                old = disk.backing.fileName
                path = disks.free_name(
                    disks.sibling(vmx, f"{split_path(vmx)[1].partition('/')[0]}.vmdk")
                )
                if linked:
                    path = disks.next_link_name(path)
                    disks.create_child(old, path)
                    links.update(self.chains.read_chain(path))
                else:
                    thin = bool(disk.backing.thinProvisioned)
                    disk.backing.uuid = disks.copy(old, path, thin=thin)
                    links[path] = ""
                created.append(path)
                disk.backing.changeId = None
                self.chains.set_backing(disk.backing, path, links)
                disk.diskObjectId = f"{made.config.instanceUuid[:8]}-{disk.key}"
        except BaseException:
            for path in created:
                disks.unlink(path)
            made.remove_from_inventory()
            raise
        config.name, config.files = made.name, made.config.files
        config.uuid, config.instanceUuid = str(uuid.uuid4()), made.config.instanceUuid
        config.template = config.changeTrackingEnabled = False
        hardware.set_nics_connected(config, False)
        for nic in hardware.nics_of(config):
            # Two cards with one MAC address disturb each other. A manual one is copied
            # nevertheless, as vCenter does.
            if nic.addressType != "manual":
                nic.macAddress = hardware.new_mac(nic.addressType)
        own = next(o for o in made.config.extraConfig if o.key == "nvram")
        config.extraConfig = [o for o in config.extraConfig if o.key != "nvram"] + [own]
        if nvram_path(self).exists():
            shutil.copy2(nvram_path(self), nvram_path(made))
        made.set(config=config, links=links, unfinished=False)
        write_vmx(made)
        return made

    def RelocateVM_Task(self, spec: Any, priority: Any = None) -> Iterator[int]:
        store = spec.datastore.folder if spec.datastore is not None else None
        move = plan_move(self, store, {d.diskId: d.datastore.folder for d in spec.disk or ()})
        yield 0
        before = self.host, self._site.datastore(split_path(move.home[0])[0])
        if move.links or move.home[0] != move.home[1]:
            yield from move_files(self, move)
        if spec.host is not None and spec.host is not self.host:
            self.move_host(spec.host)
        if spec.pool is not None and spec.pool is not self.resourcePool:
            spec.pool.MoveIntoResourcePool([self])
        self._site.post_vm_event(
            "VmRelocatedEvent",
            self,
            f"Completed the relocation of {self.name}",
            template=bool(self.config.template),
            sourceHost=vim.event.HostEventArgument(host=before[0], name=before[0].name),
            sourceDatastore=vim.event.DatastoreEventArgument(
                datastore=before[1], name=before[1].name
            ),
        )

    def MigrateVM_Task(
        self, pool: Any = None, host: Any = None, priority: Any = None, state: Any = None
    ) -> Iterator[int]:
        if state is not None and state != self.power:
            self.require_power(state, state)  # type: ignore[attr-defined]
        yield from self.RelocateVM_Task(vim.vm.RelocateSpec(pool=pool, host=host))

    def move_host(self, host: Any) -> None:
        host.require_connected()
        host.require_access(self)
        self.host.vm = [v for v in self.host.vm if v is not self]
        host.vm = [*host.vm, self]
        self.host = host


def _holder(folder: Any, pool: Any) -> Any:
    """What a copy is directly in: a vApp where that is its pool, else the folder."""
    return pool if isinstance(pool, vim.VirtualApp) else folder


def _named(vm: Any) -> Any:
    return vim.event.VmEventArgument(vm=vm, name=vm.name)
