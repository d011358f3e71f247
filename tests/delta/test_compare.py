"""Comparison finds every difference, reads no more than it must, and says what it looked at."""

from __future__ import annotations

import random
import struct
import threading
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128

from vreplica.delta.compare.compare import FIRST_DIFFERENCES, PIECE, compare
from vreplica.delta.compare.root_digest import total
from vreplica.delta.compare.spot_check import (
    SpotCheck,
    SpotCheckResult,
    miss_probability,
    sample_of,
)
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


def image_of(disk: MemoryDisk) -> bytes:
    data = bytearray(disk.capacity_bytes)
    disk.read_into(0, memoryview(data))
    return bytes(data)


def root_of(image: bytes, looked_at: Extents, capacity: int) -> str:
    """As docs/verify.md tells a third party to make it."""
    masked = bytearray(capacity)
    for start, end in looked_at:
        masked[start:end] = image[start:end].ljust(end - start, b"\0")
    root = blake3()
    for at in range(0, capacity, MIB):
        piece = masked[at : at + MIB]
        if any(piece):
            root.update(struct.pack("<QQ", at, len(piece)) + piece)
    return root.hexdigest()


@given(fills, fills, ranges, st.integers(0, 3))
def test_digests_are_those_that_anybody_makes_from_the_images(
    left: list[int | None], right: list[int | None], excluded: list[tuple[int, int]], more: int
) -> None:
    source, target = disk_of(left), disk_of(right, CAPACITY + more * SECTOR)
    report = compare(source, target, exclude=Extents.from_pairs(excluded), image=True)
    capacity = target.capacity_bytes
    assert report.looked_at == Extents.of(0, capacity).subtract(Extents.from_pairs(excluded))
    assert report.source_root == root_of(image_of(source), report.looked_at, capacity)
    assert report.target_root == root_of(image_of(target), report.looked_at, capacity)
    assert report.image_digest == blake3(image_of(target)).hexdigest()
    other = compare(source, target, algorithm="xxh3-128", image=True)
    assert other.image_digest == xxh3_128(image_of(target)).hexdigest()
    assert other.different_bytes == compare(source, target).different_bytes


def test_digests_over_many_rounds_with_holes_excluded_ranges_and_differences() -> None:
    source = random.Random(5)
    capacity = 61 * MIB + 3 * SECTOR
    one, other = MemoryDisk(capacity), MemoryDisk(capacity)
    for _ in range(60):
        at = source.randrange(0, capacity // SECTOR - 3000) * SECTOR
        data = source.randbytes(source.randrange(1, 3000) * SECTOR)
        for disk in (one, other) if source.random() < 0.9 else (other,):
            disk.write_from(at, memoryview(data))
    exclude = Extents.from_pairs(
        [(at * SECTOR, (at + 400) * SECTOR) for at in range(0, capacity // SECTOR, 9000)]
    )
    report = compare(one, other, exclude=exclude, image=True)
    a, b = (np.frombuffer(image_of(disk), np.uint8).copy() for disk in (one, other))
    assert report.image_digest == blake3(b.tobytes()).hexdigest()
    for start, end in exclude:
        a[start:end] = b[start:end] = 0
    assert report.different_bytes == int((a != b).reshape(-1, SECTOR).any(axis=1).sum()) * SECTOR
    assert report.different_bytes
    assert report.source_root == root_of(image_of(one), report.looked_at, capacity)
    assert report.target_root == root_of(image_of(other), report.looked_at, capacity)


def test_an_image_digest_of_holes_can_be_cancelled() -> None:
    control = Control()
    disk = MemoryDisk(62 << 40)
    disk.write_from(62 * (1 << 40) - 512, memoryview(bytes([1]) * 512))
    threading.Timer(0.1, control.cancel).start()
    with pytest.raises(CopyCancelled):
        compare(disk, disk, image=True, control=control)


def test_a_total_is_over_one_line_a_disk() -> None:
    lines = b"2000 512 aa\n2001 1024 bb\n"
    assert total("blake3", [(2001, 1024, "bb"), (2000, 512, "aa")]) == blake3(lines).hexdigest()


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
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
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


@pytest.mark.parametrize("share", [0.5, 0.999, 0.99999])
def test_a_large_sample_is_drawn_in_a_few_turns(
    monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    turns, unique = 0, np.unique

    def counting(values: Any) -> Any:
        nonlocal turns
        turns += 1
        assert turns < 100
        return unique(values)

    monkeypatch.setattr(np, "unique", counting)
    sample = sample_of(Extents.of(0, 4000 * PIECE), share, 1)
    assert sample.total == -int(-4000 * share // 1) * PIECE


def test_the_same_seed_looks_at_the_same_pieces_and_finds_what_lies_in_them() -> None:
    one, other = MemoryDisk(100 * MIB), MemoryDisk(100 * MIB)
    for disk in (one, other):
        disk.write_from(0, memoryview(bytes([7]) * 80 * MIB))
    reports = [compare(one, other, sample=SpotCheck(0.1, 3)) for _ in range(2)]
    assert reports[0].looked_at == reports[1].looked_at
    assert reports[0].source_root == reports[1].source_root
    assert reports[0].compared_bytes == 8 * MIB
    spot = reports[0].spot
    assert spot is not None
    assert (spot.pieces, spot.of_pieces, spot.seed) == (8, 80, 3)
    assert compare(one, other, sample=SpotCheck(0.1, 4)).looked_at != reports[0].looked_at
    inside = next(iter(reports[0].looked_at))[0]
    outside = next(iter(Extents.of(0, 80 * MIB).subtract(reports[0].looked_at)))[0]
    other.write_from(outside, memoryview(bytes(512)))
    assert compare(one, other, sample=SpotCheck(0.1, 3)).equal
    other.write_from(inside, memoryview(bytes(512)))
    assert compare(one, other, sample=SpotCheck(0.1, 3)).different_bytes == 512


@pytest.mark.parametrize(("of", "n"), [(1, 1), (10, 1), (20, 10), (100, 5), (1000, 300), (500, 0)])
def test_what_a_sample_rules_out_is_what_counting_says(of: int, n: int) -> None:
    spot = SpotCheckResult(0, n, of)
    least = next(
        (d for d in range(1, of + 1) if comb(of - d, n) * 20 <= comb(of, n)),
        of + 1,
    )
    assert spot.rules_out_pieces == least
    for d in (1, of // 2, of):
        assert miss_probability(of, n, d) == pytest.approx(comb(of - d, n) / comb(of, n))


def test_what_a_sample_of_62_tib_rules_out_is_known_at_once() -> None:
    spot = SpotCheckResult(0, 65_011, 65_011_712)
    assert 2900 < spot.rules_out_pieces < 3100
