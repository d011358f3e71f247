"""The disk chains of one VM: open leaves, new links for snapshots, consolidation.

    vm.links      {"[ds] vm/vm.vmdk": "", "[ds] vm/vm-000001.vmdk": "[ds] vm/vm.vmdk", ...}
    needed        leaves, which the VM writes to, and links that a snapshot refers to

        base <- d1 <- d2 (leaf)        snapshot S1 refers to base, S2 to d1
    S1 is removed: base is not needed and has one child:   merge(base, d1);  S2 -> base
        base <- d2 (leaf)              S2 refers to base

A link that is not needed and has no child is deleted. With one child, it takes the child's
content. With several, it stays. The work follows from the state alone, so after a kill
`consolidate` only has to run again; `collapse_due` in the state says that it has to.

While the VM runs, its leaves are open for writing and thereby locked. Every write marks the change
map before it reaches the disk.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vreplica.disk import check_request
from vreplica.lab import hardware
from vreplica.lab.api.vmodl import MethodFault, fault, vim
from vreplica.lab.context import VmContext
from vreplica.lab.storage.change_map import ChangeMap, UntrackedDisk, ctk_path
from vreplica.lab.storage.paths import split_path
from vreplica.units import MIB
from vreplica.vddk.handle import DiskHandle

DEPTH_MAX = 32
"""Links in a chain (vSphere: 32 snapshots at most)."""

_DELTA_ROOM = MIB
"""Bytes that a new link takes on its datastore."""

_FLAT: Any = vim.vm.device.VirtualDisk.FlatVer2BackingInfo


@dataclass
class Leaf:
    """The top link of a disk, open for the writes of a running VM."""

    handle: DiskHandle
    changes: ChangeMap | None


def takes_snapshots(disk: Any) -> bool:
    """False for independent disks and raw mappings."""
    return isinstance(disk.backing, _FLAT) and "independent" not in disk.backing.diskMode


def trackable(disk: Any) -> bool:
    """False for independent disks, shared disks and raw mappings."""
    sharing = getattr(disk.backing, "sharing", None)
    return takes_snapshots(disk) and sharing != "sharingMultiWriter"


class DiskChains:
    """The chains of one VM. `lock` is held while disks or configuration change."""

    def __init__(self, vm: VmContext) -> None:
        self.vm = vm
        self.lock = threading.RLock()
        self.leaves: dict[int, Leaf] = {}

    @property
    def disks(self) -> Any:
        return self.vm._site.disks

    def change_map(self, link: str) -> ChangeMap | None:
        try:
            return ChangeMap(ctk_path(self.disks.path(link)))
        except UntrackedDisk:
            return None

    # -- running VM -------------------------------------------------------------------------

    def open_leaves(self) -> None:
        """Opens the disks for writing, as a power-on does. Raises FileLocked where one is open."""
        with self.lock:
            try:
                for disk in hardware.disks_of(self.vm.config):
                    path = disk.backing.fileName
                    handle = self.disks.open(path, read_only=False)
                    self.leaves[disk.key] = Leaf(handle, self.change_map(path))
            except BaseException:
                self.close_leaves()
                raise

    def close_leaves(self) -> None:
        with self.lock:
            leaves, self.leaves = self.leaves, {}
            for leaf in leaves.values():
                leaf.handle.close()

    def write(self, key: int, offset: int, data: memoryview) -> None:
        """Writes as the guest does: tracked. Raises ValueError where the VM does not run."""
        with self.lock:
            leaf = self.leaf(key)
            check_request(offset, data.nbytes, leaf.handle.capacity_bytes)
            if leaf.changes is not None:
                leaf.changes.mark(offset, data.nbytes)
            path = hardware.find_device(self.vm.config.hardware.device, key).backing.fileName
            self.disks.require_room(path, offset, data.nbytes)
            with self.disks.as_vsphere_faults(path):
                leaf.handle.write_from(offset, data)

    def read(self, key: int, offset: int, size: int) -> bytearray:
        with self.lock:
            buffer = bytearray(size)
            handle = self.leaf(key).handle
            check_request(offset, size, handle.capacity_bytes)
            handle.read_into(offset, memoryview(buffer))
            return buffer

    def flush(self) -> None:
        with self.lock:
            for leaf in self.leaves.values():
                leaf.handle.flush()

    def leaf(self, key: int) -> Leaf:
        if key not in self.leaves:
            raise ValueError(f"{self.vm.name} does not run or has no disk {key}")
        return self.leaves[key]

    def while_stunned(self, work: Callable[[], Any]) -> Any:
        """Runs `work` while the leaves are closed, and opens them again: a stun."""
        with self.lock:
            running = bool(self.leaves)
            self.close_leaves()
            try:
                return work()
            finally:
                if running and self.vm.power == "poweredOn":
                    self.open_leaves()

    # -- change tracking --------------------------------------------------------------------

    def update_tracking(self, config: Any) -> bool:
        """Makes maps match `changeTrackingEnabled`, and puts the changeIds into `config`.

        Runs where ESXi stuns a VM; for one that is off, at once. Returns whether a changeId is
        another one than before.
        """
        before = [getattr(d.backing, "changeId", None) for d in hardware.disks_of(config)]
        for disk in hardware.disks_of(config):
            path = disk.backing.fileName
            changes = self.change_map(path)
            if config.changeTrackingEnabled and trackable(disk):
                if changes is None:
                    changes = ChangeMap.create(
                        ctk_path(self.disks.path(path)),
                        disk.capacityInBytes,
                        self.disks.allocated(path),
                    )
                disk.backing.changeId = changes.change_id
            elif isinstance(disk.backing, _FLAT):
                if changes is not None:
                    ctk_path(self.disks.path(path)).unlink(missing_ok=True)
                disk.backing.changeId = None
        after = [getattr(d.backing, "changeId", None) for d in hardware.disks_of(config)]
        return after != before

    def apply_tracking(self) -> None:
        """Activates or drops change tracking, as ESXi does when it stuns the VM."""

        def work() -> None:
            config = copy.deepcopy(self.vm.config)
            if self.update_tracking(config):
                self.vm.config = config

        self.while_stunned(work)

    # -- links ------------------------------------------------------------------------------

    def read_chain(self, path: str) -> dict[str, str]:
        """The links of a disk that is new to the VM, read from their descriptors."""
        links: dict[str, str] = {}
        while path and path not in links:
            with self.disks.open(path, single_link=True) as disk:
                hint = disk.info.parent_hint
            links[path] = self.disks.parent_of(path, hint) if hint else ""
            path = links[path]
        return links

    def depth(self, path: str) -> int:
        return sum(1 for _ in self.ancestry(path))

    def ancestry(self, path: str) -> Iterator[str]:
        """A link and all links below it."""
        while path:
            yield path
            path = self.vm.links.get(path, "")

    def with_moved_links(self, config: Any, links: dict[str, str], moved: dict[str, str]) -> Any:
        """A copy of `config` with the new names of moved links. Frozen changeIds stay."""
        made = copy.deepcopy(config)
        for disk in hardware.disks_of(made):
            if isinstance(disk.backing, _FLAT):
                path = moved.get(disk.backing.fileName, disk.backing.fileName)
                self.set_backing(disk.backing, path, links)
        return made

    def describe_parents(self, config: Any, links: dict[str, str]) -> None:
        """Shows the links below disks that were attached or made as the child of another disk."""
        for disk in hardware.disks_of(config):
            path = disk.backing.fileName
            if isinstance(disk.backing, _FLAT) and links.get(path) and not disk.backing.parent:
                self.set_backing(disk.backing, path, links)

    def set_backing(self, backing: Any, path: str, links: dict[str, str]) -> None:
        """Makes a backing describe the link `path` and the links below it."""
        site = self.vm._site
        backing.fileName, backing.datastore = path, site.datastore(split_path(path)[0])
        below = links.get(path, "")
        backing.parent = None
        backing.deltaDiskFormat = "redoLogFormat" if below else None
        if below:
            backing.parent = _FLAT(
                diskMode="persistent", uuid=backing.uuid, thinProvisioned=backing.thinProvisioned
            )
            self.set_backing(backing.parent, below, links)

    def add_links(self, config: Any, *, new_generation: bool = False) -> tuple[Any, dict[str, str]]:
        """Makes new leaves on top of the disks of `config`: (config with them, all links).

        The files are made; the state of the VM is not changed.
        """
        made, links = copy.deepcopy(config), dict(self.vm.links)
        created: list[str] = []
        try:
            for disk in filter(takes_snapshots, hardware.disks_of(made)):
                below = disk.backing.fileName
                if self.depth(below) >= DEPTH_MAX:
                    raise fault(
                        vim.fault.TooManySnapshotLevels,
                        f"Too many levels of redo logs. More than {DEPTH_MAX} are not allowed.",
                    )
                child = self.disks.next_link_name(below)
                self.disks.require_space(child, _DELTA_ROOM)
                self.disks.create_child(below, child)
                created.append(child)
                changes = self.change_map(below)
                if changes is not None:
                    path = ctk_path(self.disks.path(child))
                    changes.freeze_into(path, new_generation=new_generation)
                    disk.backing.changeId = ChangeMap(path).change_id
                links[child] = below
                self.set_backing(disk.backing, child, links)
        except BaseException:
            for child in created:
                self.disks.unlink(child)
            raise
        return made, links

    # -- consolidation ----------------------------------------------------------------------

    def needed_links(self) -> set[str]:
        configs = [self.vm.config, *(s.config for s in self.vm.all_snapshots())]
        return {d.backing.fileName for c in configs for d in hardware.disks_of(c)}

    def consolidate(self) -> Iterator[int]:
        """Deletes and merges links until only needed ones are left. Yields after each step.

        Raises FileLocked where a link is open elsewhere; then the VM needs consolidation.
        """
        with self.lock:
            running = bool(self.leaves)
            self.close_leaves()
            try:
                self.vm._site.faults.before_consolidation(self.vm)
                while self._consolidate_step():
                    yield 50
                self.vm.set(collapse_due=False, consolidation_needed=False)
            except MethodFault:
                self.vm.set(collapse_due=False, consolidation_needed=True)
                raise
            finally:
                if running:
                    self.open_leaves()
                self.vm._site.flush()

    def shared_links(self) -> set[str]:
        """Links that other VMs have as well: those of linked clones."""
        others = (v for v in self.vm._site.vms() if v is not self.vm)
        mine = self.vm.links.keys()
        return {link for other in others for link in other.links.keys() & mine}

    def _consolidate_step(self) -> bool:
        vm, needed, foreign = self.vm, self.needed_links(), self.shared_links()
        for link in list(vm.links):
            if link in needed or link in foreign:
                continue
            children = [c for c, parent in vm.links.items() if parent == link]
            self.require_unread(link, *children)
            if not children:
                vm._site.orphan_files.note_removed([link])
                vm.links = {k: v for k, v in vm.links.items() if k != link}
                vm._site.flush()
                self.disks.unlink(link)
                return True
            if len(children) == 1 and children[0] not in foreign:
                self.merge(link, children[0])
                return True
        return False

    def require_unread(self, *links: str) -> None:
        """Raises FileLocked where a client reads a link and the site is set to notice it."""
        site = self.vm._site
        if site.settings.merge_under_reader:
            return
        for link in links:
            if site.host_servers.is_read(link):
                text = f"Unable to access file {link} since it is locked"
                raise fault(vim.fault.FileLocked, text, file=link)

    def merge(self, link: str, child: str) -> None:
        vm = self.vm
        above = [c for c, parent in vm.links.items() if parent == child]
        self.disks.check_unlocked(child)
        self.disks.merge(link, child, above)
        vm._site.orphan_files.note_removed([child])
        moved = {child: link}
        links = {k: moved.get(v, v) for k, v in vm.links.items() if k != child}
        with vm._site.changed:
            vm.set(links=links, config=self.with_moved_links(vm.config, links, moved))
            for snapshot in vm.all_snapshots():
                snapshot.config = self.with_moved_links(snapshot.config, links, moved)
        vm._site.flush()
        self.disks.unlink(child)
