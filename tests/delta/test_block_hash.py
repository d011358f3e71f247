"""Digests and zero masks against a block-by-block model."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from vreplica.delta.block_hash import DIGEST_SIZE, equal, hash_blocks, is_zero, zero_blocks

BLOCK = 4096
# One byte set at a position of the block, or none: the places where a zero scan could slip.
marks = st.lists(
    st.one_of(st.none(), st.integers(0, BLOCK - 1), st.sampled_from([0, 7, 8, BLOCK - 1])),
    max_size=9,
)


@given(marks, st.integers(0, 7), st.integers(0, 2**64 - 1))
def test_every_block_has_its_own_digest_and_zeros_the_reserved_one(
    places: list[int | None], tail_sectors: int, seed: int
) -> None:
    data = bytearray(len(places) * BLOCK + tail_sectors * 512)
    for number, place in enumerate(places):
        if place is not None:
            data[number * BLOCK + place] = 1
    view = memoryview(data)
    pieces = [bytes(view[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]
    expected = [
        xxhash.xxh3_128_digest(piece, seed) if any(piece) else bytes(DIGEST_SIZE)
        for piece in pieces
    ]
    digests = hash_blocks(view, BLOCK, seed)
    assert digests.shape == (len(pieces), DIGEST_SIZE)
    assert [row.tobytes() for row in digests] == expected
    assert zero_blocks(view, BLOCK).tolist() == [not any(piece) for piece in pieces]
    assert is_zero(digests).tolist() == [not any(piece) for piece in pieces]


def test_equal_looks_at_every_byte() -> None:
    left = np.zeros((DIGEST_SIZE + 1, DIGEST_SIZE), np.uint8)
    right = left.copy()
    for row in range(DIGEST_SIZE):
        right[row, row] = 1
    assert equal(left, right).tolist() == [False] * DIGEST_SIZE + [True]


def test_seeds_give_different_digests() -> None:
    data = memoryview(bytes(range(256)) * 256)
    assert not equal(hash_blocks(data, seed=1), hash_blocks(data, seed=2)).any()


@pytest.mark.parametrize("length", [511, 513])
def test_parts_of_sectors_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="sectors"):
        hash_blocks(memoryview(bytes(length)))
