"""Audits changed block tracking: reads a sample of what it calls unchanged, and compares digests.

    disk       |......cccc..........cc...........|    c: what tracking reports as changed
    sampled        ^           ^         ^    ^       1 in 1,000 of the other blocks, at random

A block that tracking calls unchanged must have the digest that the digest map of the latest
recovery point has for it. Another digest means that tracking lost a write (VMware KB 2090639,
Broadcom KB 317933 and others). A delta by such tracking would make a wrong replica.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Final

import numpy as np

from vreplica.delta.block_hash import equal, hash_blocks
from vreplica.delta.copy.batches import Geometry
from vreplica.delta.copy.spec import KnownDigests
from vreplica.disk import Disk
from vreplica.errors import CbtError
from vreplica.extents import Extents
from vreplica.units import BLOCK

SHARE: Final = 0.001
"""Of the blocks called unchanged."""

MAX_SECONDS: Final = 30.0
_BATCH_BLOCKS: Final = 64
_MAX_SAMPLE: Final = 100_000


@dataclass(eq=False)
class CbtMissedChanges(CbtError):
    template = (
        "change tracking missed changes: {missed_blocks} of {sampled_blocks} sampled blocks have "
        "changed, but it calls them unchanged; the first is at byte {first_byte}"
    )
    remedy = (
        "Reset change tracking of this VM (disable, snapshot cycle, enable); the next run compares "
        "the whole disk with the replica by digest. Check the host's build for known faults of CBT."
    )
    missed_blocks: int
    sampled_blocks: int
    first_byte: int


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of an audit. `different` has the blocks that tracking should have reported."""

    sampled_blocks: int
    unchanged_blocks: int
    """The blocks that the sample was taken from."""
    read_bytes: int
    different: Extents
    seconds: float
    complete: bool
    """False: the time ended before all samples were read."""

    def raise_if_different(self) -> None:
        if len(self.different):
            raise CbtMissedChanges(
                missed_blocks=-(-self.different.total // BLOCK),
                sampled_blocks=self.sampled_blocks,
                first_byte=int(self.different.array[0, 0]),
            )


def audit(
    source: Disk,
    known: KnownDigests,
    changed: Extents,
    candidates: Extents,
    *,
    seed: int,
    block: int = BLOCK,
    share: float = SHARE,
    max_seconds: float = MAX_SECONDS,
    random_seed: int | None = None,
) -> AuditReport:
    """Samples the blocks of `candidates` that `changed` does not touch, and compares digests.

    `known` and `seed` belong to the recovery point that `changed` counts from. Blocks are read one
    by one in random order, so the sample is fair also when the time ends early.
    """
    started = perf_counter()
    geometry = Geometry(source.capacity_bytes, block)
    quiet = candidates.clip(0, geometry.capacity).align(block).subtract(changed.align(block))
    rows = quiet.array // block
    after = np.cumsum(rows[:, 1] - rows[:, 0])
    total = int(after[-1]) if len(after) else 0
    rng = np.random.default_rng(random_seed)
    wanted = min(total, _MAX_SAMPLE, max(1, round(total * share))) if total else 0
    chosen = rng.choice(total, wanted, replace=False) if wanted else np.empty(0, np.int64)
    buffer = memoryview(bytearray(_BATCH_BLOCKS * block))
    found: list[int] = []
    sampled = read = 0
    for start in range(0, wanted, _BATCH_BLOCKS):
        if perf_counter() - started > max_seconds:
            break
        ordinal = np.sort(chosen[start : start + _BATCH_BLOCKS])
        row = np.searchsorted(after, ordinal, side="right")
        blocks = rows[row, 1] - (after[row] - ordinal)
        spans = geometry.spans(blocks, block)
        source.read_many([(s.offset, buffer[s.at : s.at + s.length]) for s in spans])
        nbytes = geometry.nbytes(blocks)
        digests = hash_blocks(buffer[:nbytes], block, seed)
        found += blocks[~equal(digests, known.lookup(blocks))].tolist()
        sampled += len(blocks)
        read += nbytes
    return AuditReport(
        sampled_blocks=sampled,
        unchanged_blocks=total,
        read_bytes=read,
        different=Extents.from_blocks(np.array(found, np.int64), block, geometry.capacity),
        seconds=perf_counter() - started,
        complete=sampled == wanted,
    )
