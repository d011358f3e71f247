"""Carries a digest map over to another disk that held the same content.

    map of the booted point      | d0 | 00 | d2 | d3 |
    changed on the other VM      |         |xxxx|    |
    carried                      | d0 | 00 | ?? | d3 |     ??: a digest that no block has

So a failback drops unchanged blocks without one read of the VM that it writes to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from vreplica.extents import Extents
from vreplica.points.digestmap.digest_map import UNKNOWN, DigestMap

_BLOCKS: Final = 1 << 16
"""Looked up at a time: 1 MiB of digests."""


def carry(known: DigestMap, path: Path, *, point: str, unknown: Extents) -> DigestMap:
    """Creates a map at `path`, of recovery point `point`: that of `known`, less `unknown`."""
    made = DigestMap.create(
        path,
        capacity_bytes=known.capacity_bytes,
        algorithm=known.algorithm,
        seed=known.seed,
        block=known.block,
    )
    try:
        pending = made.begin_run(point)
        lost = unknown.align(known.block, known.capacity_bytes)
        held = known.not_zero().union(lost).align(known.block, known.capacity_bytes)
        for start, end in held.split(_BLOCKS * known.block):
            blocks = np.arange(start // known.block, -(-end // known.block), dtype=np.int64)
            digests = known.lookup(blocks).copy()
            for low, high in lost.clip(start, end):
                first = start // known.block
                digests[low // known.block - first : -(-high // known.block) - first] = UNKNOWN
            pending.add(blocks, digests)
        made.seal(pending)
        made.apply(point)
    except BaseException:
        made.close()
        raise
    return made
