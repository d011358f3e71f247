"""Moves the home and the disks of a VM to another datastore, as Storage vMotion does.

    [ds1] web/web.vmx .vmsd ...     [ds2] web/web.vmx ...             (web_1 where web is taken)
          web/web.vmdk         -->        web/web.vmdk
          web/web-000001.vmdk             web/web-000001.vmdk

    plan_move --> copy links and maps, set parents --> copy the home --> state --> delete the old

Both the new and the old files are noted (vreplica.lab.vm.orphan_files), so a kill leaves the VM
whole in one of the two places and nothing in the other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.vmodl import fault, invalid_argument, vim
from vreplica.lab.storage.paths import split_path
from vreplica.lab.vm.files import copy_home, write_vmx


@dataclass
class MovePlan:
    """The datastore paths of a VM's files before and after a move."""

    home: tuple[str, str]
    """(old, new) path of the .vmx. Both are the same if it stays."""
    links: dict[str, str] = field(default_factory=dict)
    """Old path -> new path of each link that moves, parents before their children."""


def plan_move(vm: Any, store: str | None, apart: dict[int, str]) -> MovePlan:
    """Plans a move to the datastore `store` (None: only the disks in `apart` move).

    `apart`: key of a disk -> its datastore. A link moves together with the links below it. Raises
    InvalidArgument for a disk that the VM does not have, InvalidState where disks of a VM with
    snapshots would go to different datastores.
    """
    disks = vm._site.disks
    vmx = vm.config.files.vmPathName
    folders: dict[tuple[str, str], str] = {}

    def new_path(path: str, target: str) -> str:
        """The new path of a file. Two folders with one name stay two folders."""
        folder, _, name = path.rpartition("/")
        if (folder, target) not in folders:
            taken = set(folders.values())
            folders[folder, target] = disks.free_folder(target, split_path(folder)[1], taken)
        return f"{folders[folder, target]}/{name}"

    home = new_path(vmx, store) if store is not None and split_path(vmx)[0] != store else vmx
    move = MovePlan(home=(vmx, home))
    if not apart.keys() <= {d.key for d in vm.disks()}:
        raise invalid_argument("spec.disk.diskId")
    if vm.all_snapshots() and set(apart.values()) - {store or split_path(vmx)[0]}:
        raise fault(vim.fault.InvalidState, "Disks of a VM with snapshots move together.")
    for config in (vm.config, *(s.config for s in vm.all_snapshots())):
        for disk in hardware.disks_of(config):
            target, moves = apart.get(disk.key, store), False
            if target is None:
                continue
            for link in reversed(list(vm.chains.ancestry(disk.backing.fileName))):
                moves = moves or split_path(link)[0] != target
                if moves:
                    move.links[link] = new_path(link, target)
    return move


def move_files(vm: Any, move: MovePlan) -> Iterator[int]:
    """Carries out a move while the VM is stunned.

    changeIds stay, as in vSphere since 6.0 where possible. A client has to compare the uuid in any
    case.
    """
    site, chains, moved = vm._site, vm.chains, move.links
    old_vmx, new_vmx = move.home
    with chains.lock:
        foreign = chains.shared_links()
        running = bool(chains.leaves)
        chains.close_leaves()
        try:
            for old in moved.keys() - foreign:
                site.disks.check_unlocked(old)
            for number, (old, new) in enumerate(moved.items()):
                site.disks.copy_link(old, new)
                below = moved.get(vm.links.get(old, ""))
                if below and below.rpartition("/")[0] != new.rpartition("/")[0]:
                    # A parent in another folder is named by its whole path.
                    site.disks.set_parent(below, new)
                yield 10 + 80 * number // len(moved)
            gone = [old for old in moved if old not in foreign]
            if new_vmx != old_vmx:
                site.orphan_files.note_new(new_vmx)
                copy_home(site.disks.path(old_vmx), site.disks.path(new_vmx))
                gone.append(old_vmx)
            site.orphan_files.note_removed(gone)
            links = {moved.get(k, k): moved.get(v, v) for k, v in vm.links.items()}
            with site.changed:
                vm.set(config=_moved_config(vm, vm.config, links, move), links=links)
                for snapshot in vm.all_snapshots():
                    snapshot.config = _moved_config(vm, snapshot.config, links, move)
            write_vmx(vm)
            site.flush()
            site.orphan_files.remove_unowned(gone)
        finally:
            if running:
                chains.open_leaves()


def _moved_config(vm: Any, config: Any, links: dict[str, str], move: MovePlan) -> Any:
    made = vm.chains.with_moved_links(config, links, move.links)
    made.files = copy.copy(made.files)
    folders = [path.rpartition("/")[0] + "/" for path in move.home]
    for info in made.files._GetPropertyList():
        place = getattr(made.files, info.name)
        if isinstance(place, str) and place.startswith(folders[0]):
            setattr(made.files, info.name, folders[1] + place.removeprefix(folders[0]))
    return made
