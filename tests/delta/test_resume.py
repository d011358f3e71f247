"""A copy that breaks off anywhere goes on from its last checkpoint, and counts as if it had not."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vreplica.delta.block_hash import ALGORITHM, Digests, hash_blocks
from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CopySpec
from vreplica.delta.copy.stats import CopyStats
from vreplica.disk import MemoryDisk
from vreplica.extents import Extents
from vreplica.points.digestmap.digest_map import DigestMap

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
            CopySpec(
                source,
                target,
                Extents.of(0, len(content)),
                sink=found.begin_run("p"),
                seed=found.seed,
                fence=Countdown(writes),
                **sizes,
            )
        )
    found.close()
    source.ops.clear()
    found = DigestMap.open(path, latest_point="")
    pending = found.resume_run()
    if pending is None:
        assert writes < 2, "there was a checkpoint"
        found.close()
        return
    rest = Extents.of(pending.position, len(content))
    copy(CopySpec(source, target, rest, sink=pending, seed=found.seed, **sizes))
    assert sum(length for op, _, length in source.ops if op == "read") == rest.total
    found.seal(pending)
    found.apply("p")
    found_content = bytearray(len(content))
    target.read_into(0, memoryview(found_content))
    assert found_content == content
    expected = hash_blocks(memoryview(content), BLOCK, found.seed)
    assert np.array_equal(found.lookup(np.arange(40)), expected)
    found.close()


# -- what is counted ------------------------------------------------------------------------


class Journal:
    """The last checkpoint, and what the target held before."""

    def __init__(self, target: bytes) -> None:
        self.before = hash_blocks(memoryview(target), BLOCK, 0)
        self.position, self.counts = 0, dict[str, float]()

    def lookup(self, blocks: NDArray[np.int64]) -> Digests:
        return self.before[blocks]

    def add(self, blocks: NDArray[np.int64], digests: Digests) -> None:
        pass

    def checkpoint(self, position: int, counts: Mapping[str, float]) -> None:
        self.position, self.counts = position, dict(counts)


def counted(values: Mapping[str, float]) -> dict[str, float]:
    """What does not depend on the clock, or on how requests were put together."""
    return {k: v for k, v in values.items() if not k.endswith(("_s", "_requests"))}


contents = st.lists(st.integers(0, 3), min_size=40, max_size=40).map(
    lambda fill: b"".join(bytes([value]) * BLOCK for value in fill)
)


@given(
    old=contents,
    new=contents,
    known=st.booleans(),
    holes=st.lists(st.integers(0, 39), max_size=6),
    ends=st.lists(st.integers(0, 12), max_size=4),
)
def test_a_copy_in_any_number_of_parts_counts_what_one_without_a_break_counts(
    old: bytes, new: bytes, known: bool, holes: list[int], ends: list[int]
) -> None:
    def part(target: MemoryDisk, journal: Journal, writes: int) -> CopyStats:
        return copy(
            CopySpec(
                MemoryDisk(len(new), new),
                target,
                extents.clip(journal.position, len(new)),
                known=journal if known else None,
                sink=journal,
                source_zero=zero,
                earlier=CopyStats.from_values(journal.counts),
                fence=Countdown(writes),
                block=BLOCK,
                io_size=BLOCK,
                batch_size=3 * BLOCK,
                checkpoint_s=0,
            )
        )

    extents = Extents.of(0, len(new))
    zero = Extents.empty()
    for block in holes:
        zero = zero.union(Extents.of(block * BLOCK, (block + 1) * BLOCK))
    whole = part(MemoryDisk(len(old), old), Journal(old), 1000)

    target, journal = MemoryDisk(len(old), old), Journal(old)
    stats: CopyStats | None = None
    for writes in [*ends, 1000]:
        try:
            stats = part(target, journal, writes)
            break
        except Crash:
            done = journal.counts
            assert done.get("selected_bytes", 0) == journal.position
            parts = ("redundant_bytes", "zeroed_bytes", "shipped_bytes")
            assert sum(done.get(name, 0) for name in parts) == journal.position
    assert stats is not None
    assert counted(stats.to_values()) == counted(whole.to_values())
    assert counted(journal.counts) == counted(whole.to_values())
    assert stats.content == whole.content
