"""Every form and chain shape, written by one side and read by the other: library and qemu-img.

`pytest -v` on this file is the table of pairs: `[base of the library or subformat of qemu-child]`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vreplica.vddk.abi import DiskType
from vreplica.vddk.library import Library

WRITABLE = [
    DiskType.MONOLITHIC_SPARSE,
    DiskType.MONOLITHIC_FLAT,
    DiskType.SPLIT_SPARSE,
    DiskType.SPLIT_FLAT,
    DiskType.VMFS_FLAT,
    DiskType.VMFS_THIN,
]
SPARSE = {DiskType.MONOLITHIC_SPARSE, DiskType.SPLIT_SPARSE}
SPLIT = {DiskType.SPLIT_SPARSE, DiskType.SPLIT_FLAT}
SEVERAL_EXTENTS = (4500 << 20) + 77 * 512
QEMU_FORMS = [
    "subformat=monolithicSparse",
    "subformat=monolithicSparse,zeroed_grain=on",
    "subformat=monolithicFlat",
    "subformat=twoGbMaxExtentSparse",
    "subformat=twoGbMaxExtentFlat",
]


@pytest.mark.parametrize("form", WRITABLE, ids=lambda form: form.name)
def test_qemu_img_reads_what_the_library_writes(
    form: DiskType, library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model(SEVERAL_EXTENTS) if form in SPLIT else new_model()
    disk = tmp_path / "disk.vmdk"
    library.create(disk, model.capacity, form)
    with library.open(disk, read_only=False) as handle:
        model.churn(handle, 60)
        if form in SPLIT:
            model.write(handle, (2047 << 20) - 1024, b"\3" * 4096)  # across two extents
        handle.flush()
    qemu_img.compare(model.path, disk)
    if form in SPARSE:
        qemu_img.check(disk)


@pytest.mark.parametrize("form", WRITABLE, ids=lambda form: form.name)
@pytest.mark.parametrize("delta", sorted(SPARSE), ids=lambda form: form.name)
def test_qemu_img_reads_a_chain_of_the_library(
    form: DiskType,
    delta: DiskType,
    library: Library,
    qemu_img: Any,
    new_model: Callable[..., Any],
    tmp_path: Path,
) -> None:
    model = new_model()
    links = [tmp_path / "disk.vmdk"]
    library.create(links[0], model.capacity, form)
    for depth in range(1, 5):
        with library.open(links[-1], read_only=False) as handle:
            model.churn(handle, 15)
            links.append(tmp_path / f"disk-{depth:06d}.vmdk")
            library.create_child(handle, links[-1], delta)
    with library.open(links[-1], read_only=False) as handle:
        model.churn(handle, 15)
        model.assert_equal(handle)
        assert handle.info.links == 5
    qemu_img.compare(model.path, links[-1])
    for link in links[1:]:
        qemu_img.check(link)


@pytest.mark.parametrize("options", QEMU_FORMS)
def test_the_library_reads_and_continues_what_qemu_img_writes(
    options: str,
    library: Library,
    qemu_img: Any,
    new_model: Callable[..., Any],
    tmp_path: Path,
) -> None:
    model = new_model(2100 << 20) if "twoGb" in options else new_model()
    model.fill(40)
    disk = tmp_path / "disk.vmdk"
    qemu_img.convert(model.path, disk, options)
    qemu_img.compare(model.path, disk)
    with library.open(disk, read_only=False) as handle:
        model.churn(handle, 30)
        model.assert_equal(handle)
    qemu_img.compare(model.path, disk)


@pytest.mark.parametrize("options", QEMU_FORMS)
def test_the_library_goes_on_with_a_chain_of_qemu_img_and_back(
    options: str,
    library: Library,
    qemu_img: Any,
    new_model: Callable[..., Any],
    tmp_path: Path,
) -> None:
    model = new_model()
    model.fill(30)
    base, child, grandchild = (tmp_path / f"{name}.vmdk" for name in ("base", "child", "top"))
    qemu_img.convert(model.path, base, options)
    qemu_img.run("create", "-q", "-f", "vmdk", "-b", base, "-F", "vmdk", child)
    with library.open(child, read_only=False) as handle:
        assert handle.info.links == 2
        model.assert_equal(handle)
        model.churn(handle, 20)
        library.create_child(handle, grandchild)
    with library.open(grandchild, read_only=False) as handle:
        model.churn(handle, 20)
        model.assert_equal(handle)
    qemu_img.compare(model.path, grandchild)
    qemu_img.check(child)
    qemu_img.check(grandchild)


def test_a_chain_of_32_links_reads_right(
    library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model(capacity=8 << 20)
    disk = tmp_path / "disk.vmdk"
    library.create(disk, model.capacity, DiskType.VMFS_THIN)
    for depth in range(1, 33):
        child = tmp_path / f"disk-{depth:06d}.vmdk"
        with library.open(disk, read_only=False) as handle:
            model.churn(handle, 3)
            library.create_child(handle, child)
        disk = child
    with library.open(disk) as handle:
        assert handle.info.links == 33
        model.assert_equal(handle)
    qemu_img.compare(model.path, disk)


def test_zeros_over_a_parents_data_cost_no_grain(
    library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model(capacity=16 << 20)
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    library.create(base, model.capacity)
    with library.open(base, read_only=False) as handle:
        model.write(handle, 0, b"\1" * (8 << 20))
        library.create_child(handle, child)
    before = child.stat().st_size
    with library.open(child, read_only=False) as handle:
        model.write(handle, 1 << 20, bytes(15 << 20))
        model.assert_equal(handle)
    assert child.stat().st_size == before
    qemu_img.compare(model.path, child)
    qemu_img.check(child)


LIBRARY_BASES = [*WRITABLE, DiskType.STREAM_OPTIMIZED]
QEMU_BASES = [*QEMU_FORMS, "subformat=streamOptimized"]
CHILDREN = [DiskType.MONOLITHIC_SPARSE, DiskType.SPLIT_SPARSE, DiskType.VMFS_SPARSE, "qemu-img"]


def named(form: DiskType | str) -> str:
    return form if isinstance(form, str) else form.name


@pytest.mark.parametrize("child_form", CHILDREN, ids=named)
@pytest.mark.parametrize("base_form", [*LIBRARY_BASES, *QEMU_BASES], ids=named)
def test_both_sides_write_and_read_every_pair_of_base_and_child(
    base_form: DiskType | str,
    child_form: DiskType | str,
    library: Library,
    qemu_img: Any,
    tool: Callable[[str, str], str],
    new_model: Callable[..., Any],
    tmp_path: Path,
) -> None:
    model = new_model(capacity=(4 << 20) + 77 * 512)
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    model.fill(8)
    if isinstance(base_form, str):
        qemu_img.convert(model.path, base, base_form)
    else:
        library.create(base, model.capacity, base_form)
        with library.open(base, read_only=False) as handle:
            handle.write_from(0, memoryview(model.path.read_bytes()))
    if isinstance(child_form, str):
        qemu_img.run("create", "-q", "-f", "vmdk", "-b", base, "-F", "vmdk", child)
    else:
        with library.open(base) as handle:
            library.create_child(handle, child, child_form)

    def equal_for_both() -> None:
        qemu_img.compare(model.path, child)
        with library.open(child) as handle:
            assert handle.info.links == 2
            model.assert_equal(handle)

    with library.open(child, read_only=False) as handle:
        model.churn(handle, 8)
    equal_for_both()
    with model.path.open("r+b") as file:
        for offset, size in ((512, 1536), (1 << 20, 65536), (3 << 20, 512)):
            write = f"write -q -P 9 {offset} {size}"
            subprocess.run(
                [tool("qemu-io", "qemu-utils"), "-f", "vmdk", "-c", write, child],
                check=True,
                timeout=60,
            )
            file.seek(offset)
            file.write(b"\x09" * size)
    equal_for_both()
    with library.open(child, read_only=False) as handle:
        model.churn(handle, 4)
    equal_for_both()
    qemu_img.check(child)
