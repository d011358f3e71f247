"""Extents against a plain set of bytes, on disks small enough to enumerate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreplica.extents import Extents

LIMIT = 40
pairs = st.lists(
    st.tuples(st.integers(0, LIMIT), st.integers(0, LIMIT)).map(lambda p: (min(p), max(p))),
    max_size=8,
)


def as_set(extents: Extents) -> set[int]:
    return {byte for start, end in extents for byte in range(start, end)}


def plain(rows: list[tuple[int, int]]) -> set[int]:
    return {byte for start, end in rows for byte in range(start, end)}


def assert_normal(extents: Extents) -> None:
    rows = extents.array
    assert rows.dtype == np.int64
    assert rows.shape == (len(extents), 2)
    assert not rows.flags.writeable
    assert (rows[:, 0] < rows[:, 1]).all()
    assert (rows[1:, 0] > rows[:-1, 1]).all()


@given(pairs)
def test_making_keeps_exactly_the_bytes(rows: list[tuple[int, int]]) -> None:
    extents = Extents.from_pairs(rows)
    assert_normal(extents)
    assert as_set(extents) == plain(rows)
    assert extents.total == len(plain(rows))
    assert extents.end == max(plain(rows), default=-1) + 1


@given(pairs, pairs, pairs)
def test_set_algebra(
    a: list[tuple[int, int]], b: list[tuple[int, int]], c: list[tuple[int, int]]
) -> None:
    x, y, z = (Extents.from_pairs(rows) for rows in (a, b, c))
    for got, expected in (
        (x.union(y, z), plain(a) | plain(b) | plain(c)),
        (x.intersect(y), plain(a) & plain(b)),
        (x.subtract(y), plain(a) - plain(b)),
        (x.complement(LIMIT), set(range(LIMIT)) - plain(a)),
        (x.complement(10), set(range(10)) - plain(a)),
    ):
        assert_normal(got)
        assert as_set(got) == expected
    assert x.covers(y) == (plain(b) <= plain(a))
    assert (x == y) == (plain(a) == plain(b))


@given(pairs, st.integers(0, LIMIT), st.integers(0, LIMIT))
def test_clip(rows: list[tuple[int, int]], start: int, length: int) -> None:
    got = Extents.from_pairs(rows).clip(start, start + length)
    assert_normal(got)
    assert as_set(got) == plain(rows) & set(range(start, start + length))


@given(pairs, st.integers(1, 9))
def test_align_moves_edges_outwards(rows: list[tuple[int, int]], unit: int) -> None:
    extents = Extents.from_pairs(rows)
    whole = {
        b for byte in plain(rows) for b in range(byte - byte % unit, byte - byte % unit + unit)
    }
    assert as_set(extents.align(unit)) == whole
    assert as_set(extents.align(unit, LIMIT)) == {byte for byte in whole if byte < LIMIT}
    assert_normal(extents.align(unit, LIMIT))


@given(pairs, st.integers(0, 9))
def test_coalesce_joins_only_small_gaps(rows: list[tuple[int, int]], gap: int) -> None:
    extents = Extents.from_pairs(rows)
    joined = extents.coalesce(gap)
    assert_normal(joined)
    assert joined.covers(extents)
    filled = joined.subtract(extents)
    assert all(end - start <= gap for start, end in filled)
    assert all(
        start - before > gap
        for (_, before), (start, _) in zip(list(joined), list(joined)[1:], strict=False)
    )


@given(pairs, st.integers(1, 9))
def test_split_covers_once_and_never_crosses(rows: list[tuple[int, int]], size: int) -> None:
    extents = Extents.from_pairs(rows)
    pieces = list(extents.split(size))
    assert all(start < end and start // size == (end - 1) // size for start, end in pieces)
    assert pieces == sorted(pieces)
    assert sum(end - start for start, end in pieces) == extents.total
    assert Extents.from_pairs(pieces) == extents


@given(st.sets(st.integers(0, 30)), st.integers(1, 9), st.integers(0, 200))
def test_from_blocks_holds_to_capacity(blocks: set[int], block: int, capacity: int) -> None:
    inside = {b for b in blocks if b * block < capacity}
    got = Extents.from_blocks(np.array(sorted(inside), np.int64), block, capacity)
    assert_normal(got)
    assert as_set(got) == {
        byte for b in inside for byte in range(b * block, min((b + 1) * block, capacity))
    }


@pytest.mark.parametrize("rows", [[(5, 4)], [(-1, 4)]])
def test_impossible_rows_are_refused(rows: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="extent"):
        Extents.from_pairs(rows)


def test_an_extents_object_does_not_change_with_the_array_it_was_made_from() -> None:
    rows = np.array([[0, 5]], np.int64)
    extents = Extents.from_array(rows)
    rows[0, 1] = 99
    assert list(extents) == [(0, 5)]


def test_a_disk_of_62_tib_costs_its_rows_only() -> None:
    capacity = 62 << 40
    changed = Extents.from_array(
        np.arange(16_384, dtype=np.int64)[:, None] * (1 << 31) + [0, 65_536]
    )
    rest = changed.complement(capacity)
    assert rest.total == capacity - changed.total
    assert len(rest) == len(changed)
    assert rest.subtract(changed) == rest
