"""Whole runs, the real ones, between two sites in memory.

    World -- Mover -- session -- Site -- Vm -- disks      key -> Disk(path, content, written)
                                   |      `--- snapshots  with disks and extraConfig as they were
                                   `-- files              path -> content: a link holds all of it

A mover is a process that runs the job: it has a state directory and sees both sites through
sessions of its own. Every call of a session, and every request to a disk, is a step. At a step
`Steps` may kill the mover's process or lose its connection, before the call's effect and after it;
and before each step others may act: the source's guest, a person in vCenter, another mover.
It stands in for `vreplica.vsphere.Session`, nothing more.

A disk that is open for writing is locked, as at a host: nobody else opens, merges or reverts it.
One that is open for reading is not: a reader sees whatever its file holds by then.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import copy as copy_object
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np

from tests.support.vms import make_disk, make_vm
from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CopySpec
from vreplica.delta.copy.stats import CopyStats
from vreplica.delta.copy.transfer import RetryPolicy
from vreplica.disk import Arena, Request, check_request
from vreplica.disk_errors import DiskLocked, DiskNotFound
from vreplica.errors import DiskClosed
from vreplica.extents import Extents
from vreplica.points import RecoveryPoint, Retention
from vreplica.points.digestmap import digest_map
from vreplica.points.digestmap.file import open_locked
from vreplica.points.vm_keys import LEAF_KEY
from vreplica.sync import cycle, recovery_points
from vreplica.sync.claim import claim, held_claim, takeover
from vreplica.sync.copy import digest_maps, one_disk
from vreplica.sync.cycle import run
from vreplica.sync.errors import PreflightFailed, ReplicaStillOpen
from vreplica.sync.job import Job, OnCbtLoss, OnReplicaChange, Placement, Transport
from vreplica.sync.recovery_points import points
from vreplica.sync.replica import foreign_changes
from vreplica.sync.report import RunReport
from vreplica.sync.sites import Sites
from vreplica.units import BLOCK, GIB, KIB, SECTOR
from vreplica.vsphere.errors import (
    CbtQueryFailed,
    ChangeIdInvalid,
    ConfigurationChanged,
    FileInUse,
    HostUnreachable,
    NameTaken,
    ObjectGone,
    TaskFailed,
    VmNotFound,
)
from vreplica.vsphere.model import (
    DatastoreInfo,
    Endpoint,
    EventRecord,
    ReplicaPlacement,
    ReplicaSpec,
    SnapshotInfo,
    TaskRecord,
    VmDisk,
    VmInfo,
    VmOptions,
    VmRef,
)


class Killed(Exception):
    """The process ends here: whatever is called afterwards does nothing any more."""


class Steps:
    """Counts calls; at number `left` the process is killed, or the connection is lost once."""

    def __init__(self, between: Callable[[], None] = lambda: None) -> None:
        self.left: int | None = None
        self.kill = True
        self.dead = False
        self.between = between
        """Called before each step: others act."""
        self._lock = threading.Lock()

    def arm(self, left: int | None, *, kill: bool) -> None:
        self.left, self.kill, self.dead = left, kill, False

    def local(self) -> None:
        """Something on this machine, to which no connection is needed."""
        if self.kill:
            self()

    def __call__(self) -> None:
        if self.dead:
            raise Killed
        self.between()
        with self._lock:
            if self.dead:
                raise Killed
            if self.left is None:
                return
            self.left -= 1
            if self.left >= 0:
                return
            self.left, self.dead = None, self.kill
        raise Killed if self.kill else HostUnreachable("site", 443, "connection reset")


@dataclass
class Disk:
    key: int
    uuid: str
    path: str
    content: bytearray
    parents: tuple[str, ...] = ()
    generation: str = ""
    """Of change tracking; "": it is off."""
    number: int = 1
    written: list[tuple[int, int, int]] = field(default_factory=list)
    """(number then, first byte, byte behind the last)."""

    def write(self, at: int, data: bytes) -> None:
        self.content[at : at + len(data)] = data
        if self.generation:
            self.written.append((self.number, at, at + len(data)))

    def track(self, *, on: bool) -> None:
        self.generation = uuid.uuid4().hex if on else ""
        self.written = []

    def frozen(self) -> Disk:
        return replace(self, content=bytearray(self.content), written=list(self.written))

    def info(self) -> VmDisk:
        return make_disk(
            self.key,
            capacity_bytes=len(self.content),
            path=self.path,
            uuid=self.uuid,
            change_id=f"{self.generation}/{self.number}" if self.generation else None,
            parents=self.parents,
        )


@dataclass
class Snapshot:
    info: SnapshotInfo
    disks: dict[int, Disk]


@dataclass
class Vm:
    ref: VmRef
    bios_uuid: str
    disks: dict[int, Disk]
    cbt: bool
    power: str = "poweredOff"
    extra: dict[str, str] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)
    current: str | None = None
    changes: int = 0

    @property
    def version(self) -> str:
        """Of the configuration: a revert brings an old one back, but never its version."""
        return f"v{self.changes}"

    @property
    def folder(self) -> str:
        return f"[ds] {self.ref.name}"

    def snapshot(self, moref: str) -> Snapshot:
        found = [s for s in self.snapshots if s.info.moref == moref]
        if not found:
            raise ObjectGone("finding a snapshot", moref)
        return found[0]


class Opened:
    """An open disk of a VM. Each request goes to what its file holds at that moment."""

    round_trips = False
    parallel_reads = 1

    def __init__(
        self,
        site: Site,
        disk: VmDisk,
        parents: tuple[str, ...],
        *,
        read_only: bool,
        on_reopen: Callable[[], object] | None = None,
    ) -> None:
        self.site, self.name, self.capacity_bytes = site, disk.path, disk.capacity_bytes
        self.parents, self.read_only, self.on_reopen = parents, read_only, on_reopen
        self.closed = False
        self.dropped = False
        """The host has ended the connection."""
        self._open()

    def _open(self) -> None:
        if self.name not in self.site.files:
            raise DiskNotFound(self.name, "opening", "no such file")
        if any(path in self.site.writers for path in (self.name, *self.parents)):
            raise DiskLocked(self.name, "opening", "it is open for writing")
        if not self.read_only:
            self.site.writers[self.name] = self

    def _content(self, offset: int, length: int) -> bytearray:
        self.site.steps()
        if self.closed:
            raise DiskClosed(name=self.name)
        if self.dropped:
            self._open()
            self.dropped = False
            if self.on_reopen is not None:
                self.on_reopen()
        check_request(offset, length, self.capacity_bytes)
        found = self.site.files.get(self.name)
        if found is None:
            raise DiskNotFound(self.name, "using", "no such file")
        return found

    def read_into(self, offset: int, view: memoryview) -> None:
        content = self._content(offset, view.nbytes)
        view[:] = bytes(content[offset : offset + view.nbytes]).ljust(view.nbytes, b"\0")

    def write_from(self, offset: int, view: memoryview) -> None:
        assert not self.read_only
        self._content(offset, view.nbytes)
        for disk in self.site.every_disk():
            if self.name in (disk.path, *disk.parents):
                disk.write(offset, bytes(view))

    def read_many(self, requests: Sequence[Request]) -> None:
        for offset, view in requests:
            self.read_into(offset, view)

    def write_many(self, requests: Sequence[Request]) -> None:
        for offset, view in requests:
            self.write_from(offset, view)

    def allocated(self) -> Extents:
        content = self._content(0, 0)
        starts = range(0, len(content), BLOCK)
        held = [at for at in starts if any(content[at : at + BLOCK])]
        return Extents.from_blocks(np.array(held, np.int64) // BLOCK, BLOCK, self.capacity_bytes)

    def register(self, arena: Arena) -> None:
        """Does nothing: the disk is in this process."""

    def flush(self) -> None:
        self._content(0, 0)

    def close(self) -> None:
        self.closed = True
        self.drop()

    def drop(self) -> None:
        """The host closes it. A mover that is still there opens it again at its next request."""
        self.dropped = True
        if self.site.writers.get(self.name) is self:
            del self.site.writers[self.name]


class Site:
    """A site; and a session of it, where `session` has made it: then every call is a step."""

    def __init__(self) -> None:
        self.steps: Callable[[], None] = lambda: None
        self.vms: dict[str, Vm] = {}
        self.files: dict[str, bytearray] = {}
        self.writers: dict[str, Opened] = {}
        self.log: list[EventRecord] = []
        self.counter = count(1)
        self.clock_: list[datetime] = [datetime.now(UTC)]
        self.froze: dict[str, list[dict[int, bytes]]] = {}
        """By run: what its snapshots of the source froze."""
        self.changes = count(1)
        self.changed: list[int] = [0]
        """Grows with each change of snapshots."""

    def session(self, steps: Callable[[], None]) -> Site:
        made = copy_object(self)
        made.steps = steps
        return made

    # -- what the tests do ------------------------------------------------------------------

    def next(self) -> int:
        return next(self.counter)

    def clock(self) -> datetime:
        self.step_clock(1.0)
        return self.clock_[0]

    def step_clock(self, seconds: float) -> None:
        self.clock_[0] += timedelta(seconds=seconds)

    def every_disk(self) -> list[Disk]:
        disks = [d for v in self.vms.values() for d in v.disks.values()]
        return disks + [d for v in self.vms.values() for s in v.snapshots for d in s.disks.values()]

    def add_vm(self, name: str, *, cbt: bool, bios_uuid: str, power: str = "poweredOff") -> Vm:
        made = Vm(VmRef(f"vm-{self.next()}", name), bios_uuid, {}, cbt, power)
        self.vms[made.ref.moref] = made
        return made

    def add_disk(self, vm: Vm, key: int, content: bytes, path: str = "", uid: str = "") -> Disk:
        path = path or f"{vm.folder}/disk-{self.next()}.vmdk"
        made = Disk(key, uid or uuid.uuid4().hex, path, bytearray(content))
        made.track(on=vm.cbt)
        self.files[path] = made.content
        vm.disks[key] = made
        return made

    def used(self) -> set[str]:
        return {path for d in self.every_disk() for path in (d.path, *d.parents)}

    def need_closed(self, paths: Iterable[str]) -> None:
        """Raises FileInUse where one of these files is open for writing."""
        for path in paths:
            if path in self.writers:
                raise FileInUse("changing disks", path)

    def start(self, vm: Vm) -> None:
        """Somebody starts a VM, and stops it again."""
        event = EventRecord(self.next(), "VmPoweredOnEvent", self.clock(), "eve", None, "")
        self.log.append(event)

    # -- reading ----------------------------------------------------------------------------

    def _vm(self, ref: VmRef) -> Vm:
        self.steps()
        if ref.moref not in self.vms:
            raise ObjectGone("reading a VM", ref.moref)
        return self.vms[ref.moref]

    @contextmanager
    def one_look(self) -> Iterator[None]:
        yield

    def look_up_vm(self, name: str) -> VmRef | None:
        self.steps()
        return next((vm.ref for vm in self.vms.values() if vm.ref.name == name), None)

    def find_vm(self, name: str) -> VmRef:
        found = self.look_up_vm(name)
        if found is None:
            raise VmNotFound("site", name)
        return found

    def find_by_uuid(self, uuid: str) -> VmRef | None:
        self.steps()
        return self.vms[uuid].ref if uuid in self.vms else None

    def find_marked(self, options: Mapping[str, str]) -> tuple[VmRef, ...]:
        self.steps()
        marked = (
            v for v in self.vms.values() if v.snapshots and options.items() <= v.extra.items()
        )
        return tuple(vm.ref for vm in marked)

    def read_vm(self, ref: VmRef) -> VmInfo:
        vm = self._vm(ref)
        return make_vm(
            vm.ref,
            instance_uuid=vm.ref.moref,
            bios_uuid=vm.bios_uuid,
            vmx_path=f"{vm.folder}/{vm.ref.name}.vmx",
            power_state=vm.power,
            cbt_enabled=vm.cbt,
            disks=tuple(d.info() for _, d in sorted(vm.disks.items())),
            snapshots=tuple(s.info for s in vm.snapshots),
            current_snapshot=vm.current,
            host="host",
            datastores=("ds",),
            datastore_morefs={"ds": "ds-1"},
            extra_config=dict(vm.extra),
            change_version=vm.version,
        )

    def read_snapshots(self, ref: VmRef) -> tuple[SnapshotInfo, ...]:
        return tuple(
            replace(s.info, disks=tuple(d.info() for d in s.disks.values()))
            for s in self._vm(ref).snapshots
        )

    def read_snapshot(self, ref: VmRef, moref: str) -> SnapshotInfo:
        found = [s for s in self.read_snapshots(ref) if s.moref == moref]
        if not found:
            raise ObjectGone("reading a snapshot", moref)
        return found[0]

    def datastores(self) -> tuple[DatastoreInfo, ...]:
        return (DatastoreInfo("ds", "ds-1", 1000 * GIB, 1000 * GIB, "VMFS"),)

    def placement_of(self, spec: ReplicaSpec, *, asks_privileges: bool) -> ReplicaPlacement:
        assert spec.datastore == "ds"
        return ReplicaPlacement("host", self.datastores()[0])

    def events(self, ref: VmRef, *, since: datetime | None = None) -> tuple[EventRecord, ...]:
        self.steps()
        return tuple(e for e in self.log if since is None or e.time >= since)

    def refresh(self) -> datetime:
        return self.clock()

    server_time = refresh

    def host_clock_ahead(self, _: VmRef) -> timedelta:
        return timedelta(0)

    def read_options(self, ref: VmRef) -> VmOptions:
        vm = self._vm(ref)
        files = {key: disk.path for key, disk in vm.disks.items()}
        return VmOptions(vm.version, dict(vm.extra), vm.current, files)

    def recent_tasks(self, ref: VmRef) -> tuple[TaskRecord, ...]:
        self.steps()
        return ()

    def take_started_tasks(self) -> tuple[str, ...]:
        return ()

    def changed_extents(
        self, ref: VmRef, snapshot: str | None, key: int, change_id: str, capacity: int
    ) -> Extents:
        vm = self._vm(ref)
        disks = vm.disks if snapshot is None else vm.snapshot(snapshot).disks
        if key not in disks:
            raise CbtQueryFailed(key, "no such disk", "InvalidArgument")
        found = disks[key]
        generation, _, number = change_id.partition("/")
        if generation != found.generation:
            raise ChangeIdInvalid(change_id, "it is of another generation")
        total = Extents.empty()
        for then, start, end in found.written:
            if then > int(number):
                total = total.union(Extents.of(start, end))
        return total

    # -- changing ---------------------------------------------------------------------------

    @contextmanager
    def change(self, ref: VmRef) -> Iterator[Vm]:
        """The reply may be lost with the work done."""
        vm = self._vm(ref)
        yield vm
        vm.changes += 1
        self.steps()

    def set_extra_config(
        self, ref: VmRef, values: Mapping[str, str], *, change_version: str | None = None
    ) -> None:
        with self.change(ref) as vm:
            if change_version not in (None, vm.version):
                raise ConfigurationChanged("writing the VM's options")
            vm.extra = {k: v for k, v in {**vm.extra, **values}.items() if v}

    def enable_cbt(self, ref: VmRef) -> bool:
        with self.change(ref) as vm:
            vm.cbt = True
            for disk in vm.disks.values():
                disk.track(on=True)
        return True

    def disable_cbt(self, ref: VmRef) -> None:
        with self.change(ref) as vm:
            vm.cbt = False
            for disk in vm.disks.values():
                disk.track(on=False)

    def create_snapshot(self, ref: VmRef, name: str, text: str, quiesce: object) -> SnapshotInfo:
        with self.change(ref) as vm:
            assert len(vm.snapshots) < 32, "a chain of snapshots ends at 32"
            moref = f"snapshot-{self.next()}"
            info = SnapshotInfo(
                moref, name, text, vm.current, self.clock(), False, None, (), dict(vm.extra)
            )
            vm.snapshots.append(Snapshot(info, {k: d.frozen() for k, d in vm.disks.items()}))
            for snapshot in vm.snapshots[-1].disks.values():
                self.files[snapshot.path] = snapshot.content
            if run_id := re.search(r", run (\S+)\. ", text):
                now = {key: bytes(disk.content) for key, disk in vm.disks.items()}
                self.froze.setdefault(run_id[1], []).append(now)
            for disk in vm.disks.values():
                disk.number += 1
                disk.parents = (disk.path, *disk.parents)
                disk.path = f"{vm.folder}/link-{self.next()}.vmdk"
                self.files[disk.path] = disk.content
            vm.current = moref
            self.changed[0] = next(self.changes)
        return self.read_snapshot(ref, moref)

    def remove_snapshot(self, ref: VmRef, moref: str) -> None:
        """One that is gone already is a success, as for the real one."""
        with self.change(ref) as vm:
            for gone in [s for s in vm.snapshots if s.info.moref == moref]:
                others = [s for s in vm.snapshots if s is not gone]
                chains = [vm.disks, *(s.disks for s in others)]
                every = [d for disks in chains for d in disks.values()]
                for disk in gone.disks.values():
                    children = [d.path for d in every if d.parents[:1] == (disk.path,)]
                    self.need_closed((disk.path, *children))
                vm.snapshots.remove(gone)
                if vm.current == moref:
                    vm.current = gone.info.parent
                for child in others:
                    if child.info.parent == moref:
                        child.info = replace(child.info, parent=gone.info.parent)
                for disk in gone.disks.values():
                    self._merge(disk.path, every)
                self.changed[0] = next(self.changes)

    def _merge(self, path: str, every: list[Disk]) -> None:
        """What lies on a link goes down into it. A link under two others stays as it is."""
        children = [d for d in every if d.parents[:1] == (path,)]
        if not children:
            del self.files[path]
        if len(children) != 1:
            return
        name, content = children[0].path, children[0].content
        del self.files[name]
        self.files[path] = content
        for disk in every:
            if disk.path == name:
                disk.path, disk.parents = path, disk.parents[1:]
            elif name in disk.parents:
                disk.parents = tuple(p for p in disk.parents if p != name)

    def revert_to_snapshot(self, ref: VmRef, moref: str) -> None:
        with self.change(ref) as vm:
            found = vm.snapshot(moref)
            self.need_closed(d.path for d in vm.disks.values())
            for disk in vm.disks.values():
                if disk.parents:
                    del self.files[disk.path]
            vm.disks = {key: disk.frozen() for key, disk in found.disks.items()}
            for disk in vm.disks.values():
                disk.track(on=vm.cbt)
                disk.parents = (disk.path, *disk.parents)
                disk.path = f"{vm.folder}/link-{self.next()}.vmdk"
                self.files[disk.path] = disk.content
            vm.extra, vm.current = dict(found.info.extra_config), moref
            self.changed[0] = next(self.changes)

    def create_replica(self, spec: ReplicaSpec) -> VmRef:
        self.steps()
        if any(vm.ref.name == spec.name for vm in self.vms.values()):
            raise NameTaken("creating a VM", spec.name)
        bios = spec.source.bios_uuid or ""
        vm = self.add_vm(spec.name, cbt=spec.track_changes, bios_uuid=bios)
        vm.extra = dict(spec.extra_config)
        for disk in spec.source.disks:
            if disk.key not in spec.exclude_disks:
                self.add_disk(vm, disk.key, bytes(disk.capacity_bytes))
        self.steps()
        return vm.ref

    def destroy_vm(self, ref: VmRef) -> None:
        with self.change(ref) as vm:
            self.need_closed(d.path for d in vm.disks.values())
            del self.vms[vm.ref.moref]
            used = self.used()
            for path in [p for p in self.files if p.startswith(f"{vm.folder}/")]:
                assert path not in used
                del self.files[path]

    def reshape_replica(self, ref: VmRef, want: Any, *, change_version: str | None = None) -> None:
        with self.change(ref) as vm:
            if change_version not in (None, vm.version):
                raise ConfigurationChanged("changing the VM")
            for key in want.detach:
                if key not in vm.disks:
                    raise TaskFailed("changing the VM", "InvalidDeviceSpec", f"no device {key}")
                gone = vm.disks.pop(key)
                if gone.parents:
                    del self.files[gone.path]
            for new in want.attach:
                if new.like.key in vm.disks:
                    raise TaskFailed("changing the VM", "InvalidDeviceSpec", "the unit is taken")
                assert new.exists == (new.path in self.files)
                content = self.files.get(new.path) or bytes(new.like.capacity_bytes)
                assert len(content) == new.like.capacity_bytes
                self.add_disk(vm, new.like.key, content, new.path)

    def copy_disk(self, ref: VmRef, source: str, target: str) -> None:
        with self.change(ref):
            assert target not in self.files
            self.files[target] = bytearray(self.files[source])

    def extend_disk(self, ref: VmRef, path: str, capacity: int) -> None:
        with self.change(ref):
            self.files[path] += bytes(capacity - len(self.files[path]))

    def delete_disk(self, ref: VmRef, path: str) -> bool:
        with self.change(ref):
            assert path not in self.used(), "a disk that is in use was to be deleted"
            return self.files.pop(path, None) is not None


def opener(read_only: bool) -> Callable[..., Opened]:
    """Stands in for open_leaf and open_current."""

    def open_(
        job: Any,
        site: Site,
        ref: VmRef,
        disk: VmDisk,
        *,
        on_reopen: Callable[[], object] | None = None,
    ) -> Opened:
        found = site._vm(ref).disks.get(disk.key)
        parents = found.parents if found is not None else ()
        return Opened(site, disk, parents, read_only=read_only, on_reopen=on_reopen)

    return open_


def open_snapshot_disk(
    job: Any, site: Site, ref: VmRef, snapshot: str, disk: VmDisk, *, first_of_two: bool = False
) -> Opened:
    site._vm(ref)
    return Opened(site, disk, (), read_only=True)


# -- runs against the model -----------------------------------------------------------------

UNIT = Path("/dev/shm")
KEYS = (2000, 2001, 2002)
KEEP = 3
DISCARD = OnReplicaChange.DISCARD


class Mover:
    """A process that runs the job: with a state directory, and sessions of both sites."""

    def __init__(self, world: World, name: str) -> None:
        self.name, self.steps = name, Steps()
        self.here, self.there = world.here.session(self.steps), world.there.session(self.steps)
        self.job = replace(world.base_job, state_dir=world.folder / name)
        self.locks: list[int] = []
        self.runs = count(1)
        self.process = ""

    def begin(self, left: int | None, *, kill: bool) -> None:
        """A new process, which is killed or cut off at step `left`."""
        self.process = f"{self.name}/{next(self.runs)}"
        self.steps.arm(left, kill=kill)

    def end(self, world: World) -> None:
        """Its locks and its open disks go with the process."""
        self.steps.arm(None, kill=False)
        world.ended_processes.add(self.process)
        for fd in self.locks:
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
        self.locks.clear()
        self.cut_off()

    def cut_off(self) -> None:
        """The hosts end its connections."""
        for site in (self.here, self.there):
            for opened in [o for o in site.writers.values() if o.site is site]:
                opened.drop()


class World:
    """A source with changing disks, its replica, and what every point has to hold."""

    runs = 0
    ended: ClassVar[Counter[str]] = Counter()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.here, self.there = Site(), Site()
        self.source = self.here.add_vm("web", cbt=False, bios_uuid="b-1", power="poweredOn")
        self.here.add_disk(self.source, 2000, bytes(6 * BLOCK + 3 * SECTOR))
        self.away: list[Disk] = []
        self.ended_processes: set[str] = set()
        self.one_machine = True
        """The movers' processes can see each other."""
        self.acting = threading.local()
        """`.mover`: the mover whose run this thread makes."""
        self.known: list[str] = []
        """Ids of all points that were ever seen, oldest first."""
        end = Endpoint("site", "user", "secret", "00")
        self.base_job = Job(
            name="web",
            source=end,
            source_vm="web",
            destination=end,
            placement=Placement("ds", "web-replica"),
            state_dir=folder,
            transport=Transport.VDDK,
            retention=Retention(last=KEEP),
            parallel_disks=1,
        )
        self.first = Mover(self, "a")
        self.job = self.first.job

    # -- what happens outside of runs -------------------------------------------------------

    def write(self, which: int, at: int, sectors: int, value: int) -> None:
        """The guest's. `at` is a percentage."""
        disk = self.disk(which)
        start = len(disk.content) // SECTOR * at // 100 * SECTOR
        size = min(sectors * SECTOR, len(disk.content) - start)
        disk.write(start, bytes([value]) * size)

    def disk(self, which: int) -> Disk:
        disks = [d for _, d in sorted(self.source.disks.items())]
        return disks[which % len(disks)]

    def add(self, sectors: int, value: int) -> None:
        key = self.free()
        if key is not None:
            content = bytes([value]) * (BLOCK + sectors * SECTOR)
            self.here.add_disk(self.source, key, content)

    def remove(self, which: int) -> None:
        if len(self.source.disks) > 1:
            self.away.append(self.source.disks.pop(self.disk(which).key))

    def put_back(self, which: int, value: int, grown: bool) -> None:
        """A disk that was away, perhaps written to or grown meanwhile, perhaps elsewhere now."""
        key = self.free()
        if key is None or not self.away:
            return
        old = self.away.pop(which % len(self.away))
        content = old.content + bytes(2 * KIB if grown and len(old.content) % KIB == 0 else 0)
        content[: 2 * SECTOR] = bytes([value]) * (2 * SECTOR)
        self.here.add_disk(self.source, key, content, uid=old.uuid)

    def free(self) -> int | None:
        return next((k for k in KEYS if k not in self.source.disks), None)

    def grow(self, which: int, sectors: int, value: int) -> None:
        """Tracking does not report what is written to the end, as hosts were seen to do."""
        if not self.source.snapshots:
            disk = self.disk(which)
            disk.content += bytes([value]) * (sectors * SECTOR)

    def track(self, on: bool) -> None:
        """Somebody else switches tracking off, or begins it anew."""
        if not self.source.snapshots:
            self.source.cbt = on
            for disk in self.source.disks.values():
                disk.track(on=on)

    def meddle(self, at: int, value: int, start: bool) -> None:
        """Somebody writes to the replica; by starting it, or by another program."""
        replica = next((v for v in self.there.vms.values()), None)
        if replica is None or not replica.snapshots or not replica.disks:
            return
        unseen = {d.generation for d in replica.disks.values()} != {
            d.generation for d in replica.snapshots[-1].disks.values()
        }
        if start or unseen or replica.extra.get(LEAF_KEY):
            self.there.start(replica)
        disk = next(iter(replica.disks.values()))
        where = len(disk.content) // SECTOR * at // 100 * SECTOR
        disk.write(where, bytes([value]) * SECTOR)

    def movers(self) -> list[Mover]:
        return [self.first]

    def mover_of(self, folder: Path) -> Mover:
        return next(m for m in self.movers() if folder.is_relative_to(m.job.state_dir))

    def lock(self, path: Path, flags: int) -> int:
        fd = open_locked(path, flags)
        self.mover_of(path).locks.append(fd)
        return fd

    def local_step(self) -> None:
        """Something on a mover's machine, to which no connection is needed."""
        self.first.steps.local()

    def this_process(self) -> str:
        return self.acting.mover.process

    def is_gone(self, process: str) -> bool:
        return self.one_machine and process in self.ended_processes

    # -- runs -------------------------------------------------------------------------------

    def run(self, left: int | None, *, kill: bool) -> RunReport | None:
        """One run; None where it was broken off. A replica that was meddled with stops it once."""
        World.runs += 1
        mover = self.acting.mover = self.first
        mover.begin(left, kill=kill)
        job = replace(self.job, on_cbt_loss=OnCbtLoss.RESCAN)
        try:
            report = self.stopped(job) or run(replace(job, on_replica_change=DISCARD))
        except (Killed, HostUnreachable, ReplicaStillOpen) as error:
            # Where the connection is lost at the look whether the disks of a killed run are closed.
            assert left is not None
            World.ended["killed" if isinstance(error, Killed) else "failed"] += 1
            mover.end(self)
            self.check()
            return None
        struck = left is not None and mover.steps.left is None
        mover.end(self)
        World.ended["resumed" if any("resumed" in t for t in report.recovered) else "made"] += 1
        for disk in report.disks:
            World.ended[disk.mode.value] += 1
        self.check()
        if not struck:
            # What a connection that is lost after the commit leaves, the next run sees to.
            self.check_good(report)
        return report

    def stopped(self, job: Job) -> RunReport | None:
        """A run; None where it was stopped by what somebody did to the replica."""
        try:
            return run(job)
        except PreflightFailed as error:
            problems = error.problems
        assert [p for p in problems if "was changed since point" in p] == list(problems)
        self.check()
        World.ended["stopped"] += 1
        return None

    # -- what always holds ------------------------------------------------------------------

    def check(self) -> None:
        """Each point of the replica is byte for byte what the source's snapshot froze."""
        found = points(self.job)
        for point in found:
            if point.id not in self.known:
                self.known.append(point.id)
        assert [p.id for p in found] == self.known[len(self.known) - len(found) :]
        assert len(found) >= min(KEEP, len(self.known))
        for point in found:
            self.check_moment(point)
            for disk in point.disks:
                assert disk.stats is not None
                assert disk.stats.redundant_bytes is not None
                assert disk.stats.zero_already_bytes is not None
                not_written = disk.stats.redundant_bytes + disk.stats.zero_already_bytes
                written = disk.stats.zeroed_bytes + disk.stats.data_bytes
                assert disk.stats.looked_at_bytes == not_written + written
                assert disk.written_bytes == disk.stats.written_bytes == written

    def check_moment(self, point: RecoveryPoint) -> None:
        """The point is byte for byte what a snapshot that its run took of the source froze."""
        (held,) = [
            s
            for v in self.there.vms.values()
            for s in v.snapshots
            if s.info.moref == point.snapshot
        ]
        moments = self.here.froze[point.id]
        holds = {key: bytes(disk.content) for key, disk in held.disks.items()}
        assert holds in moments, f"{point.id} is no moment of the source"
        assert {d.key: d.capacity_bytes for d in point.disks} == {
            k: len(c) for k, c in holds.items()
        }

    def check_good(self, report: RunReport) -> None:
        """After a run that ended well nothing of it is left anywhere."""
        assert self.known[-1] == report.point.id
        assert not self.source.snapshots
        (replica,) = self.there.vms.values()
        assert not replica.extra.get(LEAF_KEY)
        assert {k: d.content for k, d in replica.disks.items()} in self.here.froze[report.point.id]
        assert set(self.there.files) == self.there.used(), "files that nothing needs"


