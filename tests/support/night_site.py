"""Both sites of a night, in memory: those of sync_model, with hosts, power, guests and networks.

    NightSite   its network may be cut; its host away (its VMs go on) or down (they went off)
    NightVm     a guest that may hang in its shutdown, or have no Tools

Calls of a session are the product's. What others do goes past the sessions, and is no step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from tests.support.sync_model import Opened, Site, Vm
from vreplica.disk_errors import DiskLocked, HostLeaving
from vreplica.vsphere.errors import HostDisconnected, HostUnreachable, ToolsUnavailable
from vreplica.vsphere.model import EventRecord, GuestState, SnapshotInfo, VmInfo, VmRef

ON, OFF = "poweredOn", "poweredOff"
LOOKS = 2
"""So often is a guest seen on after it was asked to shut down."""


class Host(Enum):
    """`AWAY`: the host and its VMs go on, vCenter does not see them. `DOWN`: they are off."""

    UP = "up"
    AWAY = "away"
    DOWN = "down"


@dataclass
class NightVm(Vm):
    hangs: bool = False
    tools: bool = True
    asked: int | None = None
    """Its guest was asked to shut down, and is seen on so often yet."""
    remembered: str = OFF
    """Its power as vCenter has seen it last."""

    @property
    def on(self) -> bool:
        return self.power == ON


class Witness(Protocol):
    """Told of each effect of the product on a VM's power, before it happens."""

    def before_stop(self, site: NightSite, vm: NightVm, how: str) -> None: ...

    def before_start(self, site: NightSite, vm: NightVm) -> None: ...


@dataclass
class Place:
    """The state of a site that all its sessions see."""

    name: str
    up: bool = True
    host: Host = Host.UP
    witness: Witness | None = None
    events: dict[str, list[EventRecord]] = field(default_factory=dict)


