"""The arithmetic of QueryAllocatedBlocks. Pure; everything in sectors of 512 bytes.

    |<------------- whole chunks ------------->|<- tail ->|
    |  call 0   |  call 1   | ...  |  call n-1 |          |   capacity
       at most 524288 chunks a call              never asked, counted as allocated

The tail is not asked for, since a chunk may not reach past the end: VMware's sample, its
safekeeping and Bareos all do it this way (nbdkit rounds up instead, which works but is not
documented). A disk smaller than one chunk is allocated as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vreplica.vddk.abi import MAX_CHUNK_SECTORS, MAX_CHUNKS_PER_CALL, MIN_CHUNK_SECTORS

CALLS_MAX: Final = 64
"""Calls that one disk may cost. A call over 32 GiB on VMFS has been measured at about 3 s by
others: 2 TiB at 64 KiB is a few minutes at worst, always less than reading the holes."""


@dataclass(frozen=True, slots=True)
class Query:
    """One call of QueryAllocatedBlocks."""

    start: int
    count: int
    chunk: int


def chunk_for(capacity: int) -> int:
    """The finest chunk, a power of two of at least 64 KiB, that needs at most CALLS_MAX calls.

    64 KiB up to 2 TiB, 2 MiB for 62 TiB.
    """
    chunk = MIN_CHUNK_SECTORS
    while chunk < MAX_CHUNK_SECTORS and capacity > chunk * MAX_CHUNKS_PER_CALL * CALLS_MAX:
        chunk *= 2
    return chunk


def plan(capacity: int, chunk: int | None = None) -> tuple[list[Query], int]:
    """The calls for a disk, and where its tail begins (== capacity where there is none)."""
    chunk = chunk or chunk_for(capacity)
    tail = capacity - capacity % chunk
    span = chunk * MAX_CHUNKS_PER_CALL
    queries = [Query(at, min(span, tail - at), chunk) for at in range(0, tail, span)]
    return queries, tail
