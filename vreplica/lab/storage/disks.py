"""Makes, reads, writes and merges VMDK files, through the native library.

    web.vmdk  <-  web-000001.vmdk  <-  web-000002.vmdk        a chain; the right end is the leaf
    merge(web.vmdk, web-000001.vmdk, [web-000002.vmdk]):
    web.vmdk (now with what -000001 held)  <-  web-000002.vmdk

The rest of the lab knows disks by their paths only. An error of the library becomes the fault
that an ESXi host would raise.
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
from vreplica.lab.storage.change_map import ctk_path, format_uuid
from vreplica.lab.storage.space import DatastoreSpace, bytes_taken
from vreplica.units import BLOCK, MIB, SECTOR, round_down
from vreplica.vddk.abi import Adapter, DiskType
from vreplica.vddk.config import VddkConfig, bundled_libdir
from vreplica.vddk.disk import VddkDisk
from vreplica.vddk.errors import FileExists
from vreplica.vddk.handle import DiskHandle
from vreplica.vddk.library import Library

_PIECE = 4 * MIB


class DiskFiles(DatastoreSpace):
    """The disk files of one site."""

    @cached_property
    def library(self) -> Library:
        return Library.load(VddkConfig(libdir=bundled_libdir()))

    # -- making and removing ----------------------------------------------------------------

    @contextlib.contextmanager
    def as_vsphere_faults(self, ds_path: str) -> Iterator[None]:
        """Turns errors of the library into the faults that a host raises about the file."""
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
            raise self.no_space(ds_path) from None
        except VReplicaError as error:
            raise fault(
                vim.fault.FileFault,
                f"Error caused by file {ds_path}: {error.message}",
                file=ds_path,
            ) from error

    def create(self, ds_path: str, capacity: int, *, thin: bool) -> str:
        """Makes an empty base disk. Returns its uuid in the form of the API."""
        path = self.path(ds_path)
        if not thin:
            self.require_space(ds_path, capacity)
        self.site.orphan_files.note_new(ds_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.as_vsphere_faults(ds_path):
            kind = DiskType.VMFS_THIN if thin else DiskType.VMFS_FLAT
            self.library.create(path, capacity, kind, Adapter.LSILOGIC)
            return self.assign_uuid(ds_path)

    def assign_uuid(self, ds_path: str) -> str:
        """Gives a disk a new uuid of the kind that vSphere makes. Returns it."""
        raw = b"\x60\x00\xc2" + bytes([0x90 | secrets.randbelow(16)]) + secrets.token_bytes(12)
        with self.open(ds_path, read_only=False) as disk:
            disk.write_metadata("uuid", format_uuid(raw))
        return api_uuid(raw)

    def uuid_of(self, ds_path: str) -> str | None:
        with self.open(ds_path) as disk:
            text = disk.info.uuid
        return api_uuid(bytes.fromhex(re.sub("[ -]", "", text))) if text else None

    def create_child(self, parent: str, child: str) -> None:
        self.site.orphan_files.note_new(child)
        self.path(child).parent.mkdir(parents=True, exist_ok=True)
        with self.as_vsphere_faults(child), self.open(parent) as opened:
            self.library.create_child(opened, self.path(child), DiskType.MONOLITHIC_SPARSE)

    def unlink(self, ds_path: str) -> None:
        """Removes one link with its change map. A missing file is not an error."""
        path = self.path(ds_path)
        if path.exists():
            with self.as_vsphere_faults(ds_path):
                self.library.unlink(path)
        ctk_path(path).unlink(missing_ok=True)
        self.forget_kind(ds_path)

    def grow(self, ds_path: str, capacity: int) -> None:
        """Extends a base disk: its flat file first, then the extent in its descriptor."""
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
        """Opens a disk. One that is open for writing is locked until it is closed."""
        with self.as_vsphere_faults(ds_path):
            return self.library.open(
                self.path(ds_path), read_only=read_only, single_link=single_link
            )

    def check_unlocked(self, ds_path: str) -> None:
        """Raises FileLocked while the disk is open for writing."""
        self.open(ds_path, read_only=False, single_link=True).close()

    def capacity(self, ds_path: str) -> int:
        with self.open(ds_path) as disk:
            return disk.capacity_bytes

    def allocated(self, ds_path: str) -> Extents:
        """Allocated areas of the whole chain."""
        with self.open(ds_path) as disk, self.as_vsphere_faults(ds_path):
            return VddkDisk(disk, ds_path, read_only=True).allocated()

    def set_parent(self, parent: str, child: str) -> None:
        """Writes into `child` that `parent` is its parent."""
        with self.as_vsphere_faults(child):
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
        """Copies the content of `child` into `link`, and puts `grandchildren` on top of `link`.

        It can be repeated from the start after a kill: the child stays whole until the state no
        longer has it, and hides what was copied below it.
        """
        # An interrupted merge changed the content id of `link`; this makes the child match again.
        self.set_parent(link, child)
        with self.open(child) as chain:
            capacity = chain.capacity_bytes
            # The library reports allocation in whole blocks only. The rest of the last block is
            # read through the chain, whichever link holds it.
            whole = round_down(capacity, BLOCK)
            tail = memoryview(bytearray(capacity - whole))
            if tail:
                chain.read_into(whole, tail)
        with (
            self.open(child, single_link=True) as above,
            self.open(link, read_only=False) as below,
            self.as_vsphere_faults(link),
        ):
            allocated = VddkDisk(above, child, read_only=True).allocated().clip(0, whole)
            buffer = memoryview(bytearray(_PIECE))
            for start, end in allocated.split(_PIECE):
                piece = buffer[: end - start]
                above.read_into(start, piece)
                below.write_from(start, piece)
            if tail:
                below.write_from(whole, tail)
            below.flush()
        for above_it in grandchildren:
            self.set_parent(link, above_it)
        changes = ctk_path(self.path(child))
        if changes.exists():
            changes.replace(ctk_path(self.path(link)))

    def copy(self, source: str, target: str, *, thin: bool) -> str:
        """Makes a base disk with the content of a whole chain. Returns its uuid."""
        if thin:
            self.require_space(target, self.allocated(source).total)
        uuid = self.create(target, self.capacity(source), thin=thin)
        with (
            self.open(source) as read,
            self.open(target, read_only=False) as write,
            self.as_vsphere_faults(target),
        ):
            copy_allocated(read, source, write)
        return uuid

    def copy_link(self, source: str, target: str) -> None:
        """Copies the files of one link with its change map. File names and parent hints stay."""
        old, new = self.path(source), self.path(target)
        if new.exists():
            raise fault(vim.fault.FileAlreadyExists, f"File {target} already exists", file=target)
        names = (old.name, f"{old.stem}-flat.vmdk", f"{old.stem}-ctk.vmdk")
        files = [file for n in names if (file := old.with_name(n)).exists()]
        self.require_space(target, sum(map(bytes_taken, files)))
        self.site.orphan_files.note_new(target)
        new.parent.mkdir(parents=True, exist_ok=True)
        for file in files:
            copy_sparse(file, new.with_name(file.name))


def copy_allocated(read: DiskHandle, name: str, write: DiskHandle) -> None:
    """Copies the allocated areas of one open disk into another, empty one."""
    buffer = memoryview(bytearray(_PIECE))
    for start, end in VddkDisk(read, name, read_only=True).allocated().split(_PIECE):
        read.read_into(start, buffer[: end - start])
        write.write_from(start, buffer[: end - start])
    write.flush()


def api_uuid(raw: bytes) -> str:
    """The uuid `60 00 c2 90 ...` of a VMDK in the form of the API, `6000C290-1234-...`."""
    text = raw.hex()
    return "-".join([text[:8].upper(), *(text[i : i + 4] for i in (8, 12, 16)), text[20:]])
