"""Hashes blocks: XXH3-128, with a seed for each disk. The only module that knows xxhash.

    buffer   | block 0 | block 1 (zeros) | block 2 | ... | tail (may be short) |
    digests  [  d0    ,  0000...0000    ,   d2    , ... ,   dn                 ]   (n, 16) uint8

The all-zero digest is reserved for blocks of zeros of any length. So a digest map in which nothing
was written yet (a sparse file) says "zero" for every block.

XXH3 is not a cryptographic hash. Each disk has a random seed, so two blocks that were made to
collide on one disk do not collide on another. A proof of equality (`compare`) reads the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128, xxh3_128_digest

from vreplica.units import BLOCK, SECTOR

ALGORITHM: Final = "xxh3-128"
DIGEST_SIZE: Final = 16

Digests = NDArray[np.uint8]
"""Shape (n, 16): one digest in a row, big-endian, which is the canonical form of XXH3."""

_PROBES = 4
"""Words to test in each block before the whole block: for most blocks these are enough."""


def zero_blocks(buffer: memoryview, block: int = BLOCK) -> NDArray[np.bool_]:
    """Finds the blocks of `buffer` that hold only zeros; shape (n,).

    `buffer` is a multiple of 512 bytes; its last block may be short.
    """
    words = np.frombuffer(buffer, np.uint64)
    per_block = block // words.itemsize
    whole = len(words) // per_block
    table = words[: whole * per_block].reshape(whole, per_block)
    zero = np.zeros(-(-len(words) // per_block), np.bool_)
    probes = table[:, :: per_block // _PROBES]
    candidates = np.flatnonzero(~probes.any(axis=1))
    if len(candidates) == whole:
        zero[:whole] = np.bitwise_or.reduce(table, axis=1) == 0
    elif len(candidates):
        for first, last in _runs(candidates):
            zero[first:last] = np.bitwise_or.reduce(table[first:last], axis=1) == 0
    if whole < len(zero):
        zero[whole] = not words[whole * per_block :].any()
    return zero


def hash_blocks(buffer: memoryview, block: int = BLOCK, seed: int = 0) -> Digests:
    """Hashes every block of `buffer`, shape (n, 16); blocks of zeros get the zero digest.

    `buffer` is a multiple of 512 bytes; its last block may be short.
    """
    if buffer.nbytes % SECTOR or block % SECTOR:
        raise ValueError(f"{buffer.nbytes} bytes in blocks of {block}: not whole sectors")
    zero = zero_blocks(buffer, block)
    starts: Sequence[int] = range(0, buffer.nbytes, block)
    some = zero.any()
    if some:
        starts = (np.flatnonzero(~zero) * block).tolist()
    pieces = [buffer[at : at + block] for at in starts]
    joined = bytearray().join(map(xxh3_128_digest, pieces, repeat(seed)))
    found = np.frombuffer(joined, np.uint8).reshape(-1, DIGEST_SIZE)
    if not _halves(found)[:, 0].all():  # pragma: no cover - one block in 2**64
        found[is_zero(found), -1] = 1
    if not some:
        return found
    digests = np.zeros((len(zero), DIGEST_SIZE), np.uint8)
    digests[~zero] = found
    return digests


def stream() -> xxh3_128:
    """Starts an XXH3-128 of a stream, without a seed, as `xxh128sum` prints it."""
    return xxh3_128()


def is_zero(digests: Digests) -> NDArray[np.bool_]:
    """Finds the digests that are the reserved one; shape (n,)."""
    halves = _halves(digests)
    zero: NDArray[np.bool_] = (halves[:, 0] | halves[:, 1]) == 0
    return zero


def equal(left: Digests, right: Digests) -> NDArray[np.bool_]:
    """Compares row by row; shape (n,)."""
    a, b = _halves(left), _halves(right)
    same: NDArray[np.bool_] = (a[:, 0] == b[:, 0]) & (a[:, 1] == b[:, 1])
    return same


def _halves(digests: Digests) -> NDArray[np.uint64]:
    return np.ascontiguousarray(digests).view(np.uint64)


def _runs(indices: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Turns ascending numbers into [first, last) of each run of neighbours."""
    cut = np.flatnonzero(np.diff(indices) > 1) + 1
    first = indices[np.concatenate(([0], cut))]
    last = indices[np.concatenate((cut - 1, [len(indices) - 1]))] + 1
    return list(zip(first.tolist(), last.tolist(), strict=True))
