"""All work on VMDK files, through the native library; the rest of the lab knows paths only.

    "[ds1] web/web-000001.vmdk"  <->  DIR/site-a/ds1/web/web-000001.vmdk

    web.vmdk  <-  web-000001.vmdk  <-  web-000002.vmdk        a chain; the right end is the leaf
    merge(web.vmdk, web-000001.vmdk, [web-000002.vmdk]):
    web.vmdk (now with what -000001 held)  <-  web-000002.vmdk

Failures of the library become the faults that a host gives.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.lab.cbt import copy_sparse, ctk_path, spelled
from vreplica.lab.vmodl import fault, vim
from vreplica.units import BLOCK, MIB, SECTOR, round_down
from vreplica.vddk import Adapter, DiskType, Handle, Library, VddkConfig, VddkDisk
from vreplica.vddk.config import bundled_libdir
from vreplica.vddk.errors import DiskFull, DiskLocked, DiskNotFound, FileExists

if TYPE_CHECKING:
    from vreplica.lab.site import Site

_PATH = re.compile(r"\[([^\]]+)\]\s*(.*)")
_PIECE = 4 * MIB
_USAGE_S = 1.0
"""How long a sum over a datastore's files is taken as current."""


def split(ds_path: str) -> tuple[str, str]:
    """`[ds] dir/x.vmdk` -> (ds, dir/x.vmdk). Raises InvalidDatastorePath."""
    match = _PATH.fullmatch((ds_path or "").strip())
    if match is None or any(part == ".." for part in match[2].split("/")):
        raise fault(
            vim.fault.InvalidDatastorePath,
            f"Invalid datastore path '{ds_path}'.",
            datastorePath=ds_path or "",
        )
    return match[1], match[2].strip("/")


