"""Finds VMs with few and small answers, however many the vCenter has.

    instance UUID        FindByUuid                          one object
    name, path           the folders, then FindChild in each that may hold it
                         (more than FEW_FOLDERS: one read of all names, and of nothing else)
    moref                one object
    mark in extraConfig  options of every VM with a snapshot: only where nothing else is known

A name may be written as vSphere Client shows it (`team/web01`) or as the API does (`team%2fweb01`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from vreplica.vsphere.connection.collector import FoundObject, Properties, Steps, read, read_one
from vreplica.vsphere.connection.look import once
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.errors import AmbiguousVm, ObjectGone, VmNotFound
from vreplica.vsphere.inventory.tree import (
    NAMED,
    InventoryTree,
    read_vm_tree,
    similar,
    steps_in_vapps,
    steps_to_vms,
)
from vreplica.vsphere.model import VmRef
from vreplica.vsphere.names import escape, same_name, unescape

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

FEW_FOLDERS: Final = 24
"""Up to this many folders are asked one by one (about 0.5 KB and 2 ms each); the names of 5,000
VMs are 1 MB."""

NAMED_VM: Final = (*NAMED, "parentVApp")

MOREF: Final = re.compile(r"(vm-)?\d+")
"""vCenter's ids of VMs, and those of a single ESXi host."""

UUID: Final = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


def find_vm(link: ServerLink, ref: str) -> VmRef:
    """Finds a VM by name, inventory path, moref or instance UUID.

    Raises VmNotFound with similar names, or AmbiguousVm with the paths to choose from.
    """
    found = look_up_vm(link, ref)
    if found is None:
        names = (unescape(f.get("name") or f.moref) for f in _all_names(link))
        raise VmNotFound(link.endpoint.host, ref, similar(ref.strip(), names))
    return found


def look_up_vm(link: ServerLink, ref: str) -> VmRef | None:
    """As `find_vm`; None where there is none. Raises AmbiguousVm."""
    wanted = ref.strip()
    if not wanted:
        return None
    if UUID.fullmatch(wanted) and (found := find_by_uuid(link, wanted)) is not None:
        return found
    folders = _read_folders(link)
    hits = _children(link, wanted, [f for f in folders.objects.values() if _holds_vms(f)])
    if not hits and MOREF.fullmatch(wanted):
        hits = _by_moref(link, wanted)
    for name, parents in _splits(folders, wanted) if not hits else ():
        hits = _children(link, name, parents)
        if hits:
            break
    if len(hits) > 1:
        choices = tuple(f"{_path(folders, f)} ({f.moref})" for f in hits)
        raise AmbiguousVm(link.endpoint.host, ref, choices)
    return _ref(hits[0]) if hits else None


def find_by_uuid(link: ServerLink, uuid: str) -> VmRef | None:
    """Finds a VM by its instance UUID."""
    method = link.content.searchIndex.FindByUuid
    # VMs, not hosts; the instance UUID, not that of the BIOS.
    arguments = (None, uuid.lower(), True, True)
    operation = "finding the VM by its instance UUID"
    found = link.ask(operation, method, *arguments, expects_answer=False)
    hits = [] if found is None else _by_moref(link, moref(found))
    return _ref(hits[0]) if hits else None


def find_marked(link: ServerLink, options: Mapping[str, str]) -> tuple[VmRef, ...]:
    """Finds the VMs with a snapshot whose extraConfig has all these values.

    A first read goes through all VMs, but its answer names only the snapshots at the roots of
    their trees; a second one reads the options of the VMs that have one.
    """
    wanted = {f'config.extraConfig["{key}"]': value for key, value in options.items()}

    def reading() -> list[FoundObject]:
        roots = _root_snapshots(link)
        vms = list(
            {moref(vm): vm for vm in (f.get("vm") for f in roots) if vm is not None}.values()
        )
        return _vms_below(link, vms, (), ("name", *wanted)) if vms else []

    found = once(link.look, ("marks", *wanted), reading)
    return tuple(
        _ref(f)
        for f in found
        if all(getattr(f.get(path), "value", None) == value for path, value in wanted.items())
    )


def _root_snapshots(link: ServerLink) -> list[FoundObject]:
    """Reads the first snapshot of every VM that has one, with its VM."""
    properties: Properties = {vim.vm.Snapshot: ("vm",), vim.VirtualApp: NAMED}
    steps = (*steps_to_vms(), (vim.VirtualMachine, "rootSnapshot"))
    operation, root = "finding VMs with snapshots", link.content.rootFolder
    found = read(link, operation, [root], properties, steps)
    apps = [f.managed for f in found if isinstance(f.managed, vim.VirtualApp)]
    if apps:
        inside = (*steps_in_vapps(), (vim.VirtualMachine, "rootSnapshot"))
        found += read(link, operation, apps, properties, inside)
    return [f for f in found if isinstance(f.managed, vim.vm.Snapshot)]


