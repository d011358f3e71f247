"""Calls of VixDiskLib that the product does not use, for tests of the native library."""

from __future__ import annotations

from ctypes import byref, c_uint64
from pathlib import Path

from vreplica.vddk import abi
from vreplica.vddk.abi import Adapter, DiskType
from vreplica.vddk.binding import CallFailed, encoded
from vreplica.vddk.handle import DiskHandle, as_disk_error
from vreplica.vddk.library import Library, Progress, create_params, reported


def clone(
    library: Library,
    source: str | Path,
    target: str | Path,
    disk_type: DiskType = DiskType.MONOLITHIC_SPARSE,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Copies a local disk, whole chain, into a new one of the given type."""
    # The capacity is the source's; Clone takes the rest from the parameters.
    params = create_params(0, disk_type, Adapter.LSILOGIC, abi.HW_VERSION)
    with library.open(source) as opened:
        params.capacity = opened.info.capacity_sectors
    names = (library.local, encoded(str(target)), library.local, encoded(str(source)))
    session = library.session
    with as_disk_error(str(target)), session.adding_log(), reported(progress) as callback:
        session.api.Clone(*names, byref(params), callback, None, overwrite)


def rename(library: Library, source: str | Path, target: str | Path) -> None:
    """Renames a local disk."""
    with as_disk_error(str(source)), library.session.adding_log():
        library.session.api.Rename(encoded(str(source)), encoded(str(target)))


def check_repair(library: Library, path: str | Path, *, repair: bool = False) -> None:
    """Raises DiskDamaged where a sparse disk's metadata is inconsistent (and not repaired)."""
    with as_disk_error(str(path)), library.session.adding_log():
        library.session.api.CheckRepair(library.local, encoded(str(path)), repair)


def is_attach_possible(library: Library, parent: DiskHandle, child: DiskHandle) -> bool:
    """Asks whether `child` fits on top of `parent`."""
    try:
        library.session.api.IsAttachPossible(parent.raw.handle, child.raw.handle)
    except CallFailed:
        return False
    return True


def shrink(library: Library, disk: DiskHandle) -> None:
    """Gives unused space of a sparse disk back."""
    with as_disk_error(disk.path), library.session.adding_log(), reported(None) as callback:
        library.session.api.Shrink(disk.raw.handle, callback, None)


def defragment(library: Library, disk: DiskHandle) -> None:
    """Puts the grains of a sparse disk into their order."""
    with as_disk_error(disk.path), library.session.adding_log(), reported(None) as callback:
        library.session.api.Defragment(disk.raw.handle, callback, None)


def space_needed_for_clone(library: Library, disk: DiskHandle, disk_type: DiskType) -> int:
    """Returns the bytes that a clone of this type takes."""
    out = c_uint64()
    with as_disk_error(disk.path), library.session.adding_log():
        library.session.api.SpaceNeededForClone(disk.raw.handle, disk_type, byref(out))
    return out.value
