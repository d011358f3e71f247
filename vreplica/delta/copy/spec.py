"""Says what one copy of one disk does: from where, to where, which bytes, under whose control."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vreplica.delta.block_hash import Digests
from vreplica.delta.control import Control
from vreplica.delta.copy.batches import Geometry
from vreplica.delta.copy.stats import CopyProgress, CopyStats
from vreplica.delta.copy.transfer import DEFAULT_RETRY, RetryPolicy
from vreplica.disk import Disk
from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.units import BLOCK, IO_SIZE, MIB

BATCH: Final = 8 * MIB
"""Bytes in one slot: eight requests of 1 MiB in flight hide a round trip of an NFC session."""

DEPTH: Final = 3
"""Workers, each with a slot: one reads, one hashes, one writes. Their 24 MiB stay under the 32 MiB
that one host's NFC service may have in flight (it has 48 MiB; VDDK 8.0 Programming Guide). Where no
request waits for a network, there are no more workers than processors."""

CHECKPOINT_S: Final = 30.0
"""A resumed copy repeats about this much work at most."""


class KnownDigests(Protocol):
    """The digests of what the target holds."""

    def lookup(self, blocks: NDArray[np.int64]) -> Digests:
        """Digests of these blocks, shape (n, 16). Called by one thread at a time."""


class DigestSink(Protocol):
    """Takes the digests of what was written. Called by one thread at a time, in block order."""

    def add(self, blocks: NDArray[np.int64], digests: Digests) -> None:
        """These blocks are on the target now (not durable yet)."""

    def checkpoint(self, position: int, counts: Mapping[str, float]) -> None:
        """Every selected byte below `position` is durable on the target.

        `counts` holds what was counted up to there, as `CopyStats.to_values` gives it.
        """


def _no_fence() -> None:
    """Stops nothing."""


@dataclass(frozen=True, slots=True)
class CopySpec:
    """Everything that one copy of one disk needs. Sizes in bytes.

    The copy makes `target` equal to `source` over `extents`, in whole blocks.
    """

    source: Disk
    target: Disk
    extents: Extents
    known: KnownDigests | None = field(default=None, kw_only=True)
    """Describes the target: blocks with the same digest are not written. None: every block that is
    not zero is written, and zeros are written except where `target_zero` has them."""
    sink: DigestSink | None = field(default=None, kw_only=True)
    """Gets the digest of every block that differs from `known` (without `known`: of every block)
    after the block was written."""
    seed: int = field(default=0, kw_only=True)
    """Of the digests, as `known` and `sink` have them."""
    block: int = field(default=BLOCK, kw_only=True)
    source_zero: Extents = field(default_factory=Extents.empty, kw_only=True)
    """Zeros on the source, which are not read."""
    target_zero: Extents = field(default_factory=Extents.empty, kw_only=True)
    """Zeros on the target, for a copy without `known`."""
    earlier: CopyStats = field(default_factory=CopyStats, kw_only=True)
    """Counts of the earlier parts of a resumed copy. All counts go on from these."""
    progress: Callable[[CopyProgress], None] | None = field(default=None, kw_only=True)
    """Called after each batch, in turn."""
    control: Control = field(default_factory=Control, kw_only=True)
    fence: Callable[[], None] = field(default=_no_fence, kw_only=True)
    """Called before every write. It stops the copy by raising."""
    checkpoint_s: float = field(default=CHECKPOINT_S, kw_only=True)
    retry: RetryPolicy = field(default=DEFAULT_RETRY, kw_only=True)
    """For errors that are `retryable`."""
    on_retry: Callable[[VReplicaError], None] | None = field(default=None, kw_only=True)
    """Called with each error that a request is repeated for."""
    io_size: int = field(default=IO_SIZE, kw_only=True)
    """The largest request."""
    batch_size: int = field(default=BATCH, kw_only=True)
    """The largest slot."""
    depth: int | None = field(default=None, kw_only=True)
    """Workers, and so slots; None: as DEPTH says."""

    @property
    def geometry(self) -> Geometry:
        return Geometry(min(self.source.capacity_bytes, self.target.capacity_bytes), self.block)

    @property
    def workers(self) -> int:
        if self.depth is not None:
            return self.depth
        far = self.source.round_trips or self.target.round_trips
        return DEPTH if far else min(DEPTH, len(os.sched_getaffinity(0)))
