"""A digest map carried over: known where nothing changed, unknown where something did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.digest_maps import is_intact
from vreplica.delta.block_hash import ALGORITHM, hash_blocks
from vreplica.disk import MemoryDisk
from vreplica.extents import Extents
from vreplica.points.digestmap.carry import UNKNOWN, carry
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.rebuild import rebuild
from vreplica.units import BLOCK


@pytest.mark.parametrize("capacity", [16 * BLOCK, 16 * BLOCK - 512])
def test_what_is_unknown_has_a_digest_that_no_block_has(tmp_path: Path, capacity: int) -> None:
    disk = MemoryDisk(capacity)
    for block in (0, 3, 15):
        disk.write_from(block * BLOCK, memoryview(bytes([block + 1]) * 512))
    known = rebuild(tmp_path / "a", disk, hash_blocks, point="p", algorithm=ALGORITHM)
    unknown = Extents.from_pairs([(3 * BLOCK + 512, 3 * BLOCK + 1024), (15 * BLOCK, capacity)])
    made = carry(known, tmp_path / "b", point="q", unknown=unknown)
    blocks = np.arange(16, dtype=np.int64)
    was, now = known.lookup(blocks), made.lookup(blocks)
    lost = [3, 15]
    assert (now[lost] == UNKNOWN).all()
    kept = [b for b in range(16) if b not in lost]
    assert (now[kept] == was[kept]).all()
    assert is_intact(made.path)
    made.close()
    known.close()
    # It is the map of that point from now on, and of no other.
    DigestMap.open(tmp_path / "b", latest_point="q").close()
