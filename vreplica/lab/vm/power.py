"""Power of a VM: on, off, suspend, reset, shutdown by the guest, loss of the host's power."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.vmodl import fault, invalid_power_state, vim
from vreplica.lab.storage.change_map import ctk_path
from vreplica.lab.vm.encryption import key_required
from vreplica.lab.vm.files import write_nvram


class PowerMethods:
    """The methods of a VirtualMachine that switch it on and off."""

    _site: Any
    name: Any
    config: Any
    host: Any
    power: str
    boot_time: Any
    chains: Any
    guest_state: Any
    set: Any

    crypto_locked: bool

    def require_power(self, wanted: str, requested: str) -> None:
        if self.power != wanted:
            raise invalid_power_state(self.power, requested)

    def PowerOnVM_Task(self, host: Any = None) -> Iterator[int]:
        if self.config.template:
            raise fault(vim.fault.InvalidState, "A template cannot be powered on.")
        self.host.require_connected()
        yield 0
        # A state that does not fit is the task's error, not the call's: govc vm.destroy ignores the
        # one and not the other.
        with self.chains.lock:
            if self.power == "poweredOn":
                self.require_power("poweredOff", "poweredOn")
            self.host.require_resources(self)
            if self.crypto_locked:
                raise key_required(self.config.keyId)
            self.chains.apply_tracking()
            self.chains.open_leaves()
            config = self.config_with_nics(True)
            self.set(
                power="poweredOn", boot_time=self.host.now(), shutting_down=False, config=config
            )
        write_nvram(self)
        self.guest_state.started()
        self._site.post_vm_event("VmPoweredOnEvent", self, f"{self.name} is powered on")

    def PowerOffVM_Task(self) -> Iterator[int]:
        self.host.require_connected()
        yield 0
        if self.power == "poweredOff":
            self.require_power("poweredOn", "poweredOff")
        self.halt(clean=False)

    def halt(self, *, clean: bool) -> None:
        """Switches the VM off: `clean` after a shutdown by the guest, else hard."""
        with self.chains.lock:
            if self.power == "poweredOff":
                return
            if clean:
                self.chains.flush()
            self.chains.close_leaves()
            self.set(
                power="poweredOff",
                boot_time=None,
                shutting_down=False,
                clean_power_off=clean,
                config=self.config_with_nics(False),
            )
        if not clean:
            self.guest_state.stopped()
        self._site.post_vm_event("VmPoweredOffEvent", self, f"{self.name} is powered off")

    def lose_power(self) -> None:
        """Switches the VM off as a host does that loses power: no flush, no valid change map.

        ESXi finds such a map marked as in use and drops it (KB 320557). The next power-on starts a
        map with a new uuid.
        """
        with self.chains.lock:
            if self.power == "poweredOff":
                return
            self.guest_state.stopped()
            self.chains.close_leaves()
            config = self.config_with_nics(False)
            for disk in hardware.disks_of(config):
                path = self.chains.disks.path(disk.backing.fileName)
                ctk_path(path).unlink(missing_ok=True)
                if hasattr(disk.backing, "changeId"):
                    disk.backing.changeId = None
            self.set(power="poweredOff", boot_time=None, clean_power_off=False, config=config)

    def config_with_nics(self, on: bool) -> Any:
        """The configuration with its network cards connected or disconnected."""
        config = copy.deepcopy(self.config)
        hardware.set_nics_connected(config, on)
        return config

    def SuspendVM_Task(self) -> Iterator[int]:
        yield 0
        self.require_power("poweredOn", "suspended")
        with self.chains.lock:
            self.chains.close_leaves()
            self.set(power="suspended")

    def ResetVM_Task(self) -> Iterator[int]:
        yield 0
        self.require_power("poweredOn", "poweredOn")
        self.guest_state.stopped()
        self.boot_time = self.host.now()
        self.guest_state.started()

    def ShutdownGuest(self) -> None:
        self.host.require_connected()
        self.guest_state.shut_down()
        self._site.post_vm_event(
            "VmGuestShutdownEvent", self, f"Guest OS shut down for {self.name}"
        )

    def RebootGuest(self) -> None:
        self.guest_state.require_tools()
        self.boot_time = self.host.now()
        self._site.post_vm_event("VmGuestRebootEvent", self, f"Guest OS reboot for {self.name}")

    def StandbyGuest(self) -> None:
        self.guest_state.require_tools()
        with self.chains.lock:
            self.chains.close_leaves()
            self.set(power="suspended")