class Disks:
    """The datastores of one site as folders of files."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._usage: dict[str, tuple[float, int]] = {}
        self._grows: dict[str, bool] = {}

    @cached_property
    def library(self) -> Library:
        return Library.load(VddkConfig(libdir=bundled_libdir()))

    # -- paths ------------------------------------------------------------------------------

    def folder(self, datastore: str) -> Path:
        return self.site.directory / datastore

    def path(self, ds_path: str) -> Path:
        """Where a datastore path lies. Raises InvalidDatastorePath, InvalidDatastore."""
        name, rest = split(ds_path)
        if not self.folder(name).is_dir():
            raise fault(vim.fault.InvalidDatastore, f"Invalid datastore '{name}'.", name=name)
        return self.folder(name) / rest

    def ds_path(self, path: Path) -> str:
        datastore, *rest = path.relative_to(self.site.directory).parts
        return f"[{datastore}] {'/'.join(rest)}"

    def beside(self, ds_path: str, name: str) -> str:
        """The datastore path of a file in the same folder."""
        return ds_path.rpartition("/")[0] + "/" + name

    def parent_of(self, ds_path: str, hint: str) -> str:
        """What a descriptor's parentFileNameHint means: beside it, relative, or absolute."""
        below = Path(os.path.normpath(self.path(ds_path).parent / hint))
        return self.ds_path(below)

    def free_name(self, ds_path: str) -> str:
        """`[ds] d/x.vmdk`, or with _1, _2, ... where that is taken."""
        path = self.path(ds_path)
        number = 0
        while path.exists():
            number += 1
            path = path.with_name(f"{self.path(ds_path).stem}_{number}{path.suffix}")
        return self.ds_path(path)

    def delta_name(self, ds_path: str) -> str:
        """The next free `x-000001.vmdk` for a disk of any depth of its chain."""
        path = self.path(ds_path)
        stem = re.sub(r"-\d{6}$", "", path.stem)
        number = 1
        while (made := path.with_name(f"{stem}-{number:06d}.vmdk")).exists():
            number += 1
        return self.ds_path(made)

    # -- making and removing ----------------------------------------------------------------

    @contextlib.contextmanager
    def explained(self, ds_path: str) -> Iterator[None]:
        """VddkError -> what a host says about the file."""
        try:
            yield
        except FileExists:
            raise fault(
                vim.fault.FileAlreadyExists,
                f"Cannot complete the operation because the file '{ds_path}' already exists",
                file=ds_path,
            ) from None
        except DiskNotFound:
            raise fault(
                vim.fault.FileNotFound, f"File {ds_path} was not found", file=ds_path
            ) from None
        except DiskLocked:
            raise fault(
                vim.fault.FileLocked,
                f"Unable to access file {ds_path} since it is locked",
                file=ds_path,
            ) from None
        except DiskFull:
            raise self.full(ds_path) from None
        except VReplicaError as error:
            raise fault(
                vim.fault.FileFault,
                f"Error caused by file {ds_path}: {error.message}",
                file=ds_path,
            ) from error

    def full(self, ds_path: str) -> Any:
        name, _ = split(ds_path)
        return fault(
            vim.fault.NoDiskSpace,
            f"Insufficient disk space on datastore '{name}'.",
            file=ds_path,
            datastore=name,
        )

    def create(self, ds_path: str, capacity: int, *, thin: bool) -> str:
        """Make an empty base disk; returns its uuid as the API spells it."""
        path = self.path(ds_path)
        if not thin:
            self.need_space(ds_path, capacity)
        self.site.loose.making(ds_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.explained(ds_path):
            kind = DiskType.VMFS_THIN if thin else DiskType.VMFS_FLAT
            self.library.create(path, capacity, kind, Adapter.LSILOGIC)
            return self.name_uuid(ds_path)

    def name_uuid(self, ds_path: str) -> str:
        """Give a disk a fresh uuid, the way vSphere makes them."""
        raw = b"\x60\x00\xc2" + bytes([0x90 | secrets.randbelow(16)]) + secrets.token_bytes(12)
        with self.open(ds_path, read_only=False) as disk:
            disk.write_metadata("uuid", spelled(raw))
        return api_uuid(raw)

    def uuid_of(self, ds_path: str) -> str | None:
        with self.open(ds_path) as disk:
            text = disk.info.uuid
        return api_uuid(bytes.fromhex(re.sub("[ -]", "", text))) if text else None

    def create_child(self, parent: str, child: str) -> None:
        self.site.loose.making(child)
        with self.explained(child), self.open(parent) as opened:
            self.library.create_child(opened, self.path(child), DiskType.MONOLITHIC_SPARSE)

    def unlink(self, ds_path: str) -> None:
        """Remove one link with its map; one that is gone already is no error."""
        path = self.path(ds_path)
        if path.exists():
            with self.explained(ds_path):
                self.library.unlink(path)
        ctk_path(path).unlink(missing_ok=True)
        self._grows.pop(ds_path, None)

    def grow(self, ds_path: str, capacity: int) -> None:
        """Extend a base disk: its flat file, then the one extent of its descriptor."""
        path = self.path(ds_path)
        old = self.capacity(ds_path)
        text = path.read_text()
        if "thinProvisioned" not in text:
            self.need_space(ds_path, capacity - old)
        grown, count = re.subn(
            r"^RW \d+ VMFS", f"RW {capacity // SECTOR} VMFS", text, flags=re.MULTILINE
        )
        if count != 1:
            raise fault(vim.fault.FileFault, f"{ds_path} is not a base disk", file=ds_path)
        self.check_unlocked(ds_path)
        os.truncate(path.with_name(f"{path.stem}-flat.vmdk"), capacity)
        fresh = path.with_name(path.name + "~")
        fresh.write_text(grown)
        fresh.replace(path)

    # -- reading and writing ----------------------------------------------------------------

    def open(self, ds_path: str, *, read_only: bool = True, single_link: bool = False) -> Handle:
        """Opened for writing, the link is locked until it is closed."""
        with self.explained(ds_path):
            return self.library.open(
                self.path(ds_path), read_only=read_only, single_link=single_link
            )

    def check_unlocked(self, ds_path: str) -> None:
        """Raises FileLocked while somebody writes to the disk."""
        self.open(ds_path, read_only=False, single_link=True).close()

    def capacity(self, ds_path: str) -> int:
        with self.open(ds_path) as disk:
            return disk.capacity_bytes

    def allocated(self, ds_path: str) -> Extents:
        """Over the whole chain."""
        with self.open(ds_path) as disk, self.explained(ds_path):
            return VddkDisk(disk, ds_path, read_only=True).allocated()

    def attach(self, parent: str, child: str) -> None:
        """Make `child` point at `parent`, durably."""
        with self.explained(child):
            top = self.library.open(self.path(child), read_only=False, single_link=True)
            try:
                base = self.library.open(self.path(parent))
                try:
                    self.library.attach(base, top)
                except BaseException:
                    base.close()
                    raise
            finally:
                top.close()

    def merge(self, link: str, child: str, grandchildren: list[str]) -> None:
        """Put what `child` holds into `link`, and `grandchildren` on top of `link`.

        Can be repeated from the start after a crash at any point: until the state says
        otherwise the child stays whole and hides what was copied below it.
        """
        # An interrupted merge has given `link` a new content id; this makes the child fit again.
        self.attach(link, child)
        with self.open(child) as chain:
            capacity = chain.capacity_bytes
            # Less than a whole block at the end cannot be asked for: the chain's view is
            # right for it whoever holds it.
            whole = round_down(capacity, BLOCK)
            tail = memoryview(bytearray(capacity - whole))
            if tail:
                chain.read_into(whole, tail)
        with (
            self.open(child, single_link=True) as above,
            self.open(link, read_only=False) as below,
            self.explained(link),
        ):
            held = VddkDisk(above, child, read_only=True).allocated().clip(0, whole)
            buffer = memoryview(bytearray(_PIECE))
            for start, end in held.split(_PIECE):
                piece = buffer[: end - start]
                above.read_into(start, piece)
                below.write_from(start, piece)
            if tail:
                below.write_from(whole, tail)
            below.flush()
        for above_it in grandchildren:
            self.attach(link, above_it)
        changes = ctk_path(self.path(child))
        if changes.exists():
            changes.replace(ctk_path(self.path(link)))

    def copy(self, source: str, target: str, *, thin: bool) -> str:
        """A new base disk with the content of a whole chain; returns its uuid."""
        uuid = self.create(target, self.capacity(source), thin=thin)
        with (
            self.open(source) as read,
            self.open(target, read_only=False) as write,
            self.explained(target),
        ):
            copy_allocated(read, source, write)
        return uuid

    def copy_link(self, source: str, target: str) -> None:
        """The files of one link with its map, as they are; the names stay, so do the hints."""
        old, new = self.path(source), self.path(target)
        if new.exists():
            raise fault(vim.fault.FileAlreadyExists, f"File {target} already exists", file=target)
        self.site.loose.making(target)
        new.parent.mkdir(parents=True, exist_ok=True)
        names = (old.name, f"{old.stem}-flat.vmdk", f"{old.stem}-ctk.vmdk")
        for file in (old.with_name(n) for n in names):
            if file.exists():
                copy_sparse(file, new.with_name(file.name))

    # -- space ------------------------------------------------------------------------------

    def capacity_of(self, datastore: str) -> int:
        return int(self.site.datastore(datastore).capacity)

    def used(self, datastore: str) -> int:
        """Bytes that the files take; a thick disk takes its capacity though its file is sparse."""
        when, total = self._usage.get(datastore, (0.0, 0))
        if time.monotonic() - when > _USAGE_S:
            total = sum(_taken(f) for f in _files(self.folder(datastore)))
            self._usage[datastore] = (time.monotonic(), total)
        return total

    def forget_usage(self) -> None:
        """Take the next sums fresh."""
        self._usage.clear()

    def need_room(self, ds_path: str, offset: int, size: int) -> None:
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

    def need_space(self, ds_path: str, size: int) -> None:
        """Raises NoDiskSpace where `size` more bytes do not fit."""
        name, _ = split(ds_path)
        self._usage.pop(name, None)
        if self.used(name) + size > self.capacity_of(name):
            raise self.full(ds_path)
        self._usage.pop(name, None)


def copy_allocated(read: Handle, name: str, write: Handle, limit: int | None = None) -> None:
    """Copy everything that is allocated in one open disk into another, empty one."""
    buffer = memoryview(bytearray(_PIECE))
    for start, end in VddkDisk(read, name, read_only=True).allocated().split(_PIECE):
        read.read_into(start, buffer[: end - start])
        write.write_from(start, buffer[: end - start])
    write.flush()


def api_uuid(raw: bytes) -> str:
    """`6000C290-1234-...`: how the API spells what a VMDK has as `60 00 c2 90 ...`."""
    text = raw.hex()
    return "-".join([text[:8].upper(), *(text[i : i + 4] for i in (8, 12, 16)), text[20:]])


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                yield entry


def _taken(entry: os.DirEntry[str]) -> int:
    try:
        found = entry.stat(follow_symlinks=False)
        if entry.name.endswith("-flat.vmdk"):
            descriptor = Path(entry.path.removesuffix("-flat.vmdk") + ".vmdk")
            if "thinProvisioned" not in descriptor.read_text(errors="replace"):
                return found.st_size
    except OSError:
        return 0
    return found.st_blocks * 512
