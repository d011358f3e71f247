"""Reads, writes and deletes small files in a VM's folder, over the server's /folder.

NVRAM is such a file: `nvram` in extraConfig names it, beside the .vmx. Hosts lock that of a running
VM (sources disagree for some versions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from vreplica.units import MIB
from vreplica.vsphere.errors import FileRefused
from vreplica.vsphere.inventory.tree import datacenter_of
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.names import split_path

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

FILE_MAX: Final = 4 * MIB
"""NVRAM has 8 KB (BIOS) or about 270 KB (EFI)."""


def read(link: ServerLink, vm: VmRef, path: str) -> bytes | None:
    """Returns a file's content; None where there is none. Raises FileRefused.

    path: `[ds1] web/web.nvram`.
    """
    status, data = _transfer(link, vm, "GET", path)
    if status == 404:
        return None
    if status != 200 or len(data) > FILE_MAX:
        raise _refused(vm, f"reading {path}", status)
    return data


def write(link: ServerLink, vm: VmRef, path: str, data: bytes) -> None:
    """Replaces a file. Raises FileRefused."""
    status, _ = _transfer(link, vm, "PUT", path, data)
    if status not in (200, 201, 204):
        raise _refused(vm, f"writing {path}", status)


def delete(link: ServerLink, vm: VmRef, path: str) -> None:
    """Deletes a file; one that is not there is a success. Raises FileRefused."""
    status, _ = _transfer(link, vm, "DELETE", path)
    if status not in (200, 202, 204, 404):
        raise _refused(vm, f"deleting {path}", status)


def _transfer(
    link: ServerLink, vm: VmRef, method: str, path: str, data: bytes | None = None
) -> tuple[int, bytes]:
    datastore, file = split_path(path)
    here = datacenter_of(link, vm)
    query = {"dsName": datastore, "dcPath": here[1] if here else ""}
    url = f"/folder/{quote(file)}?{urlencode(query, quote_via=quote)}"
    return link.transfer(f"{method} {path}", method, url, FILE_MAX + 1, data)


def _refused(vm: VmRef, operation: str, status: int) -> FileRefused:
    return FileRefused(operation, status).at(vm=vm.name)
