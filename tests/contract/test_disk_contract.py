"""What every Disk does, whatever it is made of. The kinds are in conftest.py."""

from __future__ import annotations

import mmap
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from vreplica.disk import Arena, Disk
from vreplica.errors import DiskClosed, DiskError, Misaligned, OutOfRange, ReadOnlyDisk
from vreplica.extents import Extents
from vreplica.units import KIB, MIB, SECTOR

CAPACITY = 10 * MIB + 3 * SECTOR
"""Not a multiple of anything but the sector: the tail is part of the contract."""

MakeDisk = Callable[..., Callable[..., Disk]]


def pattern(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


CONTENT = {
    0: pattern(1, 4 * KIB),
    64 * KIB - SECTOR: pattern(2, 2 * SECTOR),
    MIB + 512: pattern(3, 300 * KIB),
    3 * MIB: pattern(4, 64 * KIB),
    5 * MIB - 3 * SECTOR: pattern(5, MIB + SECTOR),
    8 * MIB + 17 * SECTOR: pattern(6, SECTOR),
    CAPACITY - 5 * SECTOR: pattern(7, 5 * SECTOR),
}


def model(content: dict[int, bytes] | None = None) -> bytearray:
    whole = bytearray(CAPACITY)
    for offset, data in (CONTENT if content is None else content).items():
        whole[offset : offset + len(data)] = data
    return whole


def read(disk: Disk, offset: int, length: int) -> bytes:
    # Not zero before, so that bytes that a read leaves alone are seen.
    buffer = bytearray(b"\xa5" * length)
    disk.read_into(offset, memoryview(buffer))
    return bytes(buffer)


@pytest.fixture
def disk(make_disk: MakeDisk) -> Disk:
    """With CONTENT, open for writing."""
    return make_disk(CAPACITY, CONTENT)()


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = Arena(4 * MIB)
    yield arena
    arena.close()


# -- reading --------------------------------------------------------------------------------


def test_is_a_disk_with_name_and_exact_capacity(disk: Disk) -> None:
    assert isinstance(disk, Disk)
    assert disk.name
    assert disk.capacity_bytes == CAPACITY


def test_the_whole_disk_in_one_request(disk: Disk) -> None:
    assert read(disk, 0, CAPACITY) == model()


def test_any_sector_aligned_read(disk: Disk) -> None:
    expected, rng = model(), random.Random(11)
    for _ in range(150):
        offset = rng.randrange(CAPACITY // SECTOR) * SECTOR
        length = min(rng.choice([1, 2, 7, 128, 129, 2049]) * SECTOR, CAPACITY - offset)
        assert read(disk, offset, length) == expected[offset : offset + length]


def test_reads_around_every_edge_of_the_content(disk: Disk) -> None:
    expected = model()
    for offset, data in CONTENT.items():
        for edge in (offset, offset + len(data)):
            start, end = max(0, edge - SECTOR), min(CAPACITY, edge + SECTOR)
            assert read(disk, start, end - start) == expected[start:end]


def test_holes_read_as_zeros(make_disk: MakeDisk) -> None:
    disk = make_disk(CAPACITY)()
    assert read(disk, 0, CAPACITY) == bytes(CAPACITY)


def test_an_empty_read_is_allowed_anywhere_on_the_disk(disk: Disk) -> None:
    disk.read_into(0, memoryview(bytearray()))
    disk.read_into(CAPACITY, memoryview(bytearray()))
    disk.read_many([])


def test_read_many_fills_each_buffer_with_its_own_bytes(disk: Disk) -> None:
    expected, rng = model(), random.Random(12)
    requests = []
    for _ in range(300):
        offset = rng.randrange(CAPACITY // SECTOR - 64) * SECTOR
        requests.append((offset, memoryview(bytearray(rng.randrange(1, 64) * SECTOR))))
    disk.read_many(requests)
    for offset, view in requests:
        assert view == expected[offset : offset + view.nbytes]


# -- buffers --------------------------------------------------------------------------------


def test_reads_into_a_registered_arena(disk: Disk, arena: Arena) -> None:
    expected = model()
    disk.register(arena)
    disk.register(arena)
    disk.read_into(5 * MIB - 4 * KIB, arena.view[: 2 * MIB])
    assert arena.view[: 2 * MIB] == expected[5 * MIB - 4 * KIB : 7 * MIB - 4 * KIB]
    # At odd places too, and the neighbours stay as they are.
    arena.view[:] = b"\xa5" * arena.size
    disk.read_many([(0, arena.view[1000 : 1000 + SECTOR]), (3 * MIB, arena.view[-64 * KIB :])])
    assert arena.view[1000 : 1000 + SECTOR] == expected[:SECTOR]
    assert arena.view[-64 * KIB :] == expected[3 * MIB : 3 * MIB + 64 * KIB]
    assert bytes(arena.view[:1000]) == b"\xa5" * 1000
    assert bytes(arena.view[1000 + SECTOR : 2000]) == b"\xa5" * (1000 - SECTOR)


def test_one_call_mixes_arena_and_foreign_buffers(disk: Disk, arena: Arena) -> None:
    expected = model()
    disk.register(arena)
    foreign = memoryview(bytearray(3 * MIB))
    disk.read_many(
        [(MIB, arena.view[: 2 * MIB]), (4 * MIB, foreign), (0, arena.view[2 * MIB : 3 * MIB])]
    )
    assert arena.view[: 2 * MIB] == expected[MIB : 3 * MIB]
    assert foreign == expected[4 * MIB : 7 * MIB]
    assert arena.view[2 * MIB : 3 * MIB] == expected[:MIB]


def test_an_arena_that_nobody_registered_is_memory_like_any_other(disk: Disk, arena: Arena) -> None:
    disk.read_into(MIB, arena.view[: 2 * MIB])
    assert arena.view[: 2 * MIB] == model()[MIB : 3 * MIB]


def buffers(length: int) -> list[Any]:
    return [
        bytearray(length),
        np.zeros(length // 8, np.uint64),
        np.zeros((length // 512, 512), np.uint8),
        mmap.mmap(-1, length),
    ]


@pytest.mark.parametrize("which", range(4), ids=["bytearray", "uint64", "2-d", "mmap"])
def test_any_contiguous_buffer_will_do(disk: Disk, which: int) -> None:
    buffer = buffers(128 * KIB)[which]
    with memoryview(buffer) as view:
        disk.read_into(MIB, view)
        assert bytes(view.cast("B")) == model()[MIB : MIB + 128 * KIB]
        disk.write_from(9 * MIB, view)
    assert read(disk, 9 * MIB, 128 * KIB) == model()[MIB : MIB + 128 * KIB]


def test_a_read_into_read_only_memory_is_refused(disk: Disk) -> None:
    content = bytes(SECTOR)
    with pytest.raises(TypeError):
        disk.read_into(0, memoryview(content))
    assert content == bytes(SECTOR)


# -- writing --------------------------------------------------------------------------------


def test_writes_are_read_back_and_survive_reopening(make_disk: MakeDisk) -> None:
    opener, expected, rng = make_disk(CAPACITY, CONTENT), model(), random.Random(13)
    disk = opener()
    for number in range(80):
        offset = rng.randrange(CAPACITY // SECTOR) * SECTOR
        length = min(rng.choice([1, 3, 128, 129, 2100]) * SECTOR, CAPACITY - offset)
        data = pattern(number, length)
        disk.write_from(offset, memoryview(data))
        expected[offset : offset + length] = data
        assert read(disk, offset, length) == data
    disk.flush()
    assert read(disk, 0, CAPACITY) == expected
    disk.close()
    assert read(opener(True), 0, CAPACITY) == expected


def test_a_write_leaves_its_neighbours_alone(disk: Disk) -> None:
    expected = model()
    for offset in (SECTOR, 64 * KIB, MIB, 3 * MIB + 64 * KIB - SECTOR, CAPACITY - SECTOR):
        disk.write_from(offset, memoryview(b"\x77" * SECTOR))
        expected[offset : offset + SECTOR] = b"\x77" * SECTOR
    assert read(disk, 0, CAPACITY) == expected


def test_the_whole_disk_in_one_write(make_disk: MakeDisk) -> None:
    opener, content = make_disk(CAPACITY, CONTENT), pattern(14, CAPACITY)
    disk = opener()
    disk.write_from(0, memoryview(content))
    disk.close()
    assert read(opener(True), 0, CAPACITY) == content


def test_write_many_writes_each_request(make_disk: MakeDisk, arena: Arena) -> None:
    opener, expected = make_disk(CAPACITY, CONTENT), model()
    disk = opener()
    disk.register(arena)
    arena.view[:] = pattern(15, arena.size)
    foreign = memoryview(pattern(16, 2 * MIB))
    requests = [
        (MIB, arena.view[: 3 * MIB]),
        (7 * MIB, foreign),
        (SECTOR, arena.view[3 * MIB : 3 * MIB + SECTOR]),
        *((4 * MIB + n * 68 * KIB, foreign[n * KIB : (n + 4) * KIB]) for n in range(40)),
    ]
    disk.write_many(requests)
    for offset, view in requests:
        expected[offset : offset + view.nbytes] = view
    disk.flush()
    disk.close()
    assert read(opener(True), 0, CAPACITY) == expected


def test_requests_of_70_mib_and_of_one_sector_in_one_call(make_disk: MakeDisk) -> None:
    """More than goes into one message, one slot or one library call anywhere."""
    capacity = 80 * MIB
    opener, arena = make_disk(capacity), Arena(70 * MIB)
    arena.view[:] = pattern(20, MIB) * 70
    disk = opener()
    disk.register(arena)
    last = memoryview(pattern(21, SECTOR))
    disk.write_many([(3 * MIB + SECTOR, arena.view), (capacity - SECTOR, last)])
    arena.view[:] = bytes(70 * MIB)
    disk.read_into(3 * MIB + SECTOR, arena.view)
    assert arena.view == pattern(20, MIB) * 70
    disk.close()
    arena.close()
    whole = read(opener(True), 0, capacity)
    assert whole[3 * MIB + SECTOR : 73 * MIB + SECTOR] == pattern(20, MIB) * 70
    assert whole[-SECTOR:] == last
    assert not any(whole[: 3 * MIB + SECTOR])


def test_zeros_over_content_are_zeros(make_disk: MakeDisk) -> None:
    opener, expected = make_disk(CAPACITY, CONTENT), model()
    disk = opener()
    for start, end in ((0, 64 * KIB), (MIB, 2 * MIB), (5 * MIB + SECTOR, 5 * MIB + 3 * SECTOR)):
        disk.write_from(start, memoryview(bytes(end - start)))
        expected[start:end] = bytes(end - start)
    assert read(disk, 0, CAPACITY) == expected
    disk.close()
    assert read(opener(True), 0, CAPACITY) == expected


def test_flush_may_come_any_time_while_writing(disk: Disk) -> None:
    disk.flush()
    disk.write_from(0, memoryview(pattern(17, MIB)))
    disk.flush()
    disk.flush()
    assert read(disk, 0, MIB) == pattern(17, MIB)


# -- allocated ------------------------------------------------------------------------------


def test_allocated_covers_what_is_not_zero_and_stays_on_the_disk(disk: Disk) -> None:
    found = disk.allocated()
    assert found.covers(Extents.from_pairs((o, o + len(d)) for o, d in CONTENT.items()))
    assert found.end <= CAPACITY


def test_allocated_leaves_out_what_was_never_written(make_disk: MakeDisk) -> None:
    """Every kind here knows its holes; nobody could ask for the whole disk and pass."""
    disk = make_disk(CAPACITY, {5 * MIB: pattern(18, 64 * KIB)})()
    found = disk.allocated()
    assert found.total < CAPACITY // 2
    assert found.covers(Extents.of(5 * MIB, 5 * MIB + 64 * KIB))


def test_allocated_sees_what_was_just_written(disk: Disk) -> None:
    disk.write_from(9 * MIB + SECTOR, memoryview(pattern(19, 3 * SECTOR)))
    disk.flush()
    assert disk.allocated().covers(Extents.of(9 * MIB + SECTOR, 9 * MIB + 4 * SECTOR))


# -- refusals -------------------------------------------------------------------------------

OUT_OF_RANGE = [(CAPACITY, SECTOR), (CAPACITY - SECTOR, 2 * SECTOR), (1 << 60, SECTOR)]
MISALIGNED = [(1, SECTOR), (0, 100), (SECTOR - 1, SECTOR), (513, 511)]


@pytest.mark.parametrize(("offset", "length"), [*OUT_OF_RANGE, (-SECTOR, SECTOR)])
def test_requests_outside_the_disk_are_refused(disk: Disk, offset: int, length: int) -> None:
    buffer = bytearray(b"\xa5" * length)
    with pytest.raises(OutOfRange) as caught:
        disk.read_into(offset, memoryview(buffer))
    assert caught.value.capacity == CAPACITY
    assert buffer == b"\xa5" * length
    with pytest.raises(OutOfRange):
        disk.write_from(offset, memoryview(buffer))
    assert read(disk, 0, CAPACITY) == model()


@pytest.mark.parametrize(("offset", "length"), MISALIGNED)
def test_requests_off_the_sector_are_refused(disk: Disk, offset: int, length: int) -> None:
    with pytest.raises(Misaligned):
        disk.read_into(offset, memoryview(bytearray(length)))
    with pytest.raises(Misaligned):
        disk.write_from(offset, memoryview(bytes(length)))
    assert read(disk, 0, CAPACITY) == model()


def test_a_bad_request_among_many_is_refused(disk: Disk) -> None:
    good = memoryview(bytearray(SECTOR))
    with pytest.raises(OutOfRange):
        disk.read_many([(0, good), (CAPACITY, memoryview(bytearray(SECTOR)))])
    with pytest.raises(Misaligned):
        disk.write_many([(0, good[:0]), (3, good)])
    assert read(disk, 0, CAPACITY) == model()


def test_a_read_only_disk_refuses_to_write_and_stays_as_it_is(make_disk: MakeDisk) -> None:
    opener = make_disk(CAPACITY, CONTENT)
    disk = opener(True)
    with pytest.raises(ReadOnlyDisk):
        disk.write_from(0, memoryview(bytes(SECTOR)))
    with pytest.raises(ReadOnlyDisk):
        disk.write_many([(0, memoryview(bytes(SECTOR)))])
    assert read(disk, 0, CAPACITY) == model()


def test_every_refusal_is_a_disk_error_that_no_retry_mends(disk: Disk) -> None:
    with pytest.raises(DiskError) as caught:
        disk.read_into(CAPACITY, memoryview(bytearray(SECTOR)))
    assert not caught.value.retryable


# -- the end --------------------------------------------------------------------------------


def test_close_twice_is_allowed(disk: Disk) -> None:
    disk.close()
    disk.close()


def test_a_closed_disk_refuses_everything_else(disk: Disk, arena: Arena) -> None:
    disk.close()
    buffer = memoryview(bytearray(SECTOR))
    calls: list[Callable[[], object]] = [
        lambda: disk.read_into(0, buffer),
        lambda: disk.write_from(0, buffer),
        lambda: disk.read_many([(0, buffer)]),
        lambda: disk.write_many([(0, buffer)]),
        lambda: disk.register(arena),
        disk.allocated,
        disk.flush,
    ]
    for call in calls:
        with pytest.raises(DiskClosed):
            call()
    assert disk.capacity_bytes == CAPACITY
    assert disk.name


def test_an_arena_can_be_closed_after_the_disk(make_disk: MakeDisk) -> None:
    arena = Arena(MIB)
    disk = make_disk(CAPACITY, CONTENT)()
    disk.register(arena)
    disk.read_into(0, arena.view)
    disk.close()
    arena.close()
    arena.close()
