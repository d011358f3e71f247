"""The native library through the bindings: making disks, and the lab's remote connections."""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import native_library
from vreplica.disk_errors import (
    AuthenticationFailed,
    CertificateMismatch,
    DiskAccessError,
    DiskDamaged,
    DiskLocked,
    DiskNotFound,
    DiskOutOfRange,
    HostConnection,
    InvalidRequest,
)
from vreplica.extents import Extents
from vreplica.units import KIB, MIB, SECTOR
from vreplica.vddk.abi import Adapter, DiskType
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.errors import FileExists, MetadataMissing
from vreplica.vddk.library import Library
from vreplica.vddk.open import open_vddk_disk

LOCAL = VddkConnection()


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load()


def write(library: Library, path: Path, offset: int, data: bytes) -> None:
    with library.open(path, read_only=False) as disk:
        disk.write_from(offset, memoryview(data))


def read(library: Library, path: Path, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    with library.open(path) as disk:
        disk.read_into(offset, memoryview(buffer))
    return bytes(buffer)


# -- making disks ---------------------------------------------------------------------------


def test_create_takes_capacity_type_and_adapter(library: Library, tmp_path: Path) -> None:
    percents: list[int] = []
    path = tmp_path / "a.vmdk"
    library.create(
        path,
        3 * MIB + SECTOR,
        DiskType.MONOLITHIC_FLAT,
        Adapter.BUSLOGIC,
        progress=percents.append,
    )
    with library.open(path) as disk:
        assert disk.capacity_bytes == 3 * MIB + SECTOR
        assert disk.info.adapter == Adapter.BUSLOGIC
        assert (disk.info.links, disk.info.parent_hint) == (1, None)
        assert disk.info.logical_sector_size == 512
        assert disk.transport_mode == "file"
    assert percents
    assert percents[-1] == 100


def test_an_error_of_a_progress_callback_is_raised_after_the_call(
    library: Library, tmp_path: Path
) -> None:
    def fail(percent: int) -> None:
        raise RuntimeError(f"at {percent}")

    with pytest.raises(RuntimeError, match="at "):
        library.create(tmp_path / "a.vmdk", MIB, DiskType.MONOLITHIC_FLAT, progress=fail)


def test_create_refuses_what_exists(library: Library, tmp_path: Path) -> None:
    library.create(tmp_path / "a.vmdk", MIB)
    with pytest.raises(FileExists) as caught:
        library.create(tmp_path / "a.vmdk", MIB)
    assert caught.value.path == str(tmp_path / "a.vmdk")


def test_capacity_is_whole_sectors(library: Library, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not whole sectors"):
        library.create(tmp_path / "a.vmdk", 1000)
    assert not (tmp_path / "a.vmdk").exists()


def test_a_child_reads_through_to_its_parent(library: Library, tmp_path: Path) -> None:
    base, child = tmp_path / "a.vmdk", tmp_path / "a-000001.vmdk"
    library.create(base, 4 * MIB, DiskType.VMFS_THIN)
    write(library, base, 0, b"base" * 128 * 256)
    with library.open(base) as parent:
        library.create_child(parent, child)
    write(library, child, 64 * KIB, b"leaf" * 128 * 128)
    with library.open(child) as disk:
        assert disk.info.links == 2
        assert Path(disk.info.parent_hint or "").name == "a.vmdk"
    assert read(library, child, 0, 128 * KIB) == b"base" * 16 * KIB + b"leaf" * 16 * KIB
    assert read(library, base, 64 * KIB, 64 * KIB) == b"base" * 16 * KIB


def test_single_link_sees_the_leaf_alone(library: Library, tmp_path: Path) -> None:
    base, child = tmp_path / "a.vmdk", tmp_path / "a-000001.vmdk"
    library.create(base, 4 * MIB)
    write(library, base, MIB, os.urandom(MIB))
    with library.open(base) as parent:
        library.create_child(parent, child)
    write(library, child, 0, os.urandom(64 * KIB))
    for isolation in (False, True):
        config = VddkConfig(isolation=isolation)
        with open_vddk_disk(config, LOCAL, str(child), single_link=True) as leaf:
            assert leaf.allocated() == Extents.of(0, 64 * KIB)
        with open_vddk_disk(config, LOCAL, str(child)) as chain:
            assert chain.allocated() == Extents.from_pairs([(0, 64 * KIB), (MIB, 2 * MIB)])


def test_attach_puts_a_link_on_another_base_for_good(library: Library, tmp_path: Path) -> None:
    first, second, child = (tmp_path / n for n in ("a.vmdk", "b.vmdk", "c.vmdk"))
    for base, letter in ((first, b"1"), (second, b"2")):
        library.create(base, 2 * MIB)
        write(library, base, 0, letter * MIB)
    with library.open(first) as parent:
        library.create_child(parent, child)
    parent = library.open(second)
    with library.open(child, read_only=False, single_link=True) as leaf:
        assert native_library.is_attach_possible(library, parent, leaf)
        library.attach(parent, leaf)
        assert leaf.info.links == 2
        buffer = bytearray(SECTOR)
        leaf.read_into(0, memoryview(buffer))
        assert buffer == b"2" * SECTOR
    parent.close()
    assert read(library, child, 0, SECTOR) == b"2" * SECTOR, "also when opened anew"


def test_clone_copies_the_chain_into_one_disk(library: Library, tmp_path: Path) -> None:
    base, child, copy = (tmp_path / n for n in ("a.vmdk", "a-000001.vmdk", "copy.vmdk"))
    library.create(base, 4 * MIB)
    write(library, base, MIB, b"x" * MIB)
    with library.open(base) as parent:
        library.create_child(parent, child)
    write(library, child, 0, b"y" * MIB)
    native_library.clone(library, child, copy, DiskType.MONOLITHIC_FLAT)
    assert read(library, copy, 0, 4 * MIB) == b"y" * MIB + b"x" * MIB + bytes(2 * MIB)
    with library.open(copy) as disk:
        assert disk.info.links == 1
    with pytest.raises(FileExists):
        native_library.clone(library, child, copy)
    native_library.clone(library, base, copy, overwrite=True)
    assert read(library, copy, 0, MIB) == bytes(MIB)


def test_grow_keeps_the_content_and_adds_zeros(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "a.vmdk"
    library.create(path, MIB)
    write(library, path, 0, b"z" * MIB)
    library.grow(path, 3 * MIB)
    assert read(library, path, 0, 3 * MIB) == b"z" * MIB + bytes(2 * MIB)


def test_shrink_gives_back_what_is_zero(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "a.vmdk"
    library.create(path, 8 * MIB)
    write(library, path, 0, os.urandom(8 * MIB))
    write(library, path, MIB, bytes(7 * MIB))
    before = path.stat().st_size
    with library.open(path, read_only=False) as disk:
        native_library.shrink(library, disk)
    assert path.stat().st_size < before // 2
    native_library.check_repair(library, path)


def test_rename_and_unlink_take_all_files_of_a_disk(library: Library, tmp_path: Path) -> None:
    library.create(tmp_path / "a.vmdk", MIB, DiskType.VMFS_FLAT)
    assert {p.name for p in tmp_path.iterdir()} == {"a.vmdk", "a-flat.vmdk"}
    native_library.rename(library, tmp_path / "a.vmdk", tmp_path / "b.vmdk")
    assert {p.name for p in tmp_path.iterdir()} == {"b.vmdk", "b-flat.vmdk"}
    library.unlink(tmp_path / "b.vmdk")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DiskNotFound):
        library.unlink(tmp_path / "b.vmdk")


def test_metadata_is_read_written_and_missing(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "a.vmdk"
    library.create(path, MIB)
    uuid = "60 00 c2 9a 11 22 33 44-55 66 77 88 99 aa bb cc"
    with library.open(path, read_only=False) as disk:
        disk.write_metadata("uuid", uuid)
        assert disk.read_metadata("uuid") == uuid
        assert disk.metadata()["adapterType"] == "lsilogic"
        with pytest.raises(MetadataMissing) as caught:
            disk.read_metadata("no.such.key")
        assert caught.value.code == 16052
    with library.open(path) as disk:
        assert disk.metadata()["uuid"] == uuid
        assert disk.info.uuid == uuid


def test_the_library_itself_knows_the_end_of_the_disk(library: Library, tmp_path: Path) -> None:
    library.create(tmp_path / "a.vmdk", MIB)
    with library.open(tmp_path / "a.vmdk") as disk, pytest.raises(DiskOutOfRange):
        disk.read_into(MIB, memoryview(bytearray(SECTOR)))


def test_a_truncated_disk_is_damaged_not_empty(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "a.vmdk"
    library.create(path, 4 * MIB, DiskType.MONOLITHIC_FLAT)
    os.truncate(tmp_path / "a-flat.vmdk", MIB)
    for isolation in (False, True):
        with pytest.raises(DiskDamaged):
            open_vddk_disk(VddkConfig(isolation=isolation), LOCAL, str(path))


def test_a_second_writer_is_refused_and_a_dead_one_leaves_no_lock(
    library: Library, tmp_path: Path
) -> None:
    path = tmp_path / "a.vmdk"
    library.create(path, MIB)
    writer = open_vddk_disk(VddkConfig(), LOCAL, str(path), read_only=False)
    with pytest.raises(DiskLocked) as caught:
        open_vddk_disk(VddkConfig(), LOCAL, str(path), read_only=False)
    assert caught.value.retryable
    assert writer.helper_pid
    os.kill(writer.helper_pid, signal.SIGKILL)
    with pytest.raises(Exception, match="SIGKILL"):
        writer.flush()
    open_vddk_disk(VddkConfig(), LOCAL, str(path), read_only=False).close()


def test_names_are_utf_8_and_end_where_they_end(
    library: Library, tmp_path: Path, isolation: bool
) -> None:
    path = tmp_path / "größe 数.vmdk"
    library.create(path, MIB)
    with open_vddk_disk(VddkConfig(isolation=isolation), LOCAL, str(path)) as disk:
        assert disk.capacity_bytes == MIB
    with pytest.raises(ValueError, match="NUL"):
        library.create(f"{tmp_path}/a.vmdk\0.txt", MIB)
    assert not (tmp_path / "a.vmdk").exists()
    with pytest.raises(InvalidRequest):
        library.create(tmp_path / os.fsdecode(b"latin-\xe9.vmdk"), MIB)


# -- the lab's servers ----------------------------------------------------------------------

THUMBPRINT = ":".join(["A1"] * 20)


@pytest.fixture
def lab(library: Library, tmp_path: Path) -> Any:
    """One vCenter with a datastore that holds vm/vm.vmdk; a factory of configurations."""
    root, store = tmp_path / "lab", tmp_path / "lab" / "store"
    (store / "vm").mkdir(parents=True)
    records = [
        ("vcenter", "vc.lab", "8443", THUMBPRINT, "root", "s3cret!"),
        ("datastore", "vc.lab", "8443", "ds 1", str(store)),
    ]
    (root / "hosts.map").write_text("".join("\t".join(r) + "\n" for r in records))
    (root / "vixdisklib.conf").write_text(f"vreplica.lab.root={root}\n")
    library.create(store / "vm" / "vm.vmdk", 8 * MIB, DiskType.VMFS_THIN)
    write(library, store / "vm" / "vm.vmdk", MIB, b"remote" * 1024 * 128)
    return root


SERVER = VddkConnection(
    server="vc.lab",
    port=8443,
    user="root",
    password="s3cret!",
    thumbprint_sha1=THUMBPRINT,
    vmx_spec="moref=vm-1",
)
DISK = "[ds 1] vm/vm.vmdk"


def config_of(lab: Path) -> VddkConfig:
    return VddkConfig(config_file=lab / "vixdisklib.conf")


def test_a_remote_disk_is_read_over_nbdssl_with_requests_in_flight(
    lab: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "vreplica.vddk")
    with open_vddk_disk(config_of(lab), SERVER, DISK) as disk:
        assert (disk.name, disk.transport_mode) == (DISK, "nbdssl")
        buffer = bytearray(8 * MIB)
        disk.read_into(0, memoryview(buffer))
        content = b"remote" * 1024 * 128
        assert buffer == bytes(MIB) + content + bytes(7 * MIB - len(content))
        assert disk.allocated().covers(Extents.of(MIB, MIB + len(content)))
    assert "s3cret!" not in caplog.text


def test_a_remote_disk_is_written(lab: Path) -> None:
    content = os.urandom(5 * MIB)
    writable = replace(SERVER, read_only=False)
    with open_vddk_disk(config_of(lab), writable, DISK, read_only=False) as disk:
        disk.write_from(2 * MIB, memoryview(content))
        disk.flush()
    with open_vddk_disk(VddkConfig(), LOCAL, str(lab / "store/vm/vm.vmdk")) as disk:
        buffer = bytearray(5 * MIB)
        disk.read_into(2 * MIB, memoryview(buffer))
        assert buffer == content


@pytest.mark.parametrize(
    ("change", "path", "expected", "text"),
    [
        ({"password": "wr0ng!"}, DISK, AuthenticationFailed, "code 35"),
        ({"thumbprint_sha1": ":".join(["B2"] * 20)}, DISK, CertificateMismatch, "A1:A1.*"),
        ({"thumbprint_sha1": None}, DISK, CertificateMismatch, "A1:A1"),
        ({"server": "elsewhere"}, DISK, HostConnection, "no vCenter at elsewhere"),
        ({"port": 443}, DISK, HostConnection, "no vCenter at vc.lab:443"),
        ({}, "[ds 1] vm/other.vmdk", DiskNotFound, "other.vmdk"),
        ({}, "[ds 2] vm/vm.vmdk", DiskNotFound, "ds 2"),
        ({}, "[ds 1] ../../etc/x.vmdk", DiskAccessError, "x.vmdk"),
    ],
)
def test_refusals_of_a_server_are_told_apart(
    lab: Path, change: dict[str, Any], path: str, expected: type[DiskAccessError], text: str
) -> None:
    with pytest.raises(expected, match=text) as caught:
        open_vddk_disk(config_of(lab), replace(SERVER, **change), path)
    assert type(caught.value) is expected or expected is DiskAccessError
    assert "wr0ng!" not in str(caught.value)


def test_a_thumbprint_may_have_colons_or_not(lab: Path) -> None:
    plain = THUMBPRINT.replace(":", "").lower()
    open_vddk_disk(config_of(lab), replace(SERVER, thumbprint_sha1=plain), DISK).close()


def test_the_leaf_of_a_running_vm_cannot_be_opened_remotely_but_locally(lab: Path) -> None:
    local = str(lab / "store/vm/vm.vmdk")
    running = open_vddk_disk(VddkConfig(), LOCAL, local, read_only=False)
    with pytest.raises(DiskLocked):
        open_vddk_disk(config_of(lab), SERVER, DISK)
    open_vddk_disk(VddkConfig(), LOCAL, local).close()
    running.close()
    open_vddk_disk(config_of(lab), SERVER, DISK).close()


def test_without_the_configuration_of_the_lab_a_server_is_one_of_the_network(lab: Path) -> None:
    nowhere = replace(SERVER, server="vc.invalid")
    with pytest.raises(HostConnection, match=r"vc\.invalid"):
        open_vddk_disk(VddkConfig(), nowhere, DISK)
