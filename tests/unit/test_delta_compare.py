"""Comparison finds every difference, reads no more than it must, and says what it looked at."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreplica.delta.compare import FIRST_DIFFERENCES, PIECE, compare, sample_of
from vreplica.delta.control import Control
from vreplica.delta.errors import CopyCancelled
from vreplica.disk import MemoryDisk
from vreplica.errors import DiskError
from vreplica.extents import Extents
from vreplica.units import MIB

SECTOR = 512
SECTORS = 30
CAPACITY = SECTORS * SECTOR

fills = st.lists(st.one_of(st.none(), st.integers(0, 2)), min_size=SECTORS, max_size=SECTORS)
ranges = st.lists(
    st.tuples(st.integers(0, SECTORS), st.integers(0, 9)).map(
        lambda p: (p[0] * SECTOR, min(SECTORS, sum(p)) * SECTOR)
    ),
    max_size=4,
)


def disk_of(fill: list[int | None], capacity: int = CAPACITY) -> MemoryDisk:
    disk = MemoryDisk(capacity)
    for sector, value in enumerate(fill):
        if value is not None:
            disk.write_from(sector * SECTOR, memoryview(bytes([value]) * SECTOR))
    disk.ops.clear()
    return disk


@given(fills, fills, ranges, st.none() | ranges)
def test_every_difference_asked_for_is_found(
    left: list[int | None],
    right: list[int | None],
    excluded: list[tuple[int, int]],
    asked: list[tuple[int, int]] | None,
) -> None:
    source, target = disk_of(left), disk_of(right)
    exclude = Extents.from_pairs(excluded)
    extents = None if asked is None else Extents.from_pairs(asked)
    report = compare(source, target, extents, exclude=exclude)
    looked_at = (extents or Extents.of(0, CAPACITY)) if asked is None else extents
    assert looked_at is not None
    looked_at = looked_at.subtract(exclude)
    expected = Extents.from_pairs(
        [
            (s * SECTOR, s * SECTOR + SECTOR)
            for s in range(SECTORS)
            if (left[s] or 0) != (right[s] or 0)
        ]
    ).intersect(looked_at)
    assert report.differences == expected
    assert report.different_bytes == expected.total
    assert report.equal == (expected.total == 0)
    assert (report.source_root == report.target_root) == report.equal
    read = Extents.from_pairs([(o, o + n) for op, o, n in source.ops if op == "read"])
    assert read == Extents.from_pairs([(o, o + n) for op, o, n in target.ops if op == "read"])
    assert read == looked_at.intersect(source.allocated().union(target.allocated()))
    assert report.compared_bytes == read.total
    assert report.hole_bytes == looked_at.total - read.total
    assert report.excluded_bytes == exclude.total


def test_written_zeros_and_holes_are_equal_with_equal_roots() -> None:
    report = compare(disk_of([1, 0, 0]), disk_of([1]))
    assert report.equal
    assert report.source_root == report.target_root
    other = compare(disk_of([1, 0, 0]), disk_of([1, 0, 0]))
    assert other.source_root == report.source_root


def test_content_past_the_smaller_disk_is_a_difference_unless_zero() -> None:
    larger = disk_of([1, None, 0], CAPACITY + 4 * SECTOR)
    assert compare(larger, disk_of([1])).equal
    larger.write_from(CAPACITY + SECTOR, memoryview(bytes([5]) * SECTOR))
    report = compare(larger, disk_of([1]))
    assert list(report.differences) == [(CAPACITY + SECTOR, CAPACITY + 2 * SECTOR)]


def test_a_difference_across_pieces_is_one_extent_and_the_list_is_bounded() -> None:
    one = MemoryDisk(16 * MIB, bytes([1]) * 16 * MIB)
    other = MemoryDisk(16 * MIB, bytes([2]) * 16 * MIB)
    report = compare(one, other)
    assert list(report.differences) == [(0, 16 * MIB)]
    every_second = MemoryDisk(2 * MIB, (bytes(512) + bytes([1]) * 512) * 2048)
    report = compare(every_second, MemoryDisk(2 * MIB))
    assert len(report.differences) == FIRST_DIFFERENCES
    assert report.different_bytes == MIB


def test_62_tib_of_holes_are_counted_and_not_read() -> None:
    capacity = 62 << 40
    one, other = MemoryDisk(capacity), MemoryDisk(capacity)
    for disk in (one, other):
        disk.write_from(capacity - MIB, memoryview(bytes([3]) * MIB))
    report = compare(one, other)
    assert report.equal
    assert report.compared_bytes == MIB
    assert report.hole_bytes == capacity - MIB


@dataclass(eq=False)
class Unreadable(DiskError):
    template = "unreadable"


def test_a_failing_read_names_disk_and_byte() -> None:
    class Failing(MemoryDisk):
        def read_into(self, offset: int, view: memoryview) -> None:
            raise Unreadable

    disk = Failing(CAPACITY, name="replica.vmdk")
    with pytest.raises(Unreadable) as caught:
        compare(disk_of([None, 1]), disk)
    assert caught.value.where.disk == "replica.vmdk"
    assert caught.value.where.offset_bytes == SECTOR


def test_cancel() -> None:
    control = Control()
    control.cancel()
    with pytest.raises(CopyCancelled):
        compare(disk_of([1]), disk_of([1]), control=control)


def test_progress_ends_at_all_bytes() -> None:
    seen: list[tuple[int, int]] = []
    compare(disk_of([1] * 9), disk_of([1]), progress=lambda *p: seen.append(p))
    assert seen[-1] == (9 * SECTOR, 9 * SECTOR)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=5),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_a_sample_is_a_share_of_the_pieces_and_inside(
    places: list[tuple[int, int]], share: float
) -> None:
    asked = Extents.from_pairs([(a * PIECE, (a + n) * PIECE - 512) for a, n in places])
    sample = sample_of(asked, share, 1)
    assert asked.covers(sample)
    pieces = list(asked.split(PIECE))
    assert len(list(sample.split(PIECE))) == -int(-len(pieces) * share // 1)
    assert set(sample.split(PIECE)) <= set(pieces)


def test_a_sample_of_62_tib_is_made_without_listing_it() -> None:
    sample = sample_of(Extents.of(0, 62 << 40), 0.00001, 1)
    assert len(list(sample.split(PIECE))) == 651
