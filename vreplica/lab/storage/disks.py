"""All work on VMDK files, through the native library; the rest of the lab knows paths only.

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
from collections.abc import Iterator
from functools import cached_property

from vreplica.disk_errors import DiskFull, DiskLocked, DiskNotFound
from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.files import copy_sparse
from vreplica.lab.api.vmodl import fault, vim
from vreplica.lab.storage.change_map import ctk_path, spelled
from vreplica.lab.storage.space import Space, taken
from vreplica.units import BLOCK, MIB, SECTOR, round_down
from vreplica.vddk.abi import Adapter, DiskType
from vreplica.vddk.config import VddkConfig, bundled_libdir
from vreplica.vddk.disk import VddkDisk
from vreplica.vddk.errors import FileExists
from vreplica.vddk.handle import DiskHandle
from vreplica.vddk.library import Library

_PIECE = 4 * MIB


class Disks(Space):
    """The disks of one site."""

    @cached_property
    def library(self) -> Library:
        return Library.load(VddkConfig(libdir=bundled_libdir()))

    # -- making and removing ----------------------------------------------------------------

    @contextlib.contextmanager
    def explained(self, ds_path: str) -> Iterator[None]:
        """DiskAccessError -> what a host says about the file."""
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

    def create(self, ds_path: str, capacity: int, *, thin: bool) -> str:
        """Make an empty base disk; returns its uuid as the API spells it."""
        path = self.path(ds_path)
        if not thin:
            self.require_space(ds_path, capacity)
        self.site.orphan_files.making(ds_path)
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
        self.site.orphan_files.making(child)
        with self.explained(child), self.open(parent) as opened:
            self.library.create_child(opened, self.path(child), DiskType.MONOLITHIC_SPARSE)

    def unlink(self, ds_path: str) -> None:
        """Remove one link with its map; one that is gone already is no error."""
        path = self.path(ds_path)
        if path.exists():
            with self.explained(ds_path):
                self.library.unlink(path)
        ctk_path(path).unlink(missing_ok=True)
        self.forget(ds_path)

    def grow(self, ds_path: str, capacity: int) -> None:
        """Extend a base disk: its flat file, then the one extent of its descriptor."""
        path = self.path(ds_path)
        old = self.capacity(ds_path)
        text = path.read_text()
        if "thinProvisioned" not in text:
            self.require_space(ds_path, capacity - old)
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

    def open(
        self, ds_path: str, *, read_only: bool = True, single_link: bool = False
    ) -> DiskHandle:
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
        if thin:
            self.require_space(target, self.allocated(source).total)
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
        names = (old.name, f"{old.stem}-flat.vmdk", f"{old.stem}-ctk.vmdk")
        files = [file for n in names if (file := old.with_name(n)).exists()]
        self.require_space(target, sum(map(taken, files)))
        self.site.orphan_files.making(target)
        new.parent.mkdir(parents=True, exist_ok=True)
        for file in files:
            copy_sparse(file, new.with_name(file.name))


def copy_allocated(read: DiskHandle, name: str, write: DiskHandle) -> None:
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
