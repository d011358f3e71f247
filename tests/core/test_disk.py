"""Arena and MemoryDisk on their own; what every disk does is in tests/contract."""

from __future__ import annotations

import mmap
import os

import numpy as np
import pytest

from vreplica.disk import Arena, MemoryDisk, check_request
from vreplica.errors import DiskClosed, Misaligned, OutOfRange
from vreplica.extents import Extents
from vreplica.units import KIB, MIB, SECTOR, TIB


def test_an_arena_knows_where_its_views_are() -> None:
    arena = Arena(MIB)
    other = Arena(MIB)
    assert arena.offset_of(arena.view) == 0
    assert arena.offset_of(arena.view[4 * KIB : 8 * KIB]) == 4 * KIB
    assert arena.offset_of(arena.view[-1:]) == MIB - 1
    assert arena.offset_of(other.view) is None
    assert arena.offset_of(memoryview(bytearray(512))) is None
    assert arena.offset_of(arena.view[:0]) is None
    arena.close()
    other.close()


def test_an_arena_is_the_same_memory_through_its_descriptor() -> None:
    arena = Arena(MIB)
    with mmap.mmap(arena.fd, MIB) as same:
        arena.view[100:104] = b"here"
        assert same[100:104] == b"here"
        same[200:205] = b"there"
    assert arena.view[200:205] == b"there"
    arena.close()


def test_an_arena_is_not_given_back_under_a_live_view() -> None:
    arena = Arena(MIB)
    held = arena.view[:512]
    with pytest.raises(BufferError):
        arena.close()
    held.release()
    arena.close()


def test_a_closed_arena_has_no_descriptor() -> None:
    arena = Arena(MIB)
    fd = arena.fd
    arena.close()
    arena.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_closed_arena_claims_no_memory() -> None:
    """What lies at its old address now belongs to somebody else."""
    arena = Arena(MIB)
    arena.close()
    other = np.zeros(4096, np.uint8)
    arena._base = other.ctypes.data
    assert arena.offset_of(memoryview(other)) is None


def test_check_request_takes_sectors_on_the_disk() -> None:
    check_request(0, 0, 0)
    check_request(512, 512, 1024)
    with pytest.raises(Misaligned):
        check_request(1, 512, 1024)
    with pytest.raises(OutOfRange):
        check_request(512, 1024, 1024)
    with pytest.raises(OutOfRange):
        check_request(-512, 512, 1024)


def test_memory_disk_records_what_was_issued_in_order() -> None:
    disk = MemoryDisk(MIB, b"x" * 100)
    assert disk.ops == [], "making it is not an operation"
    buffer = memoryview(bytearray(SECTOR))
    disk.write_from(SECTOR, buffer)
    disk.read_many([(0, buffer), (512 * KIB, buffer)])
    disk.flush()
    disk.allocated()
    assert disk.ops == [
        ("write", SECTOR, SECTOR),
        ("read", 0, SECTOR),
        ("read", 512 * KIB, SECTOR),
        ("flush", 0, 0),
        ("allocated", 0, 0),
    ]


def test_memory_disk_does_not_record_what_it_refused() -> None:
    disk = MemoryDisk(MIB)
    with pytest.raises(OutOfRange):
        disk.read_into(MIB, memoryview(bytearray(SECTOR)))
    disk.close()
    with pytest.raises(DiskClosed):
        disk.flush()
    assert disk.ops == []


def test_memory_disk_takes_memory_only_where_it_is_written() -> None:
    disk = MemoryDisk(62 * TIB)
    disk.write_from(61 * TIB, memoryview(b"x" * SECTOR))
    buffer = bytearray(SECTOR)
    disk.read_into(61 * TIB, memoryview(buffer))
    assert buffer == b"x" * SECTOR
    assert disk.allocated() == Extents.of(61 * TIB, 61 * TIB + SECTOR)


def test_memory_disk_content_is_padded_to_a_sector() -> None:
    disk = MemoryDisk(MIB, b"abc")
    buffer = bytearray(SECTOR)
    disk.read_into(0, memoryview(buffer))
    assert buffer == b"abc" + bytes(SECTOR - 3)
