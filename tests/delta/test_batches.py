"""Batches and requests against a block-by-block model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vreplica.delta.copy.batches import Geometry
from vreplica.extents import Extents

BLOCK = 1024
CAPACITY = 20 * BLOCK + 512

spans = st.lists(
    st.tuples(st.integers(0, CAPACITY + 700), st.integers(0, 3000)).map(lambda p: (p[0], sum(p))),
    max_size=6,
)
GEOMETRY = Geometry(CAPACITY, BLOCK)


def touched(rows: list[tuple[int, int]]) -> list[int]:
    return sorted(
        {byte // BLOCK for start, end in rows for byte in range(start, min(end, CAPACITY))}
    )


@given(spans, st.integers(1, 7))
def test_batches_hold_every_touched_block_once_in_order(
    rows: list[tuple[int, int]], per_batch: int
) -> None:
    batches = list(GEOMETRY.batches(Extents.from_pairs(rows), per_batch))
    assert [int(block) for batch in batches for block in batch] == touched(rows)
    assert all(len(batch) == per_batch for batch in batches[:-1])
    assert sum(GEOMETRY.nbytes(batch) for batch in batches) == sum(
        min(BLOCK, CAPACITY - block * BLOCK) for block in touched(rows)
    )


@given(st.sets(st.integers(0, 20)), st.integers(1, 5), st.data())
def test_requests_move_exactly_the_selected_blocks(
    chosen: set[int], per_request: int, data: st.DataObject
) -> None:
    blocks = np.array(sorted(chosen), np.int64)
    selected = np.array([data.draw(st.booleans()) for _ in blocks], np.bool_)
    requests = GEOMETRY.spans(blocks, per_request * BLOCK, selected)
    moved = {}
    for request in requests:
        assert 0 < request.length <= per_request * BLOCK
        for byte in range(0, request.length, 512):
            moved[request.offset + byte] = request.at + byte
    expected = {}
    for position, block in enumerate(blocks.tolist()):
        for byte in range(0, min(BLOCK, CAPACITY - block * BLOCK), 512):
            if selected[position]:
                expected[block * BLOCK + byte] = position * BLOCK + byte
    assert moved == expected
    # As few as possible: neighbours share a request unless it is full.
    for one, next_one in pairwise(requests):
        assert one.offset + one.length < next_one.offset or one.length == per_request * BLOCK


@given(st.sets(st.integers(0, 20)), spans)
def test_inside_means_wholly_inside(chosen: set[int], rows: list[tuple[int, int]]) -> None:
    held = {byte for start, end in rows for byte in range(start, end)}
    blocks = np.array(sorted(chosen), np.int64)
    assert GEOMETRY.inside(blocks, Extents.from_pairs(rows)).tolist() == [
        set(range(block * BLOCK, min((block + 1) * BLOCK, CAPACITY))) <= held
        for block in blocks.tolist()
    ]