@contextmanager
def on_the_model(world: World) -> Iterator[None]:
    """Everything of a run is real but the two sites, the disks, and the end of the process."""
    real_undone = cycle.rolled_back_on_failure

    @contextmanager
    def undone(context: Any, source: Any) -> Iterator[None]:
        killed = None
        with real_undone(context, source):
            try:
                yield
            except Killed as error:
                killed = error
        if killed is not None:
            raise killed

    @contextmanager
    def connect(*_: object) -> Iterator[Site]:
        yield world.there

    def sites(job: Job, *_: object) -> Sites:
        mover = world.mover_of(job.state_dir)
        return Sites(mover.here, mover.there, ExitStack())

    def small(spec: CopySpec) -> CopyStats:
        return copy(replace(spec, io_size=BLOCK, batch_size=2 * BLOCK, depth=1))

    with ExitStack() as stack:
        for target, name, value in (
            (Sites, "open", sites),
            (claim, "this_process", world.this_process),
            (claim, "is_gone", world.is_gone),
            (held_claim, "this_process", world.this_process),
            (takeover, "WAIT_S", 0.0),
            (takeover, "PAUSE_S", 0.0),
            (recovery_points, "connect", connect),
            (one_disk, "open_snapshot_disk", open_snapshot_disk),
            (one_disk, "open_leaf", opener(read_only=False)),
            (takeover, "open_leaf", opener(read_only=False)),
            (foreign_changes, "open_current", opener(read_only=True)),
            (one_disk, "copy", small),
            (one_disk, "RETRY", RetryPolicy(attempts=1)),
            (one_disk, "CHECKPOINT_S", 0.0),
            (cycle, "rolled_back_on_failure", undone),
            (digest_map, "open_locked", world.lock),
            (digest_maps, "open_current", opener(read_only=True)),
            (os, "fsync", lambda _: world.local_step()),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        yield