class NightSite(Site):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.place = Place(name)

    def connect(self, steps: Callable[[], None]) -> NightSite:
        """A session; each of its calls is a step, and needs the network."""
        made = self.session(steps)
        assert isinstance(made, NightSite)

        def call() -> None:
            steps()
            if not self.place.up:
                raise HostUnreachable(self.place.name, 443, "no route to host")

        made.steps = call
        call()
        return made

    def __enter__(self) -> NightSite:
        return self

    def __exit__(self, *exc: object) -> None:
        """Logs out."""

    # -- what others do ---------------------------------------------------------------------

    def add_vm(self, name: str, *, cbt: bool, bios_uuid: str, power: str = OFF) -> NightVm:
        made = NightVm(VmRef(f"vm-{self.next()}", name), bios_uuid, {}, cbt, power)
        self.vms[made.ref.moref] = made
        return made

    @property
    def vm(self) -> NightVm | None:
        """The one VM of the site."""
        found = [vm for vm in self.vms.values() if isinstance(vm, NightVm)]
        assert len(found) < 2
        return found[0] if found else None

    @property
    def usable(self) -> bool:
        return self.place.up and self.place.host is Host.UP

    def set_host(self, host: Host) -> None:
        for vm in self.vms.values():
            assert isinstance(vm, NightVm)
            if self.place.host is Host.UP:
                vm.remembered = vm.power
            if host is Host.DOWN and vm.on:
                self.set_power(vm, OFF)
        self.place.host = host

    def set_power(self, vm: NightVm, power: str) -> None:
        if vm.power != power:
            vm.power, vm.asked = power, None
            kind = "VmPoweredOnEvent" if power == ON else "VmPoweredOffEvent"
            self._tell(vm, kind)

    def _tell(self, vm: Vm, kind: str) -> None:
        self.log.append(EventRecord(self.next(), kind, self.clock(), "eve", vm.ref.name, ""))

    # -- a session's: finding, snapshots ----------------------------------------------------

    def look_up_vm(self, name: str) -> VmRef | None:
        self.steps()
        return next(
            (vm.ref for vm in self.vms.values() if name in (vm.ref.name, vm.ref.moref)), None
        )

    def create_snapshot(self, ref: VmRef, name: str, text: str, quiesce: object) -> SnapshotInfo:
        super().create_snapshot(ref, name, text, quiesce)
        vm = self._vm(ref)
        assert isinstance(vm, NightVm)
        made = vm.snapshots[-1]
        made.info = replace(made.info, quiesced=quiesce is not None and vm.on and vm.tools)
        return self.read_snapshot(ref, made.info.moref)

    # -- a session's: hosts -----------------------------------------------------------------

    def _need_host(self, operation: str) -> None:
        if self.place.host is not Host.UP:
            raise HostDisconnected(operation, f"the host is {self.place.host.value}")

    def change(self, ref: VmRef) -> AbstractContextManager[Vm]:
        self._vm(ref)
        self._need_host("changing the VM")
        return super().change(ref)

    def _look(self, vm: NightVm) -> None:
        if vm.asked is not None and not vm.hangs and vm.on:
            vm.asked -= 1
            if vm.asked <= 0:
                self.set_power(vm, OFF)

    def _seen(self, ref: VmRef) -> NightVm:
        vm = self._vm(ref)
        assert isinstance(vm, NightVm)
        if self.place.host is Host.UP:
            self._look(vm)
        return vm

    def read_vm(self, ref: VmRef, snapshot: str | None = None) -> VmInfo:
        vm = self._seen(ref)
        found = super().read_vm(ref)
        up = self.place.host is Host.UP
        return replace(
            found,
            power_state=vm.power if up else vm.remembered,
            connection_state="connected" if up else "disconnected",
            tools_running=up and vm.on and vm.tools,
            tools_status="toolsOk" if vm.tools else "toolsNotInstalled",
        )

    def power_state(self, ref: VmRef) -> str:
        vm = self._seen(ref)
        self._need_host("reading the power state")
        return vm.power

    def read_guest(self, ref: VmRef) -> GuestState:
        vm = self._seen(ref)
        running = vm.on and vm.tools and self.place.host is Host.UP
        return GuestState(
            vm.power if self.place.host is Host.UP else vm.remembered,
            running,
            "toolsOk" if running else "toolsNotRunning",
            "running" if running else "notRunning",
            "green" if running else "gray",
            None,
            None,
            None,
        )

    # -- a session's: power -----------------------------------------------------------------

    def power_on(self, ref: VmRef) -> None:
        vm = self._seen(ref)
        self._need_host("power-on")
        if vm.on:
            return
        if self.place.witness is not None:
            self.place.witness.before_start(self, vm)
        self.set_power(vm, ON)
        self.steps()

    def power_off(self, ref: VmRef) -> None:
        vm = self._seen(ref)
        self._need_host("power-off")
        if not vm.on:
            return
        if self.place.witness is not None:
            self.place.witness.before_stop(self, vm, "power off")
        self.set_power(vm, OFF)
        self.steps()

    def shutdown_guest(self, ref: VmRef) -> None:
        vm = self._seen(ref)
        self._need_host("guest shutdown")
        if not vm.on:
            return
        if not vm.tools:
            raise ToolsUnavailable("guest shutdown", "toolsNotInstalled")
        if self.place.witness is not None:
            self.place.witness.before_stop(self, vm, "shut down")
        self._tell(vm, "VmGuestShutdownEvent")
        vm.asked = LOOKS if vm.asked is None else vm.asked
        self.steps()

    def revert_to_snapshot(self, ref: VmRef, moref: str) -> None:
        vm = self._seen(ref)
        if vm.on and self.place.witness is not None:
            self.place.witness.before_stop(self, vm, "revert")
        super().revert_to_snapshot(ref, moref)
        self.set_power(vm, OFF)

    # -- a session's: what failovers need beside --------------------------------------------

    def set_nics(self, ref: VmRef, *, connect: bool) -> None:
        with self.change(ref):
            pass

    def set_hardware_identity(self, ref: VmRef, source: VmInfo, keep: object) -> None:
        with self.change(ref):
            pass

    def disk_files_above(self, ref: VmRef, frozen: Mapping[int, str]) -> int | None:
        vm = self._vm(ref)
        if any(frozen.get(key) not in disk.parents for key, disk in vm.disks.items()):
            return None
        return sum(end - start for d in vm.disks.values() for _, start, end in d.written)

    def consolidate(self, ref: VmRef) -> bool:
        return False


class Open(Opened):
    """An open disk of a VM at a host that answers. A running VM's disk is not written to."""

    def _open(self) -> None:
        site = self.site
        assert isinstance(site, NightSite)
        if site.place.host is not Host.UP:
            raise HostLeaving(self.name, "opening", "the host does not answer")
        super()._open()
        running = [vm for vm in site.vms.values() if vm.power == ON]
        if not self.read_only and any(
            self.name == d.path for vm in running for d in vm.disks.values()
        ):
            self.drop()
            raise DiskLocked(self.name, "opening", "the VM is on")
