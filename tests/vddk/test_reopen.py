"""What a lost helper or a lost connection leaves of a disk: readers open again, writers fail."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CopySpec
from vreplica.delta.copy.stats import CopyProgress
from vreplica.delta.copy.transfer import RetryPolicy
from vreplica.disk import Arena, MemoryDisk
from vreplica.disk_errors import DiskNotFound, HostConnection
from vreplica.errors import DiskClosed, DiskError
from vreplica.extents import Extents
from vreplica.units import MIB, SECTOR
from vreplica.vddk.disk import VddkDisk
from vreplica.vddk.errors import DiskChanged, HelperDied


def kill(disk: VddkDisk) -> None:
    assert disk.helper_pid
    os.kill(disk.helper_pid, signal.SIGKILL)


def buffer(size: int = SECTOR) -> memoryview:
    return memoryview(bytearray(size))


def test_a_reader_goes_on_with_a_new_helper_after_the_error(dummy: Any) -> None:
    content = os.urandom(2 * MIB)
    with dummy.open(dummy.disk(content)) as disk:
        first = disk.helper_pid
        kill(disk)
        with pytest.raises(HelperDied, match="SIGKILL") as caught:
            disk.read_into(0, buffer())
        assert caught.value.retryable
        target = buffer(2 * MIB)
        disk.read_into(0, target)
        assert target == content
        assert disk.helper_pid != first


def test_arenas_are_known_to_the_new_helper_too(dummy: Any) -> None:
    content = os.urandom(2 * MIB)
    arena, closed = Arena(2 * MIB), Arena(MIB)
    with dummy.open(dummy.disk(content)) as disk:
        disk.register(closed)
        disk.register(arena)
        closed.close()
        kill(disk)
        with pytest.raises(HelperDied):
            disk.read_into(0, arena.view)
        disk.read_into(0, arena.view)
        assert list(disk._backend._arenas.values()) == [arena]
    assert arena.view == content
    arena.close()


def test_asking_for_allocated_blocks_opens_again_as_well(dummy: Any) -> None:
    with dummy.open(dummy.disk(b"x" * MIB)) as disk:
        kill(disk)
        with pytest.raises(HelperDied):
            disk.allocated()
        assert disk.allocated() == Extents.of(0, MIB)


def test_a_lost_connection_is_made_again(
    dummy: Any, isolation: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = dummy.disk(b"x" * MIB)
    with dummy.open(path, isolation=isolation) as disk:
        dummy.fault(path, "read 36", "blocks 36")
        for _ in range(2):
            with pytest.raises(HostConnection) as caught:
                disk.read_into(0, buffer())
            assert caught.value.retryable
            with pytest.raises(HostConnection):
                disk.allocated()
        dummy.fault(path)
        target = buffer()
        disk.read_into(0, target)
        assert target == b"x" * SECTOR
        caplog.clear()
        assert disk.allocated() == Extents.of(0, MIB)
        assert "counts as allocated" not in caplog.text


def test_while_it_cannot_be_opened_the_reason_is_raised(dummy: Any) -> None:
    path = dummy.disk(b"x" * MIB)
    with dummy.open(path) as disk:
        kill(disk)
        with pytest.raises(HelperDied):
            disk.read_into(0, buffer())
        dummy.fault(path, "open 4")
        for _ in range(2):
            with pytest.raises(DiskNotFound):
                disk.read_into(0, buffer())
        dummy.fault(path)
        disk.read_into(0, buffer())


def test_a_disk_of_another_size_is_not_taken_for_the_same(dummy: Any) -> None:
    path: Path = dummy.disk(b"x" * MIB)
    with dummy.open(path) as disk:
        kill(disk)
        with pytest.raises(HelperDied):
            disk.read_into(0, buffer())
        os.truncate(path, 2 * MIB)
        with pytest.raises(
            DiskChanged, match="2097152 bytes when opened again, and had 1048576 before"
        ):
            disk.read_into(0, buffer())


def test_a_reader_whose_helper_is_gone_is_closed_without_an_error(
    dummy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = dummy.disk(bytes(MIB))
    reader, writer = dummy.open(path), dummy.open(path, read_only=False)
    kill(reader)
    kill(writer)
    reader.close()
    assert "closing it failed" in caplog.text
    with pytest.raises(HelperDied):
        writer.close()
    writer.close()


@pytest.mark.parametrize("fault", ["close 7", "close segv"])
def test_a_failing_close_is_an_error_only_for_a_writer(
    dummy: Any, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = dummy.disk(bytes(MIB))
    reader, writer = dummy.open(path), dummy.open(path, read_only=False)
    dummy.fault(path, fault)
    reader.close()
    assert "closing it failed" in caplog.text
    with pytest.raises(DiskError):
        writer.close()


def test_a_copy_goes_on_after_the_death_of_its_reader(dummy: Any) -> None:
    content = os.urandom(64 * MIB)
    target = MemoryDisk(len(content))
    killed: list[int] = []
    retried: list[str] = []
    with dummy.open(dummy.disk(content)) as source:

        def kill_once(progress: CopyProgress) -> None:
            if progress.done_bytes and not killed:
                assert source.helper_pid
                killed.append(source.helper_pid)
                kill(source)

        copy(
            CopySpec(
                source,
                target,
                Extents.of(0, len(content)),
                progress=kill_once,
                retry=RetryPolicy(first_wait_s=0.01, longest_wait_s=0.1),
                on_retry=lambda error: retried.append(type(error).__name__),
            )
        )
        assert source.helper_pid not in killed
    assert retried == ["HelperDied"]
    assert bytes(whole(target)) == content


def test_a_copy_ends_at_once_when_its_writer_died_and_a_new_run_may_help(dummy: Any) -> None:
    source = MemoryDisk(16 * MIB, os.urandom(16 * MIB))
    retried: list[str] = []
    target = dummy.open(dummy.disk(bytes(16 * MIB)), read_only=False)
    kill(target)
    with pytest.raises(HelperDied) as caught:
        copy(
            CopySpec(
                source,
                target,
                Extents.of(0, 16 * MIB),
                on_retry=lambda error: retried.append(type(error).__name__),
            )
        )
    assert retried == []
    assert caught.value.retryable
    target.close()


def whole(disk: MemoryDisk) -> memoryview:
    view = buffer(disk.capacity_bytes)
    disk.read_into(0, view)
    return view


def test_a_writer_stays_failed_since_what_it_wrote_may_be_gone(dummy: Any) -> None:
    disk = dummy.open(dummy.disk(bytes(MIB)), read_only=False)
    disk.write_from(0, memoryview(b"x" * SECTOR))
    kill(disk)
    for call in (
        lambda: disk.read_into(0, buffer()),
        lambda: disk.write_from(0, buffer()),
        disk.flush,
        disk.allocated,
    ):
        with pytest.raises(HelperDied, match="SIGKILL"):
            call()
    disk.close()
    with pytest.raises(DiskClosed):
        disk.flush()
