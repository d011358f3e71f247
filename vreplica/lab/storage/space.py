"""Room on the datastores: what their files take of a capacity that is a setting.

    capacity   |------ thick disks, whole ------|-- blocks of all other files --|....free....|

Whoever makes a file asks `need_space` before, whoever writes into a disk `need_room`; the native
library does so itself for writes through VixDiskLib, by what `tell_library` says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vreplica.lab.api.vmodl import fault, vim
from vreplica.lab.context import SiteContext
from vreplica.lab.storage.paths import Paths, split

_USAGE_S = 1.0
"""How long a sum over a datastore's files is taken as current."""


class Space(Paths):
    """Of one site's datastores."""

    def __init__(self, site: SiteContext) -> None:
        super().__init__(site)
        self._usage: dict[str, tuple[float, int]] = {}
        self._grows: dict[str, bool] = {}

    def capacity_of(self, datastore: str) -> int:
        return int(self.site.datastore(datastore).capacity)

    def used(self, datastore: str) -> int:
        """Bytes that the files take; a thick disk takes its capacity though its file is sparse."""
        when, total = self._usage.get(datastore, (0.0, 0))
        if time.monotonic() - when > _USAGE_S:
            total = sum(taken(f) for f in _files(self.folder(datastore)))
            self._usage[datastore] = (time.monotonic(), total)
        return total

    def forget_usage(self) -> None:
        """Take the next sums fresh."""
        self._usage.clear()

    def tell_library(self) -> None:
        """What holds for writes through VixDiskLib, which the library has to heed itself.

        Read by native/src/lab/host.c; to be called whenever a capacity or a setting has changed.
        """
        track = int(self.site.settings.track_outside_writes)
        for name in self.site.spec.datastores:
            told = self.folder(name).with_name(f"{name}.host")
            fresh = told.with_suffix(".new")
            fresh.write_text(f"capacity {self.capacity_of(name)} track {track}\n")
            fresh.replace(told)

    def require_room(self, ds_path: str, offset: int, size: int) -> None:
        """As `need_space`, for every write into a disk: by the last sum and what came since."""
        if not self.grows(ds_path):
            return
        name, _ = split(ds_path)
        if self.used(name) + size > self.capacity_of(name):
            # What came since may have gone over what was there.
            self._usage.pop(name)
            if self.used(name) + size > self.capacity_of(name):
                if self.is_allocated(ds_path, offset, size):
                    return
                raise self.full(ds_path)
        when, total = self._usage[name]
        self._usage[name] = (when, total + size)

    def is_allocated(self, ds_path: str, offset: int, size: int) -> bool:
        """Whether a thin base disk has all of this already; of a delta link nobody says so."""
        path = self.path(ds_path)
        flat = path.with_name(f"{path.stem}-flat.vmdk")
        if not flat.exists():
            return False
        with flat.open("rb") as file:
            return os.lseek(file.fileno(), offset, os.SEEK_HOLE) >= offset + size

    def grows(self, ds_path: str) -> bool:
        """Whether writing may take room: a thick base disk has all of its own."""
        if ds_path not in self._grows:
            with self.path(ds_path).open("rb") as file:
                head = file.read(2048)
            self._grows[ds_path] = b" VMFS " not in head or b"thinProvisioned" in head
        return self._grows[ds_path]

    def require_space(self, ds_path: str, size: int) -> None:
        """Raises NoDiskSpace where `size` more bytes do not fit."""
        name, _ = split(ds_path)
        self._usage.pop(name, None)
        if self.used(name) + size > self.capacity_of(name):
            raise self.full(ds_path)
        self._usage.pop(name, None)

    def forget(self, ds_path: str) -> None:
        """The file is gone: another one may come under its name."""
        self._grows.pop(ds_path, None)

    def full(self, ds_path: str) -> Any:
        name, _ = split(ds_path)
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


def taken(entry: os.DirEntry[str] | Path) -> int:
    """Bytes that a file takes; none where it is gone meanwhile."""
    try:
        found = entry.stat(follow_symlinks=False)
        if entry.name.endswith("-flat.vmdk"):
            descriptor = Path(os.fspath(entry).removesuffix("-flat.vmdk") + ".vmdk")
            if "thinProvisioned" not in descriptor.read_text(errors="replace"):
                return found.st_size
    except OSError:
        return 0
    return found.st_blocks * 512
