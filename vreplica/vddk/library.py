"""Runs the library in this process: makes, opens and changes disks with Python signatures.

    library = Library.load(VddkConfig())
    library.create("/tmp/a.vmdk", 1 << 30)
    with library.open("/tmp/a.vmdk") as base:
        library.create_child(base, "/tmp/a-000001.vmdk")

It is meant for the native library. For VMware's, use `open_vddk_disk` and its helper process: its
own copies of OpenSSL and libstdc++ conflict with Python's.

Sizes are bytes. Every failure is a DiskAccessError. Log lines go to the logger `vreplica.vddk`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from vreplica.units import SECTOR
from vreplica.vddk import abi
from vreplica.vddk.abi import Adapter, DiskType
from vreplica.vddk.binding import LoadFailed, encoded
from vreplica.vddk.config import LEVELS, LibraryFile, VddkConfig, VddkConnection, locate
from vreplica.vddk.errors import AlreadyInitialised, from_load
from vreplica.vddk.handle import DiskHandle, as_disk_error
from vreplica.vddk.raw_disk import RawDisk, modes_for, open_flags
from vreplica.vddk.session import ConnectionHandle, VddkSession

log = logging.getLogger("vreplica.vddk")

Progress = Callable[[int], None]
"""Called with percent, on the calling thread; a percentage may come twice."""

LOCAL = VddkConnection()


class Library:
    """One library, initialised once in this process, from `load`.

    Open and Close, Connect and Disconnect run one at a time, and so do calls on one handle; all
    other calls run in parallel (VDDK 8.0 Programming Guide, "Multithreading considerations").
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
            with as_disk_error(str(file.path)):
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
        """Returns the library that the configuration names; one object for one file.

        VMware's library needs its first call from the main thread (VDDK 7.0 release notes).

        Raises LibraryProblem, also where the library already runs with another config file.
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
        """Makes an empty local disk. `capacity_bytes`: a multiple of 512."""
        params = create_params(capacity_bytes, disk_type, adapter, hw_version)
        name = str(path)
        with as_disk_error(name), self.session.adding_log(), reported(progress) as callback:
            self._api.Create(self.local, encoded(name), byref(params), callback, None)

    def create_child(
        self,
        parent: DiskHandle,
        child_path: str | Path,
        disk_type: DiskType = DiskType.MONOLITHIC_SPARSE,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Makes an empty link on top of an open disk."""
        name = str(child_path)
        with as_disk_error(name), self.session.adding_log(), reported(progress) as callback:
            self._api.CreateChild(parent.raw.handle, encoded(name), disk_type, callback, None)

    def grow(
        self,
        path: str | Path,
        capacity_bytes: int,
        *,
        update_geometry: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Makes a local disk larger. It must not be open."""
        sectors, name = _sectors(capacity_bytes), str(path)
        with as_disk_error(name), self.session.adding_log(), reported(progress) as callback:
            self._api.Grow(self.local, encoded(name), sectors, update_geometry, callback, None)

    def unlink(self, path: str | Path) -> None:
        """Removes one link of a local disk, with all of its files."""
        with as_disk_error(str(path)), self.session.adding_log():
            self._api.Unlink(self.local, encoded(str(path)))

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
        """Opens a disk; the handle is a context manager. Local disks share one connection."""
        flags = open_flags(read_only=read_only, single_link=single_link)
        link, own = None, None
        with as_disk_error(str(path)):
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
        """Puts the open chain of `child` on top of that of `parent`.

        From then on `child` is the whole chain. `parent` may neither be used nor closed any more.
        """
        with as_disk_error(child.path), self.session.adding_log():
            self._api.Attach(parent.raw.handle, child.raw.handle)
        parent.give_up()
        child.refresh()

    # -- connections ------------------------------------------------------------------------

    @property
    def local(self) -> int | None:
        """The library's handle of the connection for local files."""
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


def create_params(
    capacity_bytes: int, disk_type: DiskType, adapter: Adapter, hw_version: int
) -> abi.CreateParams:
    return abi.CreateParams(
        diskType=disk_type,
        adapterType=adapter,
        hwVersion=hw_version,
        capacity=_sectors(capacity_bytes),
    )


@contextmanager
def reported(progress: Progress | None) -> Iterator[Any]:
    """Yields the C callback for a Python one; raises the callback's error after the call."""
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
