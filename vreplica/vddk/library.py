"""The library in this process: making, opening and changing disks with Python signatures.

    library = Library.load(VddkConfig())
    library.create("/tmp/a.vmdk", 1 << 30)
    with library.open("/tmp/a.vmdk") as base:
        library.create_child(base, "/tmp/a-000001.vmdk")

Meant for the native library. With VMware's, take `open_vddk_disk` and its helper process: its own
copies of OpenSSL and libstdc++ do not mix with those of Python.

Sizes are bytes. Every failure is a DiskAccessError. Log lines go to the logger `vreplica.vddk`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_uint64
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from vreplica.units import SECTOR
from vreplica.vddk import abi
from vreplica.vddk.abi import Adapter, DiskType
from vreplica.vddk.binding import CallFailed, LoadFailed, encoded
from vreplica.vddk.config import LEVELS, LibraryFile, VddkConfig, VddkConnection, locate
from vreplica.vddk.errors import AlreadyInitialised, from_load
from vreplica.vddk.handle import DiskHandle, explained
from vreplica.vddk.raw_disk import RawDisk, modes_for, open_flags
from vreplica.vddk.session import ConnectionHandle, VddkSession

log = logging.getLogger("vreplica.vddk")

Progress = Callable[[int], None]
"""Called with percent, on the calling thread; a percentage may come twice."""

LOCAL = VddkConnection()


class Library:
    """One library, initialised once in this process. Get it with `load`.

    Open and Close, Connect and Disconnect run one at a time (VDDK 8.0 Programming Guide,
    "Multithreading considerations"); calls on one handle as well; all else in parallel.
    """

    _loaded: ClassVar[dict[Path, Library]] = {}
    _loading: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, file: LibraryFile, config_file: Path | None) -> None:
        """Use `load`: a second InitEx of one library in one process is not allowed."""
        self.file = file
        self.config_file = config_file
        self._lock = threading.Lock()
        self._local: ConnectionHandle | None = None
        try:
            with explained(str(file.path)):
                self.session = VddkSession(
                    str(file.path),
                    str(file.root),
                    file.major,
                    str(config_file) if config_file else None,
                    _emit,
                )
        except LoadFailed as failed:
            raise from_load(failed) from None
        self._api = self.session.api

    @classmethod
    def load(cls, config: VddkConfig | None = None) -> Library:
        """The library that the configuration names; the same object for the same file.

        VMware's library wants its first call from the main thread (VDDK 7.0 release notes).

        Raises LibraryProblem, also where it already runs with another config file.
        """
        config = config or VddkConfig()
        file = locate(config)
        key = file.path.resolve()
        with cls._loading:
            library = cls._loaded.get(key)
            if library is None:
                library = cls._loaded[key] = cls(file, config.config_file)
            elif library.config_file != config.config_file and config.config_file is not None:
                raise AlreadyInitialised(
                    path=str(file.path),
                    first=str(library.config_file),
                    second=str(config.config_file),
                )
        return library

    @property
    def major(self) -> int:
        return self.file.major

    def transport_modes(self) -> str:
        """What ListTransportModes says, e.g. "file:san:hotadd:nbdssl:nbd"."""
        with explained(str(self.file.path)):
            return str(self._api.ListTransportModes())

    # -- making disks -----------------------------------------------------------------------

    def create(
        self,
        path: str | Path,
        capacity_bytes: int,
        disk_type: DiskType = DiskType.MONOLITHIC_SPARSE,
        adapter: Adapter = Adapter.LSILOGIC,
        *,
        hw_version: int = abi.HW_VERSION,
        progress: Progress | None = None,
    ) -> None:
        """Make an empty local disk. `capacity_bytes` is a multiple of 512."""
        params = _create_params(capacity_bytes, disk_type, adapter, hw_version)
        name = str(path)
        with explained(name), self.session.explained(), _reported(progress) as callback:
            self._api.Create(self.local, encoded(name), byref(params), callback, None)

    def create_child(
        self,
        parent: DiskHandle,
        child_path: str | Path,
        disk_type: DiskType = DiskType.MONOLITHIC_SPARSE,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Make an empty link on top of an open disk."""
        name = str(child_path)
        with explained(name), self.session.explained(), _reported(progress) as callback:
            self._api.CreateChild(parent.raw.handle, encoded(name), disk_type, callback, None)

    def clone(
        self,
        source: str | Path,
        target: str | Path,
        disk_type: DiskType = DiskType.MONOLITHIC_SPARSE,
        adapter: Adapter = Adapter.LSILOGIC,
        *,
        hw_version: int = abi.HW_VERSION,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Copy a local disk, whole chain, into a new one of the given type."""
        # The capacity is the source's; Clone takes the rest from the parameters.
        params = _create_params(0, disk_type, adapter, hw_version)
        with self.open(source) as opened:
            params.capacity = opened.info.capacity_sectors
        names = (self.local, encoded(str(target)), self.local, encoded(str(source)))
        with explained(str(target)), self.session.explained(), _reported(progress) as callback:
            self._api.Clone(*names, byref(params), callback, None, overwrite)

    def grow(
        self,
        path: str | Path,
        capacity_bytes: int,
        *,
        update_geometry: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Make a local disk larger. It must not be open."""
        sectors, name = _sectors(capacity_bytes), str(path)
        with explained(name), self.session.explained(), _reported(progress) as callback:
            self._api.Grow(self.local, encoded(name), sectors, update_geometry, callback, None)

    def unlink(self, path: str | Path) -> None:
        """Remove a local disk: this link, all of its files."""
        with explained(str(path)), self.session.explained():
            self._api.Unlink(self.local, encoded(str(path)))

    def rename(self, source: str | Path, target: str | Path) -> None:
        with explained(str(source)), self.session.explained():
            self._api.Rename(encoded(str(source)), encoded(str(target)))

    def check_repair(self, path: str | Path, *, repair: bool = False) -> None:
        """Raises DiskDamaged where a sparse disk's metadata is inconsistent (and not repaired)."""
        with explained(str(path)), self.session.explained():
            self._api.CheckRepair(self.local, encoded(str(path)), repair)

    # -- open disks -------------------------------------------------------------------------

    def open(
        self,
        path: str | Path,
        connection: VddkConnection = LOCAL,
        *,
        read_only: bool = True,
        single_link: bool = False,
        transport_modes: str | None = None,
        io_depth: int = 1,
    ) -> DiskHandle:
        """Open a disk; a context manager. Local disks share one connection."""
        flags = open_flags(read_only=read_only, single_link=single_link)
        link, own = None, None
        with explained(str(path)):
            if connection.server is None:
                link = self._local_link()
            else:
                modes = modes_for(transport_modes, read_only=read_only)
                own = link = self._connect(connection, modes)
            try:
                with self._lock:
                    raw = RawDisk(link, str(path), flags, io_depth)
            except BaseException:
                if own is not None:
                    self._disconnect(own)
                raise
        return DiskHandle(raw, str(path), own, self._lock)

    def attach(self, parent: DiskHandle, child: DiskHandle) -> None:
        """Put the open chain of `child` on top of that of `parent`.

        From then on `child` stands for the whole chain and `parent` is used up: it is neither
        used nor closed any more.
        """
        with explained(child.path), self.session.explained():
            self._api.Attach(parent.raw.handle, child.raw.handle)
        parent.used_up()
        child.refresh()

    def is_attach_possible(self, parent: DiskHandle, child: DiskHandle) -> bool:
        try:
            self._api.IsAttachPossible(parent.raw.handle, child.raw.handle)
        except CallFailed:
            return False
        return True

    def shrink(self, disk: DiskHandle, *, progress: Progress | None = None) -> None:
        with explained(disk.path), self.session.explained(), _reported(progress) as callback:
            self._api.Shrink(disk.raw.handle, callback, None)

    def defragment(self, disk: DiskHandle, *, progress: Progress | None = None) -> None:
        with explained(disk.path), self.session.explained(), _reported(progress) as callback:
            self._api.Defragment(disk.raw.handle, callback, None)

    def space_needed_for_clone(self, disk: DiskHandle, disk_type: DiskType) -> int:
        """Bytes."""
        out = c_uint64()
        with explained(disk.path), self.session.explained():
            self._api.SpaceNeededForClone(disk.raw.handle, disk_type, byref(out))
        return out.value

    # -- connections ------------------------------------------------------------------------

    @property
    def local(self) -> int | None:
        """The handle of the connection for local files."""
        return self._local_link().handle

    def _local_link(self) -> ConnectionHandle:
        with self._lock:
            if self._local is None:
                self._local = ConnectionHandle(self.session, asdict(LOCAL), read_only=False)
            return self._local

    def _connect(self, connection: VddkConnection, modes: str | None) -> ConnectionHandle:
        with self._lock:
            target = asdict(connection)
            return ConnectionHandle(
                self.session, target, read_only=connection.read_only, transport_modes=modes
            )

    def _disconnect(self, link: ConnectionHandle) -> None:
        with self._lock:
            link.close()


def _emit(level: int, text: str) -> None:
    log.log(LEVELS[level], "%s", text)


def _sectors(capacity_bytes: int) -> int:
    if capacity_bytes % SECTOR:
        raise ValueError(f"{capacity_bytes} bytes are not whole sectors")
    return capacity_bytes // SECTOR


def _create_params(
    capacity_bytes: int, disk_type: DiskType, adapter: Adapter, hw_version: int
) -> abi.CreateParams:
    return abi.CreateParams(
        diskType=disk_type,
        adapterType=adapter,
        hwVersion=hw_version,
        capacity=_sectors(capacity_bytes),
    )


@contextmanager
def _reported(progress: Progress | None) -> Iterator[Any]:
    """The C callback for a Python one. What that raises is raised once the call is over."""
    failure: list[BaseException] = []

    def report(_data: int | None, percent: int) -> int:
        if progress is not None and not failure:
            try:
                progress(percent)
            except BaseException as error:
                failure.append(error)
        return 1

    # Without an argument ctypes makes the NULL pointer of a function type.
    yield abi.ProgressFunc(report) if progress else abi.ProgressFunc()
    if failure:
        raise failure[0]
