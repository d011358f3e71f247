"""Space on datastores: how much their files take of a capacity that is a setting.

    capacity   |------ thick disks, whole ------|-- blocks of all other files --|....free....|

Code that makes a file calls `require_space` first, and code that writes into a disk calls
`require_room`. For writes through VixDiskLib, the native library checks by itself, with the limits
that `write_library_limits` wrote.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vreplica.lab.api.vmodl import fault, vim
from vreplica.lab.context import SiteContext
from vreplica.lab.storage.paths import DatastorePaths, split_path

_USAGE_S = 1.0
"""How long a sum over the files of a datastore is used."""


class DatastoreSpace(DatastorePaths):
    """Knows the space on the datastores of one site."""

    def __init__(self, site: SiteContext) -> None:
        super().__init__(site)
        self._usage: dict[str, tuple[float, int]] = {}
        self._grows: dict[str, bool] = {}

    def capacity_of(self, datastore: str) -> int:
        return int(self.site.datastore(datastore).capacity)

    def used(self, datastore: str) -> int:
        """Bytes that the files take. A thick disk takes its capacity, though its file is sparse."""
        when, total = self._usage.get(datastore, (0.0, 0))
        if time.monotonic() - when > _USAGE_S:
            total = sum(bytes_taken(f) for f in _files(self.folder(datastore)))
            self._usage[datastore] = (time.monotonic(), total)
        return total

    def refresh_usage(self) -> None:
        """Sums the files anew at the next `used`."""
        self._usage.clear()

    def write_library_limits(self) -> None:
        """Writes the limits for writes through VixDiskLib, which the native library reads.

        Call it when a capacity or a setting has changed (native/src/lab/host.c).
        """
        track = int(self.site.settings.track_outside_writes)
        for name in self.site.names.by_folder:
            limits = self.folder(name).with_name(f"{name}.host")
            fresh = limits.with_suffix(".new")
            fresh.write_text(f"capacity {self.capacity_of(name)} track {track}\n")
            fresh.replace(limits)

    def require_room(self, ds_path: str, offset: int, size: int) -> None:
        """Raises NoDiskSpace where a write into a disk does not fit.

        It adds the writes since the last sum, and sums anew only when these would not fit.
        """
        if not self.may_grow(ds_path):
            return
        name, _ = split_path(ds_path)
        if self.used(name) + size > self.capacity_of(name):
            # The writes since the last sum may have replaced data that was counted.
            self._usage.pop(name)
            if self.used(name) + size > self.capacity_of(name):
                if self.is_allocated(ds_path, offset, size):
                    return
                raise self.no_space(ds_path)
        when, total = self._usage[name]
        self._usage[name] = (when, total + size)

    def is_allocated(self, ds_path: str, offset: int, size: int) -> bool:
        """Whether a thin base disk has the whole range allocated. False for a delta link."""
        path = self.path(ds_path)
        flat = path.with_name(f"{path.stem}-flat.vmdk")
        if not flat.exists():
            return False
        with flat.open("rb") as file:
            return os.lseek(file.fileno(), offset, os.SEEK_HOLE) >= offset + size

    def may_grow(self, ds_path: str) -> bool:
        """Whether a write into a disk may take space. A thick base disk has all of its space."""
        if ds_path not in self._grows:
            with self.path(ds_path).open("rb") as file:
                head = file.read(2048)
            self._grows[ds_path] = b" VMFS " not in head or b"thinProvisioned" in head
        return self._grows[ds_path]

    def require_space(self, ds_path: str, size: int) -> None:
        """Raises NoDiskSpace where `size` more bytes do not fit."""
        name, _ = split_path(ds_path)
        self._usage.pop(name, None)
        if self.used(name) + size > self.capacity_of(name):
            raise self.no_space(ds_path)
        self._usage.pop(name, None)

    def forget_kind(self, ds_path: str) -> None:
        """Forgets the kind of a disk that was removed: its name may be used again."""
        self._grows.pop(ds_path, None)

    def no_space(self, ds_path: str) -> Any:
        """The fault NoDiskSpace, to be raised."""
        name, _ = split_path(ds_path)
        return fault(
            vim.fault.NoDiskSpace,
            f"Insufficient disk space on datastore '{name}'.",
            file=ds_path,
            datastore=name,
        )


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                yield entry


def bytes_taken(entry: os.DirEntry[str] | Path) -> int:
    """Bytes that a file takes; 0 where it was removed meanwhile."""
    try:
        found = entry.stat(follow_symlinks=False)
        if entry.name.endswith("-flat.vmdk"):
            descriptor = Path(os.fspath(entry).removesuffix("-flat.vmdk") + ".vmdk")
            if "thinProvisioned" not in descriptor.read_text(errors="replace"):
                return found.st_size
    except OSError:
        return 0
    return found.st_blocks * 512
