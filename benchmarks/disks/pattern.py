"""A disk of any capacity without memory: reads give a computed pattern, writes are dropped.

In allocated places each block of 64 KiB holds its own number and the seed of the disk; the rest is
zeros. For measuring the engine alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vreplica.disk import Arena, Request, check_request
from vreplica.extents import Extents
from vreplica.units import BLOCK, MIB


class PatternDisk:
    """A disk with `pieces` allocated pieces of 1 MiB, evenly spread over the capacity."""

    round_trips = False
    parallel_reads = 1

    def __init__(self, capacity_bytes: int, pieces: int, *, seed: int = 1) -> None:
        self.name = "pattern"
        self.capacity_bytes = capacity_bytes
        self.written = 0
        self._seed = seed
        places = np.linspace(0, capacity_bytes - MIB, pieces).astype(np.int64) // BLOCK * BLOCK
        self._allocated = Extents.from_array(np.stack((places, places + MIB), axis=1))

    def read_into(self, offset: int, view: memoryview) -> None:
        check_request(offset, view.nbytes, self.capacity_bytes)
        words = np.frombuffer(view, np.uint64)
        words[:] = self._seed
        words[::64] = np.arange(offset // 512, (offset + view.nbytes) // 512, dtype=np.uint64)

    def write_from(self, offset: int, view: memoryview) -> None:
        check_request(offset, view.nbytes, self.capacity_bytes)
        self.written += view.nbytes

    def read_many(self, requests: Sequence[Request]) -> None:
        for offset, view in requests:
            self.read_into(offset, view)

    def write_many(self, requests: Sequence[Request]) -> None:
        for offset, view in requests:
            self.write_from(offset, view)

    def allocated(self) -> Extents:
        return self._allocated

    def register(self, arena: Arena) -> None:
        """Nothing to share."""

    def flush(self) -> None:
        """Nothing to keep."""

    def close(self) -> None:
        """Nothing to give back."""
