"""A local disk that is only read has a handle for each thread that reads at once."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vreplica.disk_errors import DiskAccessError
from vreplica.units import MIB
from vreplica.vddk.abi import DiskType
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.disk import VddkDisk
from vreplica.vddk.handle import DiskHandle
from vreplica.vddk.library import Library
from vreplica.vddk.open import open_vddk_disk
from vreplica.vddk.reader_pool import READERS, ReaderPool

LOCAL = VddkConnection()
IN_PROCESS = VddkConfig(isolation=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.vmdk"
    Library.load().create(path, READERS * MIB, DiskType.MONOLITHIC_FLAT)
    with open_vddk_disk(IN_PROCESS, LOCAL, str(path), read_only=False) as disk:
        for number in range(READERS):
            disk.write_from(number * MIB, memoryview(bytes([number + 1]) * MIB))
    return path


def read_at_once(disk: VddkDisk) -> list[bytes]:
    """What each of READERS threads read, each its own MiB, all started together."""
    start = threading.Barrier(READERS)
    found = [bytearray(MIB) for _ in range(READERS)]

    def read(number: int) -> None:
        start.wait(timeout=10)
        for _ in range(20):
            disk.read_into(number * MIB, memoryview(found[number]))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [bytes(piece) for piece in found]


def expected() -> list[bytes]:
    return [bytes([number + 1]) * MIB for number in range(READERS)]


def test_each_thread_reads_its_own_bytes(path: Path) -> None:
    with open_vddk_disk(IN_PROCESS, LOCAL, str(path)) as disk:
        assert disk.parallel_reads == READERS
        assert read_at_once(disk) == expected()


def test_a_disk_that_is_written_has_one_handle(path: Path) -> None:
    with open_vddk_disk(IN_PROCESS, LOCAL, str(path), read_only=False) as disk:
        assert disk.parallel_reads == 1


class Meeting(DiskHandle):
    """Stays in its first transfer until `all_in` have begun one."""

    all_in: threading.Barrier

    def transfer(self, write: bool, requests: object) -> None:  # type: ignore[override]
        self.all_in.wait(timeout=10)
        super().transfer(write, requests)  # type: ignore[arg-type]


def meeting(path: Path, all_in: threading.Barrier) -> DiskHandle:
    handle = Library.load().open(path)
    handle.__class__ = Meeting
    handle.all_in = all_in  # type: ignore[attr-defined]
    return handle


def test_handles_are_opened_when_they_are_needed_and_all_closed(path: Path) -> None:
    opened: list[DiskHandle] = []
    all_in = threading.Barrier(READERS)

    def another() -> DiskHandle:
        opened.append(meeting(path, all_in))
        return opened[-1]

    readers = ReaderPool(another(), another)
    disk = VddkDisk(readers, str(path), read_only=True)
    threads = [
        threading.Thread(target=disk.read_into, args=(0, memoryview(bytearray(512))))
        for _ in range(READERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == READERS
    disk.close()
    assert [handle.raw.handle for handle in opened] == [None] * READERS


def test_a_disk_that_cannot_be_opened_again_is_read_by_one_handle(path: Path) -> None:
    tries = []

    def another() -> DiskHandle:
        tries.append(1)
        raise DiskAccessError(
            path=str(path), doing="VixDiskLib_Open", reason="too many", code=16065
        )

    disk = VddkDisk(ReaderPool(Library.load().open(path), another), str(path), read_only=True)
    assert read_at_once(disk) == expected()
    assert tries == [1], "it was tried, once"
    disk.close()


def test_a_disk_that_has_taken_the_name_since_is_not_read(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.vmdk"
    Library.load().create(other, READERS * MIB, DiskType.MONOLITHIC_FLAT)
    with open_vddk_disk(IN_PROCESS, LOCAL, str(path)) as disk:
        other.rename(path)
        assert read_at_once(disk) == expected()


class Stubborn(DiskHandle):
    def close(self) -> None:
        super().close()
        raise DiskAccessError(path=self.path, doing="VixDiskLib_Close", reason="unknown", code=1)


def test_a_handle_that_fails_to_close_does_not_leave_the_others_open(path: Path) -> None:
    handles = [Library.load().open(path) for _ in range(READERS)]
    handles[-1].__class__ = Stubborn
    readers = ReaderPool(handles[0], handles.pop)
    readers._handles += handles[1:]
    with pytest.raises(DiskAccessError):
        readers.close()
    assert [handle.raw.handle for handle in handles] == [None] * READERS


def a_few() -> int:
    return 3 * sum(1 for _ in Path("/proc/self/fd").iterdir())


def none() -> int:
    with Path(os.devnull).open() as lowest:
        return lowest.fileno()


@pytest.mark.parametrize("left", [a_few, none])
def test_where_files_are_scarce_one_handle_has_to_do(path: Path, left: Callable[[], int]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[DiskHandle] = []

    def another() -> DiskHandle:
        opened.append(Library.load().open(path))
        return opened[-1]

    with VddkDisk(ReaderPool(another(), another), str(path), read_only=True) as disk:
        resource.setrlimit(resource.RLIMIT_NOFILE, (left(), limits[1]))
        try:
            assert read_at_once(disk) == expected()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(opened) == 1


def test_a_piece_that_fails_is_named_whichever_of_the_call_it_is(path: Path) -> None:
    """The native library takes all pieces in one call."""
    end = READERS * MIB
    with Library.load().open(path) as handle:
        buffer = bytearray(1024)
        pieces = [(0, memoryview(buffer)[:512]), (end, memoryview(buffer)[512:])]
        with pytest.raises(DiskAccessError) as caught:
            handle.transfer(False, pieces)
        assert caught.value.where.offset_bytes == end
        assert "VixDiskLib_Read failed" in caught.value.message
        assert buffer == b"\1" * 512 + bytes(512), "the first one was done"
    with Library.load().open(path, read_only=False) as handle:
        with pytest.raises(DiskAccessError) as caught:
            handle.transfer(True, [(0, memoryview(bytes(512))), (end, memoryview(bytes(512)))])
        assert caught.value.where.offset_bytes == end
        handle.read_into(0, memoryview(buffer))
        assert buffer == bytes(512) + b"\1" * 512
