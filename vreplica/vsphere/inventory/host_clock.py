"""Compares the clock of a VM's host with vCenter's: a host gives snapshots their times."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from vreplica.errors import VSphereError
from vreplica.vsphere.connection.collector import read
from vreplica.vsphere.connection.vmomi import utc, vim
from vreplica.vsphere.model import VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

CLOCK: Final = "configManager.dateTimeSystem"


def clock_ahead(link: ServerLink, vm: VmRef) -> timedelta:
    """How far the clock of the VM's host is ahead of the server's; 0 where nobody can say."""
    root, operation = link.managed(vim.VirtualMachine, vm.moref), "asking for the host's time"
    to_host = ((vim.VirtualMachine, "runtime.host"),)
    with suppress(VSphereError):
        for host in read(link, operation, [root], {vim.HostSystem: (CLOCK,)}, to_host, vm=vm.name):
            if (system := host.get(CLOCK)) is not None:
                here = link.managed(vim.ServiceInstance, "ServiceInstance")
                told = utc(link.ask(operation, system.QueryDateTime))
                return told - utc(link.ask(operation, here.CurrentTime))
    return timedelta(0)
