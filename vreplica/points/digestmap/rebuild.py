"""Rebuilds a digest map by reading what a replica's disk holds: a lost map, or that of a seed.

Seeding is the same: the replica's disk came from a clone, a restored backup or a disk carried by
hand. It is read once here, and the next run writes only what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vreplica.disk import Disk
from vreplica.extents import Extents
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.units import BLOCK, IO_SIZE, MIB, round_down

_BUFFER: Final = 8 * MIB


class HashBlocks(Protocol):
    """The hash function, handed in: maps store digests, they do not compute them."""

    def __call__(self, buffer: memoryview, block: int, seed: int) -> NDArray[np.uint8]:
        """Digest of every block, shape (n, 16); zeros have the zero digest."""


def rebuild(
    path: Path,
    disk: Disk,
    hash_blocks: HashBlocks,
    *,
    point: str,
    algorithm: str,
    seed: int | None = None,
    block: int = BLOCK,
    progress: Callable[[int, int], None] | None = None,
) -> DigestMap:
    """Creates the map of `disk`, the replica at recovery point `point`. Reads all it has allocated.

    Until it is complete, the file at `path` is a map of no recovery point: a map that breaks off
    is rebuilt again. `progress(done_bytes, total_bytes)` is called every 8 MiB.
    """
    made = DigestMap.create(
        path, capacity_bytes=disk.capacity_bytes, algorithm=algorithm, seed=seed, block=block
    )
    try:
        pending = made.begin_run(point)
        wanted = disk.allocated().align(block, disk.capacity_bytes)
        buffer, done = memoryview(bytearray(round_down(_BUFFER, block))), 0
        for start, end in wanted.split(len(buffer)):
            pieces = Extents.of(start, end).split(IO_SIZE)
            disk.read_many([(s, buffer[s - start : e - start]) for s, e in pieces])
            digests = hash_blocks(buffer[: end - start], block, made.seed)
            pending.add(start // block + np.arange(len(digests)), digests)
            done += end - start
            if progress is not None:
                progress(done, wanted.total)
        made.seal(pending)
        made.apply(point)
    except BaseException:
        made.close()
        raise
    return made
