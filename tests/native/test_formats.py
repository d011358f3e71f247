"""The forms with rules of their own: streamOptimized, vmfsSparse, seSparse, other encodings."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vreplica.disk_errors import DiskAccessError, DiskEncrypted
from vreplica.errors import VReplicaError
from vreplica.vddk.abi import DiskType
from vreplica.vddk.library import Library

MIB = 1 << 20
DESCRIPTOR = """# Disk DescriptorFile
version=1
encoding="{encoding}"
CID=0badcafe
parentCID={parent_cid}
createType="{create_type}"
{hint}
RW {sectors} {extent}
ddb.adapterType = "lsilogic"
"""


def describe(**fields: Any) -> str:
    return DESCRIPTOR.format(**{"encoding": "UTF-8", "parent_cid": "ffffffff", "hint": ""} | fields)


def test_the_library_reads_a_stream_of_qemu_img(
    library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model()
    model.fill(40)
    disk = tmp_path / "disk.vmdk"
    qemu_img.convert(model.path, disk, "subformat=streamOptimized")
    with library.open(disk) as handle:
        model.assert_equal(handle)


def test_qemu_img_reads_a_stream_written_front_to_back(
    library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model(capacity=80 * MIB + 512 * 77)
    disk = tmp_path / "disk.vmdk"
    library.create(disk, model.capacity, DiskType.STREAM_OPTIMIZED)
    qemu_img.compare(model.path, disk)
    with library.open(disk, read_only=False) as handle:
        for offset in (0, 65536 + 512, 3 * MIB, 70 * MIB + 1024, model.capacity - 512):
            size = min(model.random.randrange(1, 500) * 512, model.capacity - offset)
            model.write(handle, offset, model.random.randbytes(size))
        with pytest.raises(VReplicaError):
            handle.write_from(0, memoryview(bytes(512)))
    qemu_img.check(disk)
    qemu_img.compare(model.path, disk)
    with library.open(disk) as handle:
        model.assert_equal(handle)
    with library.open(disk, read_only=False) as handle, pytest.raises(VReplicaError):
        handle.write_from(0, memoryview(bytes(512)))
    qemu_img.compare(model.path, disk)


def test_qemu_img_reads_vmfs_sparse_deltas_of_the_library(
    library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model()
    base, middle, top = (tmp_path / f"{name}.vmdk" for name in ("base", "middle", "top"))
    library.create(base, model.capacity, DiskType.VMFS_FLAT)
    with library.open(base, read_only=False) as handle:
        model.churn(handle, 20)
        library.create_child(handle, middle, DiskType.VMFS_SPARSE)
    with library.open(middle, read_only=False) as handle:
        model.churn(handle, 30)
        model.assert_equal(handle)
        library.create_child(handle, top, DiskType.VMFS_SPARSE)
    qemu_img.compare(model.path, middle)
    with library.open(top, read_only=False) as handle:
        model.churn(handle, 30)
    with library.open(top, read_only=False) as handle:
        model.churn(handle, 10)
        model.assert_equal(handle)
    qemu_img.compare(model.path, top)
    qemu_img.check(top)


def se_sparse(capacity_sectors: int, grains: dict[int, bytes | None]) -> bytes:
    """A seSparse extent: grain number -> 4 KiB of data, None for a grain of zeros.

    The fields and entries are those that qemu's reader of the format names.
    """
    tables = -(-capacity_sectors // (8 * 4096))
    used = sorted({grain // 4096 for grain in grains})
    directory_sectors = -(-tables * 8 // 512)
    directory, first_table = 8, 8 + directory_sectors
    first_grain = first_table + 64 * len(used)
    header = struct.pack(
        "<26Q",
        *(0xCAFEBABE, 0x200000001, capacity_sectors, 8, 64, 0, 0, 0, 0, 0),
        *(1, 1, 2, 1, 3, 1),  # volatile header, journal header, journal
        *(directory, directory_sectors, first_table, 64 * len(used)),
        *(7, 1, 7, 1),  # free bitmap and back map, which readers pass over
        *(first_grain, 8 * len(grains)),
    )
    volatile = struct.pack("<4Q", 0xCAFECAFE, 0, 0, 0)
    image = bytearray(first_grain * 512)
    image[: len(header)] = header
    image[512 : 512 + len(volatile)] = volatile
    for number, table in enumerate(used):
        struct.pack_into("<Q", image, directory * 512 + table * 8, 0x10000000 << 32 | number)
    stored = 0
    for grain, data in grains.items():
        entry = 2 << 60
        if data is not None:
            entry = 3 << 60 | (stored & 0xFFF) << 48 | stored >> 12
            image += data
            stored += 1
        at = (first_table + 64 * used.index(grain // 4096)) * 512 + grain % 4096 * 8
        struct.pack_into("<Q", image, at, entry)
    return bytes(image)


@pytest.fixture
def se_sparse_chain(
    library: Library, new_model: Callable[..., Any], tmp_path: Path
) -> tuple[Any, Path]:
    """A flat base under a seSparse delta with scattered grains, and what they hold together."""
    model = new_model(capacity=50 * MIB)
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    library.create(base, model.capacity, DiskType.VMFS_FLAT)
    with library.open(base, read_only=False) as handle:
        model.churn(handle, 30)
    cid = next(
        line[4:] for line in base.read_text(encoding="utf-8").splitlines() if line[:4] == "CID="
    )
    numbers = [0, 1, 2, 4095, 4096, 9000, 12799, *model.random.sample(range(100, 4000), 50)]
    grains: dict[int, bytes | None] = {
        number: None if number % 7 == 1 else model.random.randbytes(4096) for number in numbers
    }
    with model.path.open("r+b") as file:
        for number, data in grains.items():
            file.seek(number * 4096)
            file.write(data or bytes(4096))
    sectors = model.capacity // 512
    (tmp_path / "child-sesparse.vmdk").write_bytes(se_sparse(sectors, grains))
    child.write_text(
        describe(
            parent_cid=cid,
            create_type="seSparse",
            hint='parentFileNameHint="base.vmdk"',
            sectors=sectors,
            extent='SESPARSE "child-sesparse.vmdk"',
        ),
        encoding="utf-8",
    )
    return model, child


def test_the_library_reads_se_sparse_as_qemu_img_does(
    se_sparse_chain: tuple[Any, Path], library: Library, qemu_img: Any
) -> None:
    model, child = se_sparse_chain
    qemu_img.compare(model.path, child)
    with library.open(child) as handle:
        assert handle.info.links == 2
        model.assert_equal(handle)


def test_se_sparse_is_not_written(
    se_sparse_chain: tuple[Any, Path], library: Library, qemu_img: Any
) -> None:
    model, child = se_sparse_chain
    before = (child.read_bytes(), child.with_name("child-sesparse.vmdk").read_bytes())
    with library.open(child, read_only=False) as handle, pytest.raises(VReplicaError):
        handle.write_from(0, memoryview(bytes(512)))
    assert before == (child.read_bytes(), child.with_name("child-sesparse.vmdk").read_bytes())
    qemu_img.compare(model.path, child)


@pytest.mark.parametrize(
    ("encoding", "codec", "name"),
    [
        ("windows-1252", "cp1252", "größe"),
        ("GBK", "gbk", "磁盘"),
        ("Shift_JIS", "shift_jis", "ディスク"),
        ("UTF-8", "utf-8", "ディスク"),
        # ICU's names, which VMware's programs write
        ("windows-949-2000", "cp949", "우분투"),
        ("windows-936-2000", "gbk", "磁盘"),
        ("windows-950-2000", "cp950", "磁碟"),
        ("windows-874-2000", "cp874", "ดิสก์"),
        ("windows-1251", "cp1251", "диск"),
        ("ibm-943_P15A-2003", "cp932", "ディスク"),
        ("ibm-5348_P100-1997", "cp1252", "größe"),
        ("ibm-5347_P100-1998", "cp1251", "диск"),
        ("IBM-1363_P11B-1998", "cp949", "우분투"),
    ],
)
def test_extent_names_are_read_in_the_descriptors_encoding(
    encoding: str, codec: str, name: str, library: Library, tmp_path: Path
) -> None:
    (tmp_path / f"{name}-flat.vmdk").write_bytes(b"\5" * 4096)
    disk = tmp_path / "disk.vmdk"
    extent = f'FLAT "{name}-flat.vmdk" 0'
    text = describe(encoding=encoding, create_type="monolithicFlat", sectors=8, extent=extent)
    disk.write_bytes(text.encode(codec))
    content = bytearray(4096)
    with library.open(disk, read_only=False) as handle:
        handle.read_into(0, memoryview(content))
        handle.write_from(512, memoryview(b"\6" * 512))
    assert content == b"\5" * 4096
    assert f'"{name}-flat.vmdk"' in disk.read_bytes().decode(codec)


@pytest.mark.parametrize(
    "encoding",
    [
        "klingon",
        "windows-",
        "windows-949x",
        "windows-99999-2000",
        "ibm-",
        "ibm-949",
    ],
)
def test_an_unknown_encoding_is_an_error(encoding: str, library: Library, tmp_path: Path) -> None:
    disk = tmp_path / "disk.vmdk"
    text = describe(encoding=encoding, create_type="vmfs", sectors=8, extent='VMFS "f\xe4"')
    disk.write_bytes(text.encode("latin-1"))
    with pytest.raises(DiskAccessError) as caught:
        library.open(disk)
    assert caught.value.code in (16061, 16053)


@pytest.mark.parametrize(
    "line",
    [
        'encryptionKeys="vmware:key/list/(pair/(null/zzz),HMAC-SHA-256,AAAA)"',
        'keyID="vmware:key/list/(pair/(fqid/<VMWARE-NULL>/NKP/abc),HMAC-SHA-256,xx)"',
        'encryption.data = "AAAA"',
        'ddb.iofilters = "vmwarevmcrypt"',
    ],
)
def test_an_encrypted_disk_needs_a_key(line: str, library: Library, tmp_path: Path) -> None:
    disk = tmp_path / "disk.vmdk"
    (tmp_path / "f").write_bytes(bytes(4096))
    text = describe(create_type="vmfs", sectors=8, extent='VMFS "f"')
    disk.write_text(f"{text}\n{line}\n")
    with pytest.raises(DiskEncrypted) as caught:
        library.open(disk)
    assert caught.value.code == 16014
    assert "key" in str(caught.value)
    # A filter that is no encryption stops nothing.
    disk.write_text(f'{text}\nddb.iofilters = "VMW_spm"\n')
    library.open(disk).close()


def test_the_redundant_directory_serves_when_the_primary_is_lost(
    library: Library, qemu_img: Any, new_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = new_model()
    disk = tmp_path / "disk.vmdk"
    library.create(disk, model.capacity)
    with library.open(disk, read_only=False) as handle:
        model.churn(handle, 30)
    with disk.open("r+b") as file:
        file.seek(56)
        file.write(struct.pack("<Q", 1 << 40))
    with library.open(disk) as handle:
        model.assert_equal(handle)
