"""Clone, grow, shrink, defragment, check and repair, rename: judged by content and qemu-img."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import native_library
from vreplica.errors import VReplicaError
from vreplica.vddk.abi import DiskType
from vreplica.vddk.library import Library

MIB = 1 << 20
FORMS = [
    DiskType.MONOLITHIC_SPARSE,
    DiskType.MONOLITHIC_FLAT,
    DiskType.SPLIT_SPARSE,
    DiskType.SPLIT_FLAT,
    DiskType.VMFS_FLAT,
    DiskType.VMFS_THIN,
]
BY_NAME = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


def filled(library: Library, model: Any, path: Path, form: DiskType, writes: int = 40) -> None:
    library.create(path, model.capacity, form)
    with library.open(path, read_only=False) as handle:
        model.churn(handle, writes)


@pytest.mark.parametrize("form", [*FORMS, DiskType.STREAM_OPTIMIZED], ids=lambda form: form.name)
def test_a_clone_holds_the_whole_chain(
    form: DiskType, library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model()
    base, child, copy = (tmp_path / f"{name}.vmdk" for name in ("base", "child", "copy"))
    filled(library, model, base, DiskType.VMFS_THIN)
    with library.open(base) as handle:
        library.create_child(handle, child)
    with library.open(child, read_only=False) as handle:
        model.churn(handle, 30)
        needed = native_library.space_needed_for_clone(library, handle, form)
    percents: list[int] = []
    native_library.clone(library, child, copy, form, progress=percents.append)
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    qemu_img.compare(model.path, copy)
    with library.open(copy) as handle:
        assert handle.info.links == 1
    files = sum(file.stat().st_size for file in tmp_path.glob("copy*"))
    assert files <= needed + MIB or form is DiskType.VMFS_THIN
    with pytest.raises(VReplicaError):
        native_library.clone(library, child, copy, form)
    native_library.clone(library, base, copy, form, overwrite=True)


@BY_NAME
def test_a_grown_disk_keeps_its_content_and_can_be_filled(
    form: DiskType, library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    disk = tmp_path / "disk.vmdk"
    model = new_model(capacity=40 * MIB + 77 * 512)
    filled(library, model, disk, form)
    for capacity in (41 * MIB, 3 * 1024 * MIB + 512):
        end = model.capacity
        library.grow(disk, capacity)
        os.truncate(model.path, capacity)
        model.capacity = capacity
        with library.open(disk, read_only=False) as handle:
            assert handle.capacity_bytes == capacity
            model.churn(handle, 20)
            model.write(handle, end - 512, b"\5" * 65536)  # across the old end
            model.write(handle, capacity - 512, b"\7" * 512)
        qemu_img.compare(model.path, disk)
        native_library.check_repair(library, disk)
    if form in {DiskType.MONOLITHIC_SPARSE, DiskType.SPLIT_SPARSE}:
        qemu_img.check(disk)


def test_a_disk_with_snapshots_does_not_grow(library: Library, tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    library.create(base, MIB)
    with library.open(base) as handle:
        library.create_child(handle, child)
    with pytest.raises(VReplicaError):
        library.grow(child, 2 * MIB)


def test_shrink_gives_zeroed_grains_back_and_cuts_the_file(
    library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model(capacity=64 * MIB)
    disk = tmp_path / "disk.vmdk"
    library.create(disk, model.capacity)
    with library.open(disk, read_only=False) as handle:
        model.write(handle, 0, model.random.randbytes(32 * MIB))
        for offset in range(0, 16 * MIB, 32768):  # zeros in pieces smaller than a grain
            model.write(handle, offset, bytes(32768))
        model.churn(handle, 30)
        before = disk.stat().st_size
        native_library.shrink(library, handle)
        model.assert_equal(handle)
        model.churn(handle, 20)
        model.assert_equal(handle)
    assert disk.stat().st_size < before - 8 * MIB
    qemu_img.check(disk)
    qemu_img.compare(model.path, disk)
    native_library.check_repair(library, disk)


@pytest.mark.parametrize("grown", [False, True])
def test_defragment_puts_grains_in_order(
    grown: bool, library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model(capacity=40 * MIB)
    disk = tmp_path / "disk.vmdk"
    filled(library, model, disk, DiskType.MONOLITHIC_SPARSE)
    if grown:
        model.capacity = 900 * MIB
        os.truncate(model.path, model.capacity)
        library.grow(disk, model.capacity)
        with library.open(disk, read_only=False) as handle:
            model.churn(handle, 40)
    with library.open(disk, read_only=False) as handle:
        native_library.defragment(library, handle)
        model.assert_equal(handle)
    qemu_img.check(disk)
    qemu_img.compare(model.path, disk)
    native_library.check_repair(library, disk)
    mapped = [
        entry["offset"]
        for entry in qemu_img.map(disk)
        if entry.get("offset") is not None and entry["data"]
    ]
    assert len(mapped) > 5
    assert mapped == sorted(mapped)


def tables_of(disk: Path) -> tuple[int, int]:
    """Byte offsets of the first primary and the first redundant grain table."""
    image = disk.read_bytes()
    redundant, primary = struct.unpack_from("<QQ", image, 48)
    return tuple(  # type: ignore[return-value]
        struct.unpack_from("<I", image, sector * 512)[0] * 512 for sector in (primary, redundant)
    )


@pytest.mark.parametrize("copy", [0, 1], ids=["primary", "redundant"])
def test_a_damaged_table_is_found_and_repaired_from_the_other(
    copy: int, library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model(capacity=16 * MIB)
    disk = tmp_path / "disk.vmdk"
    filled(library, model, disk, DiskType.MONOLITHIC_SPARSE)
    native_library.check_repair(library, disk)
    at = tables_of(disk)[copy]
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(b"\xf0\xff\xff\x7f" * 8)
    with pytest.raises(VReplicaError):
        native_library.check_repair(library, disk)
    native_library.check_repair(library, disk, repair=True)
    native_library.check_repair(library, disk)
    qemu_img.check(disk)
    qemu_img.compare(model.path, disk)


def test_what_both_copies_have_lost_stays_an_error(
    library: Library, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model(capacity=16 * MIB)
    disk = tmp_path / "disk.vmdk"
    filled(library, model, disk, DiskType.MONOLITHIC_SPARSE)
    with disk.open("r+b") as file:
        for at in tables_of(disk):
            file.seek(at)
            file.write(b"\xf0\xff\xff\x7f")
    before = disk.read_bytes()
    for repair in (False, True):
        with pytest.raises(VReplicaError):
            native_library.check_repair(library, disk, repair=repair)
    assert disk.read_bytes() == before


@BY_NAME
def test_a_renamed_disk_has_all_its_files_under_the_new_name(
    form: DiskType, library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model()
    (tmp_path / "other").mkdir()
    old, new = tmp_path / "old.vmdk", tmp_path / "other" / "new.vmdk"
    filled(library, model, old, form)
    files = len(list(tmp_path.glob("old*")))
    native_library.rename(library, old, new)
    assert not list(tmp_path.glob("old*"))
    assert len(list(new.parent.glob("new*"))) == files
    qemu_img.compare(model.path, new)
    with library.open(new) as handle:
        model.assert_equal(handle)


def test_a_renamed_child_still_finds_its_parent(
    library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model()
    (tmp_path / "other").mkdir()
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    moved = tmp_path / "other" / "moved.vmdk"
    filled(library, model, base, DiskType.VMFS_FLAT)
    with library.open(base) as handle:
        library.create_child(handle, child)
    with library.open(child, read_only=False) as handle:
        model.churn(handle, 10)
    native_library.rename(library, child, moved)
    qemu_img.compare(model.path, moved)
    with library.open(moved) as handle:
        assert handle.info.links == 2
        model.assert_equal(handle)
