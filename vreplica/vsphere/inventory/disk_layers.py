"""Measures the files of a VM's disks by their layers, as the server lists them (layoutEx).

    base ── point 1 ── point 2 ── leaf        disk.chain, base first
                       frozen     `--------> the bytes above it

vSphere API, VirtualMachineFileLayoutEx: sizes are of a moment that the server chooses, so it is
asked to measure first (RefreshStorageInfo).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vreplica.vsphere.connection.collector import read_one
from vreplica.vsphere.connection.vmomi import vim
from vreplica.vsphere.model import VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink


def bytes_above(link: ServerLink, vm: VmRef, frozen: Mapping[int, str]) -> int | None:
    """As `Session.disk_files_above`."""
    managed = link.managed(vim.VirtualMachine, vm.moref)
    measure = managed.RefreshStorageInfo
    link.ask("measuring the VM's files", measure, vm=vm.name, expects_answer=False)
    layout = read_one(link, "reading the VM's files", managed, ("layoutEx",), vm=vm.name).get(
        "layoutEx"
    )
    if layout is None:
        return None
    files = {file.key: file for file in layout.file}
    chains = {disk.key: disk.chain for disk in layout.disk}
    total = 0
    for key, path in frozen.items():
        above = _above(chains.get(key, ()), files, path)
        if above is None:
            return None
        total += sum(int(file.size) for file in above)
    return total


def _above(chain: Any, files: Mapping[int, Any], path: str) -> list[Any] | None:
    """The files of the links behind the one that has `path`; None where none has it."""
    links = [[files[key] for key in link.fileKey if key in files] for link in chain]
    for number, link in enumerate(links):
        if any(file.name == path for file in link):
            return [file for above in links[number + 1 :] for file in above]
    return None
