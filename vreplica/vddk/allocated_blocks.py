"""Plans the calls of QueryAllocatedBlocks. Pure; everything in sectors of 512 bytes.

    |<------------- whole chunks ------------->|<- tail ->|
    |  call 0   |  call 1   | ...  |  call n-1 |          |   capacity
       at most 524288 chunks a call              never asked, counted as allocated

The tail is not asked for, since a chunk may not reach past the end. VMware's sample, its
safekeeping and Bareos do it this way too (nbdkit rounds up instead, which works but is not
documented). A disk smaller than one chunk counts as allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Final

from vreplica.vddk.abi import MAX_CHUNK_SECTORS, MAX_CHUNKS_PER_CALL, MIN_CHUNK_SECTORS

PATIENCE_S: Final = 60.0
"""Larger chunks are used where chunks of 64 KiB would take longer than this for the disk."""

COARSE_CALLS: Final = 64
"""Number of calls for a whole disk with larger chunks. The makers of Xen Orchestra measured 2.5 s
for a call over 25 GiB on VMFS; the native library answers for 32 GiB in less than a millisecond."""


@dataclass(frozen=True, slots=True)
class BlockQuery:
    """One call of QueryAllocatedBlocks."""

    start: int
    count: int
    chunk: int

    @property
    def end(self) -> int:
        return self.start + self.count


def coarse_chunk(capacity: int) -> int:
    """Returns the smallest chunk that needs at most COARSE_CALLS calls.

    It is a power of two: 64 KiB up to 2 TiB, 2 MiB for 62 TiB.
    """
    chunk = MIN_CHUNK_SECTORS
    while chunk < MAX_CHUNK_SECTORS and capacity > chunk * MAX_CHUNKS_PER_CALL * COARSE_CALLS:
        chunk *= 2
    return chunk


def queries(capacity: int, clock: Callable[[], float] = monotonic) -> Iterator[BlockQuery]:
    """Yields the calls for a disk in order; the tail follows the last one.

    Chunks have 64 KiB as long as the calls, which the caller makes between items, are quick.
    """
    chunk, at, started = MIN_CHUNK_SECTORS, 0, clock()
    while count := min(chunk * MAX_CHUNKS_PER_CALL, capacity - at - (capacity - at) % chunk):
        yield BlockQuery(at, count, chunk)
        at += count
        if (clock() - started) / at * (capacity - at) > PATIENCE_S:
            # Every start is a multiple of 32 GiB, and so of any chunk.
            chunk = coarse_chunk(capacity)
