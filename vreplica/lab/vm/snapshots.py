"""Snapshots of a VM: creating them as new links, removing them, reverting to them."""

from __future__ import annotations

import copy
import time
import zipfile
from collections.abc import Generator, Iterator
from datetime import datetime
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.managed import Managed, live
from vreplica.lab.api.vmodl import fault, invalid_argument, vim, vmodl
from vreplica.lab.guest.os_names import guest_family

_ESCAPES = {"%": "%25", "/": "%2f", "\\": "%5c"}


def escape_name(name: str) -> str:
    """A name with the characters of inventory paths escaped, as vSphere stores it."""
    return "".join(_ESCAPES.get(c, c) for c in name)


class Snapshot(Managed, vim.vm.Snapshot):
    """A snapshot. `config` is the VM's configuration of that moment, with its changeIds."""

    vm: Any
    config: Any
    name: str
    description: str
    number: int
    created: datetime
    power: str
    quiesced: bool
    manifest: str | None
    parent_snapshot: Any

    @live
    def childSnapshot(self) -> Any:
        # Not cached: a child that is added or removed does not touch its parent.
        return [s for s in self.vm.all_snapshots() if s.parent_snapshot is self]

    def touch(self) -> None:
        super().touch()
        vm = self.__dict__.get("vm")
        if vm is not None:
            vm.touch()

    def task_entity(self) -> Any:
        return self.vm

    def tree(self) -> Any:
        return vim.vm.SnapshotTree(
            snapshot=self,
            vm=self.vm,
            name=self.name,
            description=self.description,
            id=self.number,
            createTime=self.created,
            state=self.power,
            quiesced=self.quiesced,
            backupManifest=self.manifest,
            replaySupported=False,
            childSnapshotList=[c.tree() for c in self.childSnapshot],
        )

    def RemoveSnapshot_Task(
        self, removeChildren: bool, consolidate: bool | None = True
    ) -> Iterator[int]:
        yield 0
        gone = [self]
        if removeChildren:
            gone = [s for s in self.vm.all_snapshots() if self in s.with_ancestors()]
        yield from self.vm.remove_snapshots(gone, consolidate is not False)

    def loaded(self) -> None:
        self.vm.__dict__["_snapshots"] = [*self.vm.all_snapshots(), self]

    def with_ancestors(self) -> list[Any]:
        """This snapshot and its ancestors."""
        found: list[Any] = []
        at: Any = self
        while at is not None:
            found.append(at)
            at = at.parent_snapshot
        return found

    def RevertToSnapshot_Task(
        self, host: Any = None, suppressPowerOn: bool | None = None
    ) -> Iterator[int]:
        yield 0
        self.vm.revert(self)

    def RenameSnapshot(self, name: str | None = None, description: str | None = None) -> None:
        if name == "":
            raise invalid_argument("name")
        self.set(
            name=escape_name(name) if name is not None else self.name,
            description=self.description if description is None else description,
        )


