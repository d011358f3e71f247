"""The guest of a VM: its operating system and VMware Tools, as far as the API shows them.

    settings (LabControl.set_guest)
      tools         running | notRunning | notInstalled     while the VM is on
      shutdown      works | hangs                           the effect of ShutdownGuest
      shutdown_s    seconds until the VM is off
      quiesce       works | applicationFault | filesystemFault | filesystemOnly
                    (not on Windows: `works` runs the freeze scripts, if there are any)
      hostname, ip, addresses, gateways, dns, domain       reported by Tools; see guest/network
      user, password, programs                             for guest operations; see guest/files
      customize, customize_s                               see guest/customization

`on_event(event)` is called for an application in the guest: with "freeze" (applications), "sync"
(file systems), "thaw", "stop" (a clean shutdown), "lost" (the power is gone) and "start".
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from vreplica.lab.api.names import file_name
from vreplica.lab.api.vmodl import fault, invalid_power_state, vim
from vreplica.lab.context import VmContext
from vreplica.lab.guest import customization
from vreplica.lab.guest.files import GuestFiles
from vreplica.lab.guest.network import checked_addresses, ip_stack, nic_infos, record_conflicts
from vreplica.lab.guest.os_names import full_name, guest_family

DEFAULTS: dict[str, Any] = {
    "tools": "running",
    "shutdown": "works",
    "shutdown_s": 0.1,
    "quiesce": "works",
    "hostname": "",
    "ip": "",
    "addresses": {},
    "gateways": [],
    "dns": [],
    "domain": "",
    "user": "",
    "password": "guest",
    "programs": {},
    "customize": "works",
    "customize_s": 0.1,
}

CHOICES: dict[str, tuple[str, ...]] = {
    "tools": ("running", "notRunning", "notInstalled"),
    "shutdown": ("works", "hangs"),
    "quiesce": ("works", "applicationFault", "filesystemFault", "filesystemOnly"),
    "customize": ("works", "fails", "networkFails"),
}

_TOOLS_VERSION = "12389"
SCRIPTS = "/etc/vmware-tools/backupScripts.d"
"""Executables that Tools of a Linux guest call with `freeze`, `thaw` or `freezeFail`."""
_SCRIPT_S = 60.0
_WRITER = '<WRITER_METADATA><IDENTIFICATION friendlyName="{}"/></WRITER_METADATA>'


class Guest:
    """The guest of one VM. Its settings are in the VM's state."""

    def __init__(self, vm: VmContext) -> None:
        self.vm = vm
        self.files = GuestFiles(vm)
        self.on_event: Callable[[str], None] | None = None
        self._frozen = False

    @property
    def settings(self) -> dict[str, Any]:
        return {**DEFAULTS, **(self.vm.guest_settings or {})}

    def change(self, **values: Any) -> None:
        """Raises ValueError for a setting or a value that does not exist."""
        for name, value in values.items():
            if name not in DEFAULTS:
                raise ValueError(f"no such guest setting: {name}; known: {', '.join(DEFAULTS)}")
            if name in CHOICES and value not in CHOICES[name]:
                raise ValueError(f"{name} is one of {', '.join(CHOICES[name])}")
        if "addresses" in values:
            values["addresses"] = checked_addresses(values["addresses"])
        self.vm.guest_settings = {**(self.vm.guest_settings or {}), **values}

    @property
    def user(self) -> str:
        """The user that may log in to the guest."""
        windows = guest_family(self.vm.config.guestId) == "windows"
        return self.settings["user"] or ("Administrator" if windows else "root")

    @property
    def on(self) -> bool:
        return bool(self.vm.power == "poweredOn")

    @property
    def tools_running(self) -> bool:
        return self.on and self.settings["tools"] == "running"

    # -- properties of the API --------------------------------------------------------------

    def info(self) -> Any:
        tools, running = self.settings["tools"], self.tools_running
        installed = tools != "notInstalled"
        status = "toolsNotInstalled"
        if installed:
            status = "toolsOk" if running else "toolsNotRunning"
        made = vim.vm.GuestInfo(
            toolsStatus=status,
            toolsVersionStatus="guestToolsCurrent" if installed else "guestToolsNotInstalled",
            toolsVersionStatus2="guestToolsCurrent" if installed else "guestToolsNotInstalled",
            toolsRunningStatus="guestToolsRunning" if running else "guestToolsNotRunning",
            toolsVersion=_TOOLS_VERSION if installed else "0",
            guestState=self.state(),
            guestOperationsReady=running,
            interactiveGuestOperationsReady=False,
            guestStateChangeSupported=running,
        )
        if running:
            guest_id = self.vm.config.guestId
            family = guest_family(guest_id)
            made.guestId, made.guestFullName = guest_id, full_name(guest_id)
            made.guestFamily = f"{family}Guest" if family != "other" else "otherGuestFamily"
            made.hostName = self.settings["hostname"] or file_name(self.vm.name)
            made.net = nic_infos(self.vm)
            made.ipAddress = next((ip for nic in made.net for ip in nic.ipAddress), None)
            made.ipStack = ip_stack(self.vm, made.hostName)
        if installed:
            made.customizationInfo = customization.customization_info(self.vm)
        return made

    def state(self) -> str:
        if not self.on:
            return "notRunning"
        if self.vm.shutting_down:
            return "shuttingDown"
        return "running" if self.tools_running else "unknown"

    def heartbeat(self) -> str:
        if not self.tools_running:
            return "gray"
        return "yellow" if self.vm.shutting_down else "green"

    # -- power ------------------------------------------------------------------------------

    def require_tools(self) -> None:
        """Raises InvalidPowerState or ToolsUnavailable where Tools do not run."""
        if not self.on:
            raise invalid_power_state(self.vm.power, "poweredOn")
        if not self.tools_running:
            raise fault(
                vim.fault.ToolsUnavailable,
                "Cannot complete operation because VMware Tools is not running in this virtual "
                "machine.",
            )

    def shut_down(self) -> None:
        """Asks the guest to shut down. Returns at once; the VM goes off later, or never."""
        self.require_tools()
        self.vm.shutting_down = True
        self.continue_shutdown()

    def continue_shutdown(self) -> None:
        """Starts the time that the shutdown takes, also after a restart of the lab."""
        if self.settings["shutdown"] != "works":
            return
        boot = self.vm.boot_time
        timer = threading.Timer(float(self.settings["shutdown_s"]), self._off, (boot,))
        timer.daemon = True
        timer.start()

    def _off(self, boot: Any) -> None:
        vm = self.vm
        if vm.power == "poweredOn" and vm.shutting_down and vm.boot_time == boot:
            self._report("stop")
            vm.halt(clean=True)
            vm._site.flush()

    def started(self) -> None:
        self._report("start")
        customization.start_customization(self.vm)
        record_conflicts(self.vm)

    def stopped(self) -> None:
        """The power was cut: the memory of the guest is lost."""
        self.vm.shutting_down = False
        self._report("lost")

    # -- quiescing --------------------------------------------------------------------------

    def can_quiesce(self) -> bool:
        """Whether Tools run. Otherwise quiescing is skipped without a fault, as on ESXi."""
        return self.tools_running

    def freeze(self, spec: Any) -> dict[str, str]:
        """Flushes and holds the I/O of the guest. Returns the documents that VSS writes.

        Raises ApplicationQuiesceFault, FilesystemQuiesceFault.
        """
        how = self.settings["quiesce"]
        if how == "applicationFault":
            raise fault(
                vim.fault.ApplicationQuiesceFault,
                "An error occurred while quiescing the virtual machine: the pre-freeze script or "
                "a VSS writer failed.",
            )
        if how == "filesystemFault":
            raise fault(
                vim.fault.FilesystemQuiesceFault,
                "An error occurred while quiescing the virtual machine: I/O could not be held.",
            )
        # Root elements as VSS writes them (VssComponentMetadata, VssWriterMetadataInfo).
        documents = {"BCD.xml": "<BACKUP_COMPONENTS/>"}
        # Applications first, through VSS or the freeze scripts; then the file systems.
        applications = how == "works"
        if self.files.windows and applications:
            documents["writer0.xml"] = _WRITER.format("System Writer")
            documents["writer1.xml"] = _WRITER.format("SqlServerWriter")
        elif applications:
            applications = self._run_scripts("freeze")
        self._frozen = True
        try:
            if applications:
                self._report("freeze")
            self._report("sync")
        except BaseException:
            self.thaw()
            raise
        return documents

    def thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            self._report("thaw")
            if not self.files.windows:
                self._run_scripts("thaw")

    def _run_scripts(self, phase: str) -> bool:
        """Runs the freeze scripts: in order to freeze, else in reverse. False: there are none.

        Raises ApplicationQuiesceFault where one fails to freeze; then all get `freezeFail`.
        """
        folder = self.files.path(SCRIPTS)
        found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        for name in found if phase == "freeze" else reversed(found):
            code = self.files.run(f"{SCRIPTS}/{name}", phase, _SCRIPT_S)
            if code and phase == "freeze":
                self._run_scripts("freezeFail")
                raise fault(
                    vim.fault.ApplicationQuiesceFault,
                    f"The guest OS has reported an error during quiescing: {name} failed ({code}).",
                )
        return bool(found)

    def _report(self, event: str) -> None:
        if event in ("stop", "lost"):
            self.files.end()
        if self.on_event is not None:
            self.on_event(event)
