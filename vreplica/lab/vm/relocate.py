"""Storage vMotion: a VM's home and its disks on another datastore, under the same names.

    [ds1] web/web.vmx .vmsd ...     [ds2] web/web.vmx ...             (web_1 where web is taken)
          web/web.vmdk         -->        web/web.vmdk
          web/web-000001.vmdk             web/web-000001.vmdk

    plan --> copy links with their maps, re-chain --> copy the home --> state --> delete the old

What is copied is noted before it is made and what is left before the state lets go of it
(vreplica.lab.vm.orphan_files), so a kill leaves the VM whole in one of the two places and nothing
in the other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.vmodl import fault, invalid_argument, vim
from vreplica.lab.storage.paths import split
from vreplica.lab.vm.files import copy_home, write_vmx


@dataclass
class Move:
    """Old name -> new name, of datastore paths."""

    home: tuple[str, str]
    """The .vmx; both are the same where it stays."""
    links: dict[str, str] = field(default_factory=dict)
    """Parents before their children."""


def plan(vm: Any, store: str | None, apart: dict[int, str]) -> Move:
    """Where everything goes: to `store` (None: nowhere), and the disks in `apart` as it says.

    A link that stands on one that moves is moved with it. Raises InvalidArgument for a disk that
    the VM does not have, InvalidState for disks of a VM with snapshots that would part.
    """
    disks = vm._site.disks
    vmx = vm.config.files.vmPathName
    folders: dict[tuple[str, str], str] = {}

    def goes(path: str, target: str) -> str:
        """A folder goes as a whole; two that have the same name do not become one."""
        folder, _, name = path.rpartition("/")
        if (folder, target) not in folders:
            taken = set(folders.values())
            folders[folder, target] = disks.free_folder(target, split(folder)[1], taken)
        return f"{folders[folder, target]}/{name}"

    home = goes(vmx, store) if store is not None and split(vmx)[0] != store else vmx
    move = Move(home=(vmx, home))
    if not apart.keys() <= {d.key for d in vm.disks()}:
        raise invalid_argument("spec.disk.diskId")
    if vm.all_snapshots() and set(apart.values()) - {store or split(vmx)[0]}:
        raise fault(vim.fault.InvalidState, "Disks of a VM with snapshots move together.")
    for config in (vm.config, *(s.config for s in vm.all_snapshots())):
        for disk in hardware.disks_of(config):
            target, moves = apart.get(disk.key, store), False
            if target is None:
                continue
            for link in reversed(list(vm.chains.ancestry(disk.backing.fileName))):
                moves = moves or split(link)[0] != target
                if moves:
                    move.links[link] = goes(link, target)
    return move


def relocate(vm: Any, move: Move) -> Iterator[int]:
    """Carry it out; the VM is stunned meanwhile.

    Tracking goes on with the same changeIds, as vSphere has kept them since 6.0 where it could;
    a client has to compare the uuid in any case.
    """
    site, chains, moved = vm._site, vm.chains, move.links
    old_vmx, new_vmx = move.home
    with chains.lock:
        foreign = chains.foreign()
        running = bool(chains.leaves)
        chains.close_leaves()
        try:
            for old in moved.keys() - foreign:
                site.disks.check_unlocked(old)
            for number, (old, new) in enumerate(moved.items()):
                site.disks.copy_link(old, new)
                below = moved.get(vm.links.get(old, ""))
                if below and below.rpartition("/")[0] != new.rpartition("/")[0]:
                    # The child names a parent elsewhere by its whole path.
                    site.disks.attach(below, new)
                yield 10 + 80 * number // len(moved)
            gone = [old for old in moved if old not in foreign]
            if new_vmx != old_vmx:
                site.orphan_files.making(new_vmx)
                copy_home(site.disks.path(old_vmx), site.disks.path(new_vmx))
                gone.append(old_vmx)
            site.orphan_files.leaving(gone)
            links = {moved.get(k, k): moved.get(v, v) for k, v in vm.links.items()}
            with site.changed:
                vm.set(config=_moved(vm, vm.config, links, move), links=links)
                for snapshot in vm.all_snapshots():
                    snapshot.config = _moved(vm, snapshot.config, links, move)
            write_vmx(vm)
            site.flush()
            site.orphan_files.sweep(gone)
        finally:
            if running:
                chains.open_leaves()


def _moved(vm: Any, config: Any, links: dict[str, str], move: Move) -> Any:
    made = vm.chains.rebase(config, links, move.links)
    made.files = copy.copy(made.files)
    folders = [path.rpartition("/")[0] + "/" for path in move.home]
    for info in made.files._GetPropertyList():
        place = getattr(made.files, info.name)
        if isinstance(place, str) and place.startswith(folders[0]):
            setattr(made.files, info.name, folders[1] + place.removeprefix(folders[0]))
    return made