class SnapshotMethods:
    """The methods of a VirtualMachine about snapshots."""

    _site: Any
    host: Any
    config: Any
    chains: Any
    links: dict[str, str]
    power: str
    current: Any
    snapshot_count: int
    guest_state: Any
    _snapshots: list[Snapshot]

    def all_snapshots(self) -> list[Any]:
        return self._snapshots

    # -- creating ---------------------------------------------------------------------------

    def CreateSnapshot_Task(
        self, name: str, description: str | None = None, memory: bool = False, quiesce: bool = False
    ) -> Generator[int, None, Any]:
        spec = None
        if quiesce:
            # CreateSnapshot_Task means type COPY with bootable system state.
            spec = vim.vm.WindowsQuiesceSpec(vssBackupType=5, vssBootableSystemState=True)
        return (yield from self.take_snapshot(name, description, memory, spec))

    def CreateSnapshotEx_Task(
        self,
        name: str,
        description: str | None = None,
        memory: bool = False,
        quiesceSpec: Any = None,
    ) -> Generator[int, None, Any]:
        return (yield from self.take_snapshot(name, description, memory, quiesceSpec))

    def take_snapshot(
        self, name: str, description: str | None, memory: bool, spec: Any
    ) -> Generator[int, None, Any]:
        if not name:
            raise fault(vim.fault.InvalidName, "A name is required.", name=name or "")
        if self.config.template:
            raise fault(vmodl.fault.NotSupported, "A template has no snapshots.")
        if spec is not None and spec.timeout is not None and not 5 <= spec.timeout <= 240:
            raise invalid_argument("quiesceSpec.timeout")
        if memory and self.power == "poweredOn":
            independent = any(
                "independent" in d.backing.diskMode for d in hardware.disks_of(self.config)
            )
            if independent:
                raise fault(
                    vim.fault.MemorySnapshotOnIndependentDisk,
                    "A memory snapshot needs disks that are not independent.",
                )
        yield 0
        frozen = None
        if spec is not None and self.guest_state.can_quiesce():
            frozen = self.guest_state.freeze(spec)
        try:
            yield 30
            snapshot = self.add_snapshot(name, description or "", spec is not None)
        finally:
            if spec is not None:
                self.guest_state.thaw()
        if frozen is not None and guest_family(self.config.guestId) == "windows":
            self.write_manifest(snapshot, frozen)
        return snapshot

    def add_snapshot(self, name: str, description: str, quiesced: bool) -> Any:
        site, vm = self._site, self

        def work() -> Any:
            if vm.power == "poweredOn":
                time.sleep(site.settings.stun_s)
            config = copy.deepcopy(vm.config)
            if vm.power != "poweredOn":
                for disk in hardware.disks_of(config):
                    vm.chains.disks.check_unlocked(disk.backing.fileName)
            vm.chains.update_tracking(config)
            above, links = vm.chains.add_links(config)
            snapshot = Snapshot(site, site.new_id("snapshot"))
            snapshot.__dict__.update(
                vm=vm,
                config=config,
                name=escape_name(name),
                description=description,
                number=vm.snapshot_count + 1,
                created=vm.host.now(),
                power=vm.power,
                quiesced=quiesced,
                manifest=None,
                parent_snapshot=vm.current,
            )
            with site.changed:
                vm._snapshots = [*vm._snapshots, snapshot]
                site.add(snapshot)
                vm.set(  # type: ignore[attr-defined]
                    config=above,
                    links=links,
                    current=snapshot,
                    snapshot_count=vm.snapshot_count + 1,
                )
                if snapshot.parent_snapshot is not None:
                    # Its list of children has changed.
                    snapshot.parent_snapshot.touch()
            site.flush()
            return snapshot

        return self.chains.while_stunned(work)

    def write_manifest(self, snapshot: Any, writers: dict[str, str]) -> None:
        """Writes the VSS manifest: the documents of the writers, or only the boot data."""
        name = f"vss_manifests{snapshot.number}.zip"
        path = self._site.disks.path(self.config.files.snapshotDirectory) / name
        with zipfile.ZipFile(path, "w") as archive:
            for writer, document in writers.items():
                archive.writestr(writer, document)
        snapshot.manifest = name

    # -- removing ---------------------------------------------------------------------------

    def remove_snapshots(self, gone: list[Any], consolidate: bool) -> Iterator[int]:
        site = self._site

        def survivor(snapshot: Any) -> Any:
            while snapshot is not None and snapshot in gone:
                snapshot = snapshot.parent_snapshot
            return snapshot

        with self.chains.lock:
            with site.changed:
                for snapshot in self._snapshots:
                    if snapshot not in gone:
                        snapshot.parent_snapshot = survivor(snapshot.parent_snapshot)
                        snapshot.touch()
                current = survivor(self.current)
                self._snapshots = [s for s in self._snapshots if s not in gone]
                for snapshot in gone:
                    site.remove(snapshot)
                self.set(  # type: ignore[attr-defined]
                    current=current, collapse_due=consolidate, consolidation_needed=not consolidate
                )
            site.flush()
            for snapshot in gone:
                if snapshot.manifest:
                    folder = site.disks.path(self.config.files.snapshotDirectory)
                    (folder / snapshot.manifest).unlink(missing_ok=True)
            if consolidate:
                yield from self.chains.consolidate()
            self.chains.apply_tracking()

    def RemoveAllSnapshots_Task(
        self, consolidate: bool | None = True, spec: Any = None
    ) -> Iterator[int]:
        yield 0
        yield from self.remove_snapshots(list(self._snapshots), consolidate is not False)

    def ConsolidateVMDisks_Task(self) -> Iterator[int]:
        yield 0
        self.collapse_due = True
        yield from self.chains.consolidate()

    # -- reverting --------------------------------------------------------------------------

    def RevertToCurrentSnapshot_Task(
        self, host: Any = None, suppressPowerOn: bool | None = None
    ) -> Iterator[int]:
        if self.current is None:
            raise fault(vim.fault.NotFound, "The virtual machine has no current snapshot.")
        yield 0
        self.revert(self.current)

    def revert(self, snapshot: Any) -> None:
        """Restores disks and configuration. The VM is off then, since snapshots keep no memory."""
        site, vm = self._site, self
        with self.chains.lock:
            self.chains.close_leaves()
            try:
                if self.power != "poweredOn":
                    for disk in hardware.disks_of(self.config):
                        self.chains.disks.check_unlocked(disk.backing.fileName)
                config, links = self.chains.add_links(snapshot.config, new_generation=True)
            except BaseException:
                if self.power == "poweredOn":
                    self.chains.open_leaves()
                raise
            config.name = self.config.name
            hardware.set_nics_connected(config, False)
            with site.changed:
                vm.set(  # type: ignore[attr-defined]
                    config=config,
                    links=links,
                    current=snapshot,
                    power="poweredOff",
                    boot_time=None,
                    collapse_due=True,
                )
            self.guest_state.stopped()
            site.flush()
            for _ in self.chains.consolidate():
                pass
