"""Makes and registers VMs, in a folder or in a vApp."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.names import entity_name, file_name
from vreplica.lab.api.vmodl import fault, vim
from vreplica.lab.storage.paths import split_path
from vreplica.lab.vm.config import apply_spec, new_config, stamp
from vreplica.lab.vm.files import read_vmx, write_vmx
from vreplica.lab.vm.snapshots import Snapshot
from vreplica.lab.vm.vm import VirtualMachine


class VmHolder:
    """What VMs are directly in: `Folder` and `VirtualApp` say how they hold them."""

    _site: Any
    require_free: Any
    """The stored form of a name for a new child. Raises InvalidName, DuplicateName."""
    parents_of_child: Any
    """`parent` and `parentVApp` of a VM that is directly in it."""
    add_child: Any

    def create_vm(self, spec: Any, pool: Any, host: Any, *, unfinished: bool = False) -> Any:
        site, disks = self._site, self._site.disks
        store, rest = split_path(spec.files.vmPathName)
        name, own = entity_name(spec.name), file_name(spec.name)
        if not rest.endswith(".vmx"):
            rest = f"{split_path(disks.free_folder(store, rest or own))[1]}/{own}.vmx"
        vmx = f"[{store}] {rest}"
        host.require_datastore(store)
        if disks.path(vmx).exists():
            raise fault(vim.fault.FileAlreadyExists, f"File {vmx} already exists", file=vmx)
        site.orphan_files.note_new(vmx)
        config = new_config(name, vmx, host.now())
        made = apply_spec(site, host, config, spec, running=False, snapshots=False)
        vm = VirtualMachine(site, site.new_id("vm"))
        vm.__dict__.update(
            name=name,
            config=made.config,
            host=host,
            resourcePool=pool,
            unfinished=unfinished,
            **self.parents_of_child(),
        )
        for disk in hardware.disks_of(made.config):
            vm.links.update(vm.chains.read_chain(disk.backing.fileName))
        vm.chains.describe_parents(made.config, vm.links)
        vm.chains.update_tracking(made.config)
        self.add_vm(vm)
        return vm

    def add_vm(self, vm: Any) -> None:
        """Adds a complete VM to the inventory."""
        site = self._site
        with site.changed:
            site.add(vm)
            self.add_child(vm)
            vm.host.vm = [*vm.host.vm, vm]
            vm.resourcePool.vm = [*vm.resourcePool.vm, vm]
            for item in (*vm.datastore, *vm.network):
                item.touch()
        write_vmx(vm)

    def register(
        self, path: str, name: str | None, template: bool, pool: Any, host: Any
    ) -> Generator[int, None, Any]:
        """The steps of a task that registers a .vmx file, with its snapshots."""
        site = self._site
        owner = next((v for v in site.vms() if v.config.files.vmPathName == path), None)
        if owner is not None:
            raise fault(vim.fault.AlreadyExists, f"{path} is registered already", name=owner.name)
        chosen = site.choose_host(pool, host)
        yield 0
        kept = read_vmx(site, path)
        stored = self.require_free(name or kept["vm"]["name"])
        vm = VirtualMachine(site, site.new_id("vm"))
        vm.__dict__.update(kept["vm"], host=chosen, resourcePool=pool, **self.parents_of_child())
        vm.__dict__["name"] = vm.config.name = stored
        vm.config.template = template
        stamp(vm.config, vm.config, chosen.now())
        by_id: dict[Any, Any] = {None: None}
        for values in kept["snapshots"]:
            snapshot = Snapshot(site, site.new_id("snapshot"))
            by_id[values.pop("id")] = snapshot
            above = by_id[values.pop("parent")]
            snapshot.__dict__.update(values, vm=vm, parent_snapshot=above)
            vm.__dict__["_snapshots"] = [*vm.all_snapshots(), snapshot]
            site.add(snapshot)
        vm.__dict__["current"] = by_id[kept["current"]]
        self.add_vm(vm)
        site.post_vm_event("VmRegisteredEvent", vm, f"Registered {vm.name}", template=template)
        return vm
