"""Sorted, disjoint byte ranges of a disk, as one numpy array. Pure: nothing here does I/O.

    Extents.array, shape (n, 2), dtype int64, one row an extent [start, end):

        start   end
      [[    0,  4096],
       [65536, 69632],      rows ascend, never touch or overlap, never empty
       [98304, 98816]]

A disk of 62 TiB with 1 GiB changed costs what its few thousand rows cost; nothing here ever
makes an array that is as long as the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def _merge(rows: Rows) -> Rows:
    """Rows in any order, overlapping or touching -> sorted, disjoint, not touching."""
    rows = rows[rows[:, 1] > rows[:, 0]]
    if len(rows) < 2:
        return rows
    if np.any(rows[1:, 0] < rows[:-1, 0]):
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
    reach = np.maximum.accumulate(rows[:, 1])
    # A row begins a new extent where it starts beyond everything that came before it.
    first = np.concatenate(([True], rows[1:, 0] > reach[:-1]))
    last = np.concatenate((first[1:], [True]))
    return np.stack((rows[first, 0], reach[last]), axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Extents:
    """An immutable set of byte ranges. Make one with `of`, `from_pairs` or `from_array`."""

    array: Rows

    # -- making -----------------------------------------------------------------------------

    @classmethod
    def empty(cls) -> Extents:
        return cls.from_array(np.empty((0, 2), np.int64))

    @classmethod
    def of(cls, start: int, end: int) -> Extents:
        """The one extent [start, end)."""
        return cls.from_pairs([(start, end)])

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[int, int]]) -> Extents:
        """From (start, end) pairs in any order; overlaps are united."""
        rows = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
        return cls.from_array(rows)

    @classmethod
    def from_array(cls, rows: NDArray[np.int64]) -> Extents:
        """From an (n, 2) array of [start, end) rows in any order; overlaps are united.

        Raises ValueError where a row ends before it starts or starts below zero.
        """
        rows = np.asarray(rows, dtype=np.int64).reshape(-1, 2)
        if len(rows) and (np.any(rows[:, 1] < rows[:, 0]) or rows[:, 0].min() < 0):
            raise ValueError("an extent ends before it starts, or starts below zero")
        merged = np.ascontiguousarray(_merge(rows))
        if merged is rows or merged.base is not None:
            merged = merged.copy()
        merged.flags.writeable = False
        return cls(merged)

    @classmethod
    def from_blocks(cls, indices: NDArray[np.int64], block: int, capacity: int) -> Extents:
        """From block numbers; the last block of the disk may be short."""
        start = np.asarray(indices, dtype=np.int64) * block
        return cls.from_array(np.stack((start, np.minimum(start + block, capacity)), axis=1))

    # -- looking ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(start, end) pairs as plain ints, ascending."""
        return ((int(start), int(end)) for start, end in self.array)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Extents):
            return NotImplemented
        return np.array_equal(self.array, other.array)

    __hash__ = None  # type: ignore[assignment]

    @property
    def total(self) -> int:
        """Bytes covered."""
        return int((self.array[:, 1] - self.array[:, 0]).sum())

    @property
    def end(self) -> int:
        """The first byte after the last extent; 0 when empty."""
        return int(self.array[-1, 1]) if len(self.array) else 0

    def covers(self, other: Extents) -> bool:
        """True where every byte of `other` is in here."""
        return len(other.subtract(self)) == 0

    # -- combining --------------------------------------------------------------------------

    def union(self, *others: Extents) -> Extents:
        return Extents.from_array(np.concatenate([self.array, *(o.array for o in others)]))

    def complement(self, capacity: int) -> Extents:
        """What of [0, capacity) is not in here."""
        inside = self.clip(0, capacity).array
        edges = np.concatenate(([0], inside.ravel(), [capacity])).astype(np.int64)
        return Extents.from_array(edges.reshape(-1, 2))

    def intersect(self, other: Extents) -> Extents:
        """Bytes in both. Cost: O((n + m) log m)."""
        a, b = self.array, other.array
        if not len(a) or not len(b):
            return Extents.empty()
        # For every row of a, the rows of b that touch it are b[low:high].
        low = np.searchsorted(b[:, 1], a[:, 0], side="right")
        high = np.searchsorted(b[:, 0], a[:, 1], side="left")
        count = np.maximum(high - low, 0)
        rows_a = np.repeat(np.arange(len(a)), count)
        before = np.repeat(np.cumsum(count) - count, count)
        rows_b = np.arange(count.sum()) - before + np.repeat(low, count)
        start = np.maximum(a[rows_a, 0], b[rows_b, 0])
        end = np.minimum(a[rows_a, 1], b[rows_b, 1])
        return Extents.from_array(np.stack((start, end), axis=1))

    def subtract(self, other: Extents) -> Extents:
        """Bytes in here and not in `other`."""
        return self.intersect(other.complement(max(self.end, other.end)))

    def clip(self, start: int, end: int) -> Extents:
        """What of this lies in [start, end)."""
        rows = np.clip(self.array, start, end)
        return Extents.from_array(rows)

    def align(self, unit: int, capacity: int | None = None) -> Extents:
        """Every edge moved outwards to a multiple of `unit`, the end held to `capacity`."""
        rows = self.array.copy()
        rows[:, 0] -= rows[:, 0] % unit
        rows[:, 1] += -rows[:, 1] % unit
        if capacity is not None:
            np.minimum(rows, capacity, out=rows)
        return Extents.from_array(rows)

    def coalesce(self, gap: int) -> Extents:
        """Extents with at most `gap` bytes between them joined, for fewer, larger reads."""
        rows = self.array
        if len(rows) < 2:
            return self
        apart = rows[1:, 0] - rows[:-1, 1] > gap
        first = np.concatenate(([True], apart))
        last = np.concatenate((apart, [True]))
        return Extents.from_array(np.stack((rows[first, 0], rows[last, 1]), axis=1))

    def split(self, size: int) -> Iterator[tuple[int, int]]:
        """(start, end) pieces that never cross a multiple of `size`, ascending."""
        for start, end in self:
            cut = min(end, start - start % size + size)
            while start < end:
                yield start, cut
                start, cut = cut, min(end, cut + size)
