"""Resource pools and vApps.

vm folder ──childEntity──► vApp ──vm──► VM          a VM in a vApp has no `parent`, but a
                            │                       `parentVApp`
pool ──────resourcePool─────┘   (also a vApp's)     a vApp is a resource pool, and in a folder
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator
from typing import Any

from vreplica.lab.api.managed import cached, live
from vreplica.lab.api.managed_entity import ManagedEntity, duplicate_name
from vreplica.lab.api.names import entity_name, named
from vreplica.lab.api.vmodl import fault, invalid_argument, vim, vmodl
from vreplica.lab.vcenter.vm_holder import VmHolder


class ResourcePool(ManagedEntity, vim.ResourcePool):
    """A pool of a cluster. Nothing is shared out: it only holds VMs, pools and vApps."""

    owner: Any
    vm: Any
    resourcePool: Any

    @cached
    def config(self) -> Any:
        return vim.ResourceConfigSpec(
            entity=self, cpuAllocation=_allocation(), memoryAllocation=_allocation()
        )

    @cached
    def summary(self) -> Any:
        return vim.ResourcePool.Summary(name=self.name, config=self.config)

    def siblings(self) -> Any:
        return getattr(self.parent, "resourcePool", None) or ()

    def require_free(self, name: str | None) -> str:
        """The stored form of a name for a new pool in this one. Raises as `entity_name`."""
        stored = entity_name(name)
        if (taken := named(self.resourcePool, stored)) is not None:
            raise duplicate_name(stored, taken)
        return stored

    def CreateResourcePool(self, name: str, spec: Any) -> Any:
        made = ResourcePool(self._site, self._site.new_id("resgroup"))
        values = {"parent": self, "owner": self.owner, "vm": [], "resourcePool": []}
        made.__dict__.update(name=self.require_free(name), **values)
        self._site.add(made)
        self.resourcePool = [*self.resourcePool, made]
        return made

    def CreateVApp(self, name: str, resSpec: Any, configSpec: Any, vmFolder: Any = None) -> Any:
        """A vApp in a VM folder, or in this one, which is a vApp then."""
        inside = isinstance(self, VirtualApp)
        if inside is (vmFolder is not None):
            # "If this is a nested vApp, this parameter must be null" (vSphere API, CreateVApp).
            raise invalid_argument("vmFolder")
        stored = self.require_free(name)
        if vmFolder is not None:
            vmFolder.require_type(vim.VirtualApp)
            stored = vmFolder.require_free(name)
        made = VirtualApp(self._site, self._site.new_id("resgroup-v"))
        made.__dict__.update(
            name=stored,
            parent=self,
            parentVApp=self if inside else None,
            parentFolder=vmFolder,
            owner=self.owner,
            vm=[],
            resourcePool=[],
            vAppConfig=vim.vApp.VAppConfigInfo(
                annotation=configSpec.annotation or "",
                instanceUuid=configSpec.instanceUuid or str(uuid.uuid4()),
                entityConfig=list(configSpec.entityConfig or ()),
                ipAssignment=vim.vApp.IPAssignmentInfo(),
                installBootRequired=False,
                installBootStopDelay=0,
            ),
        )
        self._site.add(made)
        self.resourcePool = [*self.resourcePool, made]
        if vmFolder is not None:
            vmFolder.add_child(made)
        return made

    def MoveIntoResourcePool(self, list: Any) -> None:  # noqa: A002  its name on the wire
        """Moves VMs into this pool or vApp, also out of a vApp: its folder has them then."""
        for item in list:
            if not isinstance(item, vim.VirtualMachine) or item.resourcePool.owner != self.owner:
                raise fault(vmodl.fault.NotSupported, f"{item.name} cannot move to {self.name}.")
            old = item.resourcePool
            if old is self:
                continue
            holder = item.parent or top_folder(old)
            if isinstance(self, VirtualApp):
                self.require_free(item.name)
            elif item.parent is None:
                holder.require_free(item.name)
            with self._site.changed:
                if item.parent is not None and isinstance(self, VirtualApp):
                    holder.remove_child(item)
                elif item.parent is None and not isinstance(self, VirtualApp):
                    holder.add_child(item)
                    item.set(parent=holder, parentVApp=None)
                old.vm = [v for v in old.vm if v is not item]
                self.vm = [*self.vm, item]
                item.resourcePool = self
                if isinstance(self, VirtualApp):
                    item.set(**self.parents_of_child())

    def Destroy_Task(self) -> Iterator[int]:
        """Its VMs and pools go to the pool above (vSphere API, ResourcePool)."""
        if not isinstance(self.parent, vim.ResourcePool):
            raise fault(vmodl.fault.NotSupported, f"The pool {self.name} cannot be destroyed.")
        yield 0
        above = self.parent
        with self._site.changed:
            for item in (*self.vm, *self.resourcePool):
                item.set(**{"resourcePool" if item in self.vm else "parent": above})
            kept = [p for p in above.resourcePool if p is not self]
            above.set(vm=[*above.vm, *self.vm], resourcePool=[*kept, *self.resourcePool])
            self._site.remove(self)


class VirtualApp(VmHolder, ResourcePool, vim.VirtualApp):
    """A vApp: its VMs are in no folder."""

    parentFolder: Any
    parentVApp: Any
    vAppConfig: Any

    @property
    def above(self) -> Any:
        return self.parentFolder or self.parent

    @live
    def summary(self) -> Any:
        on = any(vm.power == "poweredOn" for vm in self.every_vm())
        return vim.VirtualApp.Summary(
            name=self.name,
            config=self.config,
            vAppState="started" if on else "stopped",
            suspended=False,
            installBootRequired=False,
            instanceUuid=self.vAppConfig.instanceUuid,
        )

    @live
    def datastore(self) -> Any:
        return list(dict.fromkeys(store for vm in self.every_vm() for store in vm.datastore))

    @live
    def network(self) -> Any:
        return list(dict.fromkeys(net for vm in self.every_vm() for net in vm.network))

    def every_vm(self) -> list[Any]:
        """Its VMs and those of the vApps and pools in it."""
        found = list(self.vm)
        pools = list(self.resourcePool)
        while pools:
            pool = pools.pop()
            found += pool.vm
            pools += pool.resourcePool
        return found

    def siblings(self) -> Any:
        return self.above.childEntity if self.parentFolder else super().siblings()

    def require_free(self, name: str | None) -> str:
        stored: str = super().require_free(name)
        if (taken := named(self.vm, stored)) is not None:
            raise duplicate_name(stored, taken)
        return stored

    def parents_of_child(self) -> dict[str, Any]:
        return {"parent": None, "parentVApp": self}

    def add_child(self, item: Any) -> None:
        """`vm` lists it already, since a vApp is the pool of its VMs."""

    def CreateChildVM_Task(self, config: Any, host: Any = None) -> Generator[int, None, Any]:
        self.require_free(config.name)
        if config.files is None or not config.files.vmPathName:
            raise invalid_argument("configSpec.files")
        chosen = self._site.choose_host(self, host)
        chosen.require_connected()
        yield 0
        vm = self.create_vm(config, self, chosen)
        self._site.post_vm_event("VmCreatedEvent", vm, f"Created {vm.name}", template=False)
        return vm

    def RegisterChildVM_Task(
        self, path: str, name: str | None = None, host: Any = None
    ) -> Generator[int, None, Any]:
        return (yield from self.register(path, name, False, self, host))

    def UpdateVAppConfig(self, spec: Any) -> None:
        made = vim.vApp.VAppConfigInfo(
            **{p.name: getattr(self.vAppConfig, p.name) for p in self.vAppConfig._GetPropertyList()}
        )
        made.annotation = made.annotation if spec.annotation is None else spec.annotation
        made.entityConfig = list(spec.entityConfig or made.entityConfig)
        self.vAppConfig = made

    def _in_order(self) -> list[Any]:
        order = {c.key: c.startOrder or 0 for c in self.vAppConfig.entityConfig}
        return sorted(self.every_vm(), key=lambda vm: order.get(vm, 0))

    def PowerOnVApp_Task(self) -> Iterator[int]:
        yield 0
        for vm in self._in_order():
            if vm.power != "poweredOn":
                yield from vm.PowerOnVM_Task()

    def PowerOffVApp_Task(self, force: bool) -> Iterator[int]:
        """All at once. Without `force` too: a guest is not asked."""
        yield 0
        for vm in reversed(self._in_order()):
            if vm.power != "poweredOff":
                yield from vm.PowerOffVM_Task()

    def unregisterVApp_Task(self) -> Iterator[int]:
        self._require_off()
        yield 0
        for vm in self.every_vm():
            vm.UnregisterVM()
        self._forget()

    def Destroy_Task(self) -> Iterator[int]:
        self._require_off()
        yield 0
        for vm in self.every_vm():
            yield from vm.Destroy_Task()
        self._forget()

    def _require_off(self) -> None:
        for vm in self.every_vm():
            if vm.power != "poweredOff":
                vm.require_power("poweredOff", "poweredOff")

    def _forget(self) -> None:
        with self._site.changed:
            for pool in list(self.resourcePool):
                pool._forget() if isinstance(pool, VirtualApp) else self._site.remove(pool)
            if self.parentFolder is not None:
                self.parentFolder.remove_child(self)
            self.parent.resourcePool = [p for p in self.parent.resourcePool if p is not self]
            self._site.remove(self)


def top_folder(app: Any) -> Any:
    """The VM folder that a vApp, or the outermost around it, is in."""
    while app.parentFolder is None:
        app = app.parent
    return app.parentFolder


def _allocation() -> Any:
    return vim.ResourceAllocationInfo(
        reservation=0,
        expandableReservation=True,
        limit=-1,
        shares=vim.SharesInfo(shares=4000, level="normal"),
    )