def _ref(found: FoundObject) -> VmRef:
    return VmRef(found.moref, unescape(found.get("name") or found.moref))


def _by_moref(link: ServerLink, wanted: str) -> list[FoundObject]:
    """Reads the VM with this id; empty where there is none."""
    managed = link.managed(vim.VirtualMachine, wanted)
    try:
        return [read_one(link, "finding the VM", managed, NAMED_VM)]
    except ObjectGone:
        return []


# -- by name --------------------------------------------------------------------------------


def _read_folders(link: ServerLink) -> InventoryTree:
    """Reads datacenters, VM folders and vApps with their names."""
    properties: Properties = {
        vim.Folder: (*NAMED, "childType"),
        vim.Datacenter: NAMED,
    }

    def reading() -> InventoryTree:
        return InventoryTree.of(read_vm_tree(link, "reading the VM folders", properties))

    return once(link.look, "VM folders", reading)


def _holds_vms(found: FoundObject) -> bool:
    kinds = {getattr(k, "__name__", str(k)) for k in found.get("childType") or []}
    is_folder = "VirtualMachine" in {kind.rpartition(".")[2] for kind in kinds}
    return is_folder or isinstance(found.managed, vim.VirtualApp)


def _splits(folders: InventoryTree, path: str) -> Iterator[tuple[str, list[FoundObject]]]:
    """Yields (name, folders that may hold it) of a path. A name may have slashes in it.

    The path may leave out the folder `vm` of the datacenter.
    """
    parts = path.strip("/").split("/")
    steps = {key: folders.path(f).split("/") for key, f in folders.objects.items()}
    for at in range(len(parts) - 1, 0, -1):
        above = "/".join(unescape(part) for part in parts[:at])
        fitting = [
            folder
            for key, folder in folders.objects.items()
            if _holds_vms(folder)
            and above in ("/".join(steps[key]), "/".join(steps[key][:1] + steps[key][2:]))
        ]
        if fitting:
            yield "/".join(parts[at:]), fitting


def _children(link: ServerLink, name: str, parents: Sequence[FoundObject]) -> list[FoundObject]:
    """Returns the VMs of this name directly below these folders and vApps."""
    wanted = escape(name)
    apps = [f for f in parents if isinstance(f.managed, vim.VirtualApp)]
    plain = [f for f in parents if not isinstance(f.managed, vim.VirtualApp)]
    if len(plain) > FEW_FOLDERS:
        named = [f.managed for f in _all_names(link) if same_name(f.get("name") or "", wanted)]
        here = {f.moref for f in parents}
        found = _vms_below(link, named, (), NAMED_VM) if named else []
        return [f for f in found if moref(f.get("parent") or f.get("parentVApp")) in here]
    hits: list[FoundObject] = []
    find = link.content.searchIndex.FindChild
    for folder in plain:
        operation = "finding the VM in its folder"
        child = link.ask(operation, find, folder.managed, wanted, expects_answer=False)
        if isinstance(child, vim.VirtualMachine):
            hits.append(FoundObject(child, {"name": wanted, "parent": folder.managed}))
    if apps:
        roots, steps = [f.managed for f in apps], ((vim.VirtualApp, "vm"),)
        inside = _vms_below(link, roots, steps, NAMED_VM)
        hits += [f for f in inside if same_name(f.get("name") or "", wanted)]
    return hits


def _all_names(link: ServerLink) -> list[FoundObject]:
    return once(link.look, "VM names", lambda: _all_vms(link, ("name",)))


def _all_vms(link: ServerLink, properties: Sequence[str]) -> list[FoundObject]:
    found = read_vm_tree(link, "finding the VM", {vim.VirtualMachine: properties})
    return [f for f in found if isinstance(f.managed, vim.VirtualMachine)]


def _vms_below(
    link: ServerLink, roots: Sequence[Any], steps: Steps, properties: Sequence[str]
) -> list[FoundObject]:
    return read(link, "finding the VM", roots, {vim.VirtualMachine: properties}, steps)


def _path(folders: InventoryTree, found: FoundObject) -> str:
    return InventoryTree({**folders.objects, found.moref: found}).path(found)
