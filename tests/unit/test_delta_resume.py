"""A full copy that breaks off anywhere goes on from its last checkpoint."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vreplica.delta.hash import ALGORITHM, hash_blocks
from vreplica.delta.pipeline import copy
from vreplica.disk import MemoryDisk
from vreplica.extents import Extents
from vreplica.points.digestmap import DigestMap

BLOCK = 4096


class Crash(Exception):
    """The process ends here."""


class Countdown:
    """Raises Crash when it was called so many times."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crash


@pytest.mark.parametrize("writes", range(1, 26))
def test_a_full_copy_that_breaks_off_anywhere_goes_on_from_its_checkpoint(
    tmp_path: Path, writes: int
) -> None:
    content = random.Random(writes).randbytes(40 * BLOCK)
    source, target = MemoryDisk(len(content), content), MemoryDisk(len(content))
    path = tmp_path / "map"
    found = DigestMap.create(path, capacity_bytes=len(content), algorithm=ALGORITHM, block=BLOCK)
    sizes: dict[str, Any] = {
        "block": BLOCK,
        "io_size": BLOCK,
        "batch_size": 3 * BLOCK,
        "checkpoint_s": 0,
    }
    with pytest.raises(Crash):
        copy(
            source,
            target,
            Extents.of(0, len(content)),
            sink=found.begin("p"),
            seed=found.seed,
            fence=Countdown(writes),
            **sizes,
        )
    found.close()
    source.ops.clear()
    found = DigestMap.open(path, latest_point="")
    pending = found.resume()
    if pending is None:
        assert writes < 2, "there was a checkpoint"
        found.close()
        return
    rest = Extents.of(pending.position, len(content))
    copy(source, target, rest, sink=pending, seed=found.seed, **sizes)
    assert sum(length for op, _, length in source.ops if op == "read") == rest.total
    found.seal(pending)
    found.apply("p")
    found_content = bytearray(len(content))
    target.read_into(0, memoryview(found_content))
    assert found_content == content
    expected = hash_blocks(memoryview(content), BLOCK, found.seed)
    assert np.array_equal(found.lookup(np.arange(40)), expected)
    found.close()
