"""Calls that make and change disks: what of the Python arguments reaches the C function.

Against the dummy, which logs what it was told; what the native library makes of them is in
test_vddk_native.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support import native_library
from vreplica.disk_errors import DiskDamaged
from vreplica.units import MIB
from vreplica.vddk.abi import Adapter, DiskType
from vreplica.vddk.library import Library
from vreplica.vddk.session import LogTap


@pytest.fixture
def library(dummy: Any) -> Library:
    return Library.load(dummy.config())


@pytest.fixture
def last(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG, "vreplica.vddk")
    return lambda: caplog.records[-1].getMessage()


def test_create_passes_whole_zeroed_parameters(library: Library, last: Any) -> None:
    library.create("/d/a.vmdk", 3 * MIB, DiskType.VMFS_THIN, Adapter.BUSLOGIC, hw_version=20)
    assert last() == "create /d/a.vmdk at 1: type=7 adapter=2 hw=20 sectors=6144 sizes=0/0"
    library.create(Path("/d/b.vmdk"), 512)
    assert last() == "create /d/b.vmdk at 1: type=1 adapter=3 hw=13 sectors=1 sizes=0/0"


def test_progress_is_reported_and_may_repeat(library: Library) -> None:
    percents: list[int] = []
    library.create("/d/a.vmdk", MIB, progress=percents.append)
    assert percents == [0, 50, 50, 100]


def test_a_failing_progress_callback_is_called_once_and_raised(library: Library) -> None:
    calls: list[int] = []

    def fail(percent: int) -> None:
        calls.append(percent)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        library.create("/d/a.vmdk", MIB, progress=fail)
    assert calls == [0]


def test_clone_takes_the_capacity_from_its_source(
    library: Library, dummy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "vreplica.vddk")
    source = dummy.disk(bytes(MIB))
    native_library.clone(library, source, "/d/copy.vmdk", DiskType.SPLIT_SPARSE, overwrite=True)
    native_library.clone(library, source, "/d/copy.vmdk")
    cloned = [r.getMessage() for r in caplog.records if r.getMessage().startswith("clone")]
    common = f"clone {source} to /d/copy.vmdk (1): "
    assert cloned == [
        common + "type=3 adapter=3 hw=13 sectors=2048 sizes=0/0 overwrite=1",
        common + "type=1 adapter=3 hw=13 sectors=2048 sizes=0/0 overwrite=0",
    ]


def test_grow_is_told_sectors(library: Library, last: Any) -> None:
    library.grow("/d/a.vmdk", 4 * MIB)
    assert last() == "grow /d/a.vmdk at 1 to 8192 geometry=1"
    library.grow("/d/a.vmdk", MIB, update_geometry=False)
    assert last() == "grow /d/a.vmdk at 1 to 2048 geometry=0"
    with pytest.raises(ValueError, match="not whole sectors"):
        library.grow("/d/a.vmdk", 100)


def test_rename_and_check(library: Library, last: Any) -> None:
    native_library.rename(library, "/d/a.vmdk", "/d/b.vmdk")
    assert last() == "rename /d/a.vmdk to /d/b.vmdk"
    with pytest.raises(DiskDamaged):
        native_library.check_repair(library, "/d/a.vmdk")
    native_library.check_repair(library, "/d/a.vmdk", repair=True)
    assert last() == "check /d/a.vmdk at 1 repair=1"


def test_calls_on_an_open_disk(library: Library, dummy: Any, last: Any) -> None:
    path = dummy.disk(os.urandom(MIB))
    with library.open(path, read_only=False) as disk:
        native_library.shrink(library, disk)
        assert last() == f"shrink {path}"
        native_library.defragment(library, disk)
        assert last() == f"defragment {path}"
        assert native_library.space_needed_for_clone(library, disk, DiskType.VMFS_FLAT) == MIB + 5


def test_a_transfer_of_nothing_is_one(library: Library, dummy: Any) -> None:
    with library.open(dummy.disk(b"\1" * 512), read_only=False) as handle:
        handle.read_into(0, memoryview(bytearray()))
        handle.write_from(0, memoryview(bytearray()))


def test_what_the_library_says_again_and_again_is_told_once() -> None:
    log = LogTap(lambda level, text: None)
    said = ["grain lies outside the file", "the disk is damaged"]
    assert log.detail([said[0], said[0], said[1], said[0]]) == "; ".join(said)
