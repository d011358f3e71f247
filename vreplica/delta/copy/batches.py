"""Turns extents into batches of blocks, and a batch into requests. Pure.

    extents      [======)        [=)             [=============)
    blocks        3 4 5           9               12 13 14 15 16 17
    batch of 8  [ 3 4 5           9               12 13 14 15 ]        -> one slot of the arena
    slot         |3|4|5|9|12|13|14|15|                                    block i at i * 64 KiB
    requests     (3..5)  (9)  (12..15)                                 -> read_many, write_many

A batch is one ascending array of block numbers. Neighbours on the disk are neighbours in the
slot, so a run of them is one request, cut to the request size. Only the last block of the disk may
be short, and then it is the last of its batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vreplica.extents import Extents

Blocks = NDArray[np.int64]
"""Block numbers, ascending, shape (n,)."""


class Span(NamedTuple):
    """One request: `length` bytes at `offset` of the disk and at `at` of the slot."""

    offset: int
    at: int
    length: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """The capacity and the block size of one copy, in bytes."""

    capacity: int
    block: int

    def nbytes(self, blocks: Blocks) -> int:
        """Bytes of the disk in these blocks, each of which appears once."""
        if not len(blocks):
            return 0
        short = max(0, (int(blocks[-1]) + 1) * self.block - self.capacity)
        return len(blocks) * self.block - short

    def batches(self, extents: Extents, per_batch: int) -> Iterator[Blocks]:
        """Yields the blocks that `extents` touch, `per_batch` at a time, ascending."""
        rows = extents.clip(0, self.capacity).align(self.block).array // self.block
        count = rows[:, 1] - rows[:, 0]
        after = np.cumsum(count)
        total = int(after[-1]) if len(after) else 0
        for start in range(0, total, per_batch):
            ordinal = np.arange(start, min(start + per_batch, total))
            row = np.searchsorted(after, ordinal, side="right")
            yield rows[row, 0] + ordinal - (after[row] - count[row])

    def spans(
        self, blocks: Blocks, request_size: int, selected: NDArray[np.bool_] | None = None
    ) -> list[Span]:
        """Makes the requests for the selected blocks of a batch (all, without `selected`).

        Each has at most `request_size` bytes, a multiple of the block.
        """
        position = np.arange(len(blocks)) if selected is None else np.flatnonzero(selected)
        if not len(position):
            return []
        chosen = blocks[position]
        cut = np.flatnonzero(chosen[1:] - chosen[:-1] != 1) + 1
        found = []
        for first, after in pairwise((0, *cut.tolist(), len(chosen))):
            offset, at = int(chosen[first]) * self.block, int(position[first]) * self.block
            end = min(offset + (after - first) * self.block, self.capacity)
            for start in range(offset, end, request_size):
                length = min(request_size, end - start)
                found.append(Span(start, at + start - offset, length))
        return found

    def inside(self, blocks: Blocks, extents: Extents) -> NDArray[np.bool_]:
        """Finds the blocks that lie wholly inside `extents`; shape (n,)."""
        rows = extents.array
        if not len(rows):
            return np.zeros(len(blocks), np.bool_)
        start = blocks * self.block
        end = np.minimum(start + self.block, self.capacity)
        row = np.searchsorted(rows[:, 1], start, side="right")
        held = np.minimum(row, len(rows) - 1)
        held_whole: NDArray[np.bool_] = (rows[held, 0] <= start) & (rows[held, 1] >= end)
        return held_whole
