"""The copier: source -> reader -> hasher -> writer -> target, in memory that is fixed.

       reader thread              calling thread                writer thread
    +------------------+  batch  +--------------------+ batch  +--------------------+
    | read_many into a | ------> | zero mask, digests,| -----> | fence, write_many, |
    | slot of the arena|  queue  | drop what is known | queue  | digests to sink    |
    +------------------+         +--------------------+        +--------------------+
             ^                           |  nothing to write            |
             +---------------------------+--------- free slots <--------+

The slots bound everything: the queues never hold more batches than there are slots. Batches
are settled in ascending order, so "all below byte X is done" is one number. The first failure
closes the pipeline; failures of other stages are noted on it.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vreplica.delta.batches import Blocks, Geometry, Span
from vreplica.delta.control import Control
from vreplica.delta.errors import CopyCancelled
from vreplica.delta.hash import Digests, equal, hash_blocks, is_zero
from vreplica.delta.stats import Clock, CopyProgress, CopyStats
from vreplica.delta.transfer import DEFAULT_RETRY, RetryPolicy, Transfer
from vreplica.disk import Arena, Disk
from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.units import BLOCK, IO_SIZE, MIB, round_down, round_up

BATCH: Final = 8 * MIB
"""Bytes per slot: eight requests of 1 MiB in flight hide a round trip of an NFC session."""

LOCAL_BATCH: Final = 2 * MIB
"""Bytes per slot where neither disk has round trips: what was read is hashed and written while
the processor's caches hold it. A rescan took a third less time than with 8 MiB."""

DEPTH: Final = 3
"""Slots: one being read, one hashed, one written. 24 MiB, under the 32 MiB that one host's NFC
service may have in flight (it has 48 MiB; VDDK 8.0 Programming Guide)."""

ARENA_SHARE: Final = 8
"""The arena is at most this part of the bytes that are looked at."""

CHECKPOINT_S: Final = 30.0
"""A resumed copy repeats at most about this much work."""


class KnownDigests(Protocol):
    """What the target is known to hold."""

    def lookup(self, blocks: NDArray[np.int64]) -> Digests:
        """Digests of these blocks, shape (n, 16). Called from the calling thread only."""


class DigestSink(Protocol):
    """Where digests of what was written go. Called from the writer thread, in block order."""

    def add(self, blocks: NDArray[np.int64], digests: Digests) -> None:
        """These blocks are now on the target (not yet durable)."""

    def checkpoint(self, position: int, counts: Mapping[str, float]) -> None:
        """Every selected byte below `position` is durable on the target.

        `counts`: what was counted up to there, as `CopyStats.to_values` gives it.
        """


@dataclass(slots=True)
class _Batch:
    blocks: Blocks
    slot: int | None
    read_bytes: int
    write: list[Span]
    changed: Blocks
    digests: Digests | None
    counts: CopyStats | None = None
    """Of all batches up to this one, for a checkpoint behind it."""


def copy(
    source: Disk,
    target: Disk,
    extents: Extents,
    *,
    known: KnownDigests | None = None,
    sink: DigestSink | None = None,
    seed: int = 0,
    block: int = BLOCK,
    io_size: int = IO_SIZE,
    batch_size: int | None = None,
    depth: int = DEPTH,
    source_zero: Extents | None = None,
    target_zero: Extents | None = None,
    progress: Callable[[CopyProgress], None] | None = None,
    control: Control | None = None,
    earlier: CopyStats | None = None,
    fence: Callable[[], None] | None = None,
    checkpoint_s: float = CHECKPOINT_S,
    retry: RetryPolicy = DEFAULT_RETRY,
    on_retry: Callable[[VReplicaError], None] | None = None,
) -> CopyStats:
    """Make `target` equal to `source` over `extents`, in whole blocks; durable on return.

    `known` says what the target holds: blocks whose digest is the same are not written.
    Without it every block that is not zero is written, and zeros are written wherever
    `target_zero` does not promise them. `source_zero` is not read. `sink` gets the digest of
    every block that differs from `known` (without `known`: of every block), after it was
    written. `earlier` is what the parts before this one had come to, of a copy that is gone on
    with: all counts go on from there. `fence` is called before every write and stops the copy by
    raising. Errors that are `retryable` are retried as `retry` says, each reported to `on_retry`.

    Memory: `depth` slots of `batch_size` (whole blocks; None: BATCH, or LOCAL_BATCH where no
    request waits for a network), whatever the capacity. Raises what the disks raise, with the
    byte offset filled in where the disk did not, and CopyCancelled when `control` says so; the
    target is then as far as it got.
    """
    geometry = Geometry(min(source.capacity_bytes, target.capacity_bytes), block)
    if batch_size is None:
        batch_size = BATCH if source.round_trips or target.round_trips else LOCAL_BATCH
    job = _Copy(
        source, target, geometry, extents, io_size, batch_size, depth, earlier or CopyStats()
    )
    job.known, job.sink, job.seed = known, sink, seed
    job.source_zero = source_zero or Extents.empty()
    job.target_zero = target_zero or Extents.empty()
    job.progress, job.control, job.fence = progress, control or Control(), fence
    job.checkpoint_s = checkpoint_s
    transfer = partial(
        Transfer, smallest=block, control=job.control, policy=retry, on_retry=on_retry
    )
    job.reads, job.writes = transfer(source.read_many), transfer(target.write_many, fence=fence)
    return job.run()


class _Copy:
    """State of one copy. Each stage writes only its own counters."""

    known: KnownDigests | None
    sink: DigestSink | None
    seed: int
    source_zero: Extents
    target_zero: Extents
    progress: Callable[[CopyProgress], None] | None
    control: Control
    fence: Callable[[], None] | None
    checkpoint_s: float
    reads: Transfer
    writes: Transfer

    def __init__(
        self,
        source: Disk,
        target: Disk,
        geometry: Geometry,
        extents: Extents,
        io_size: int,
        batch_size: int,
        depth: int,
        earlier: CopyStats,
    ) -> None:
        self.source, self.target, self.geometry = source, target, geometry
        self.extents = extents.clip(0, geometry.capacity).align(geometry.block, geometry.capacity)
        self.io_size = max(geometry.block, round_down(io_size, geometry.block))
        total = self.extents.total
        # A small delta takes a small arena: fresh memory costs about as much as moving the bytes.
        wanted = min(batch_size, total // (depth * ARENA_SHARE))
        self.slot_size = round_up(max(wanted, min(self.io_size, batch_size)), geometry.block)
        self.depth = depth
        self.earlier, self.stats = earlier, earlier.taken()
        self.stats.selected_bytes += total
        self.stats.selected_blocks += -(-total // geometry.block)
        self.clocks = {"read": Clock(), "hash": Clock(), "write": Clock(), "flush": Clock()}
        self.free: SimpleQueue[int | None] = SimpleQueue()
        self.filled: SimpleQueue[_Batch | None] = SimpleQueue()
        self.decided: SimpleQueue[_Batch | None] = SimpleQueue()
        self.failures: list[tuple[str, BaseException]] = []
        self.stopped = threading.Event()
        self.done_bytes = earlier.selected_bytes
        self.started = perf_counter()

    # -- the whole --------------------------------------------------------------------------

    def run(self) -> CopyStats:
        arena = Arena(self.slot_size * self.depth)
        try:
            self.source.register(arena)
            self.target.register(arena)
            self.slots = [
                arena.view[i * self.slot_size : (i + 1) * self.slot_size] for i in range(self.depth)
            ]
            self._run_stages()
        finally:
            self.slots = []
            for _, error in self.failures:
                # Frames of a traceback would keep views of the arena alive.
                traceback.clear_frames(error.__traceback__)
            with suppress(BufferError):
                arena.close()
        if self.failures:
            raise self._first_failure()
        self._report()
        return self._measured(self.stats)

    def _measured(self, stats: CopyStats) -> CopyStats:
        """With what is not counted by the batch, as it is now."""
        before = self.earlier
        stats.total_s = before.total_s + perf_counter() - self.started
        stats.read_requests = before.read_requests + self.reads.requests
        stats.write_requests = before.write_requests + self.writes.requests
        stats.retries = before.retries + self.reads.retries + self.writes.retries
        for name, clock in self.clocks.items():
            setattr(stats, f"{name}_s", getattr(before, f"{name}_s") + clock.seconds)
        return stats

    def _run_stages(self) -> None:
        for slot in range(self.depth):
            self.free.put(slot)
        threads = [
            threading.Thread(target=self._stage, args=("read", self._read), name="vreplica-read"),
            threading.Thread(
                target=self._stage, args=("write", self._write), name="vreplica-write"
            ),
        ]
        for thread in threads:
            thread.start()
        try:
            self._stage("hash", self._hash)
        finally:
            if self.failures:
                self._stop()
            for thread in threads:
                thread.join()

    def _stage(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append((name, error))
            self._stop()

    def _stop(self) -> None:
        """Wake every stage; each sees `stopped` and ends."""
        self.stopped.set()
        self.free.put(None)
        self.filled.put(None)
        self.decided.put(None)

    def _first_failure(self) -> BaseException:
        (_, first), *others = self.failures
        for stage, other in others:
            if not isinstance(other, CopyCancelled):
                first.add_note(f"the {stage} stage failed too: {other}")
        return first

    def _admit(self, read_bytes: int = 0) -> None:
        if not self.control.admit(read_bytes, self.stopped):
            raise CopyCancelled(done_bytes=self.done_bytes, total_bytes=self.stats.selected_bytes)

    # -- reader thread ----------------------------------------------------------------------

    def _read(self) -> None:
        per_batch = self.slot_size // self.geometry.block
        for blocks in self.geometry.batches(self.extents, per_batch):
            slot = self.free.get()
            if slot is None or self.stopped.is_set():
                return
            self._admit(self.geometry.nbytes(blocks))
            with self.clocks["read"]:
                read_bytes = self._fill(blocks, self.slots[slot])
            self.filled.put(_Batch(blocks, slot, read_bytes, [], blocks[:0], None))
        self.filled.put(None)

    def _fill(self, blocks: Blocks, slot: memoryview) -> int:
        """Returns how many bytes the source was asked for."""
        hole = self.geometry.inside(blocks, self.source_zero)
        for span in self.geometry.spans(blocks, self.slot_size, hole):
            np.frombuffer(slot[span.at : span.at + span.length], np.uint8).fill(0)
        spans = self.geometry.spans(blocks, self.io_size, ~hole)
        if spans:
            self.reads.run(slot, spans)
        return sum(span.length for span in spans)

    # -- calling thread ---------------------------------------------------------------------

    def _hash(self) -> None:
        while (batch := self.filled.get()) is not None and not self.stopped.is_set():
            assert batch.slot is not None
            with self.clocks["hash"]:
                self._decide(batch, self.slots[batch.slot])
            if not batch.write:
                self.free.put(batch.slot)
                batch.slot = None
            self.decided.put(batch)
            self._report()
        self.decided.put(None)

    def _decide(self, batch: _Batch, slot: memoryview) -> None:
        blocks, geometry, stats = batch.blocks, self.geometry, self.stats
        nbytes = geometry.nbytes(blocks)
        digests = hash_blocks(slot[:nbytes], geometry.block, self.seed)
        zero = is_zero(digests)
        if self.known is not None:
            write = fresh = ~equal(digests, self.known.lookup(blocks))
        else:
            write = ~zero
            if zero.any():
                write |= zero & ~geometry.inside(blocks, self.target_zero)
            fresh = np.ones(len(blocks), np.bool_)
        stats.read_bytes += batch.read_bytes
        zero_bytes = geometry.nbytes(blocks[zero])
        zeroed = geometry.nbytes(blocks[zero & write])
        written = geometry.nbytes(blocks[write])
        stats.zero_bytes += zero_bytes
        stats.hashed_bytes += nbytes - zero_bytes
        stats.zeroed_bytes += zeroed
        stats.shipped_bytes += written - zeroed
        stats.redundant_bytes += nbytes - written
        stats.changed_blocks += int(write.sum())
        self._look_at_content(np.flatnonzero(write & ~zero), slot[:nbytes])
        batch.write = geometry.spans(blocks, self.io_size, write)
        batch.changed, batch.digests = blocks[fresh], digests[fresh]
        if self.sink is not None:
            batch.counts = stats.taken()

    def _look_at_content(self, shipped: NDArray[np.int64], slot: memoryview) -> None:
        for number in self.stats.content.choose(len(shipped)):
            at = int(shipped[number]) * self.geometry.block
            self.stats.content.add(slot[at : at + self.geometry.block])

    def _report(self) -> None:
        if self.progress is not None:
            stats = self.stats
            self.progress(
                CopyProgress(
                    selected_bytes=stats.selected_bytes,
                    done_bytes=self.done_bytes,
                    read_bytes=stats.read_bytes,
                    written_bytes=stats.shipped_bytes + stats.zeroed_bytes,
                    elapsed_s=perf_counter() - self.started,
                )
            )

    # -- writer thread ----------------------------------------------------------------------

    def _write(self) -> None:
        last_checkpoint, counts = perf_counter(), self.earlier.taken()
        while (batch := self.decided.get()) is not None and not self.stopped.is_set():
            if batch.write:
                self._admit()
                assert batch.slot is not None
                with self.clocks["write"]:
                    self.writes.run(self.slots[batch.slot], batch.write)
                self.free.put(batch.slot)
            if self.sink is not None and len(batch.changed) and batch.digests is not None:
                self.sink.add(batch.changed, batch.digests)
            self.done_bytes += self.geometry.nbytes(batch.blocks)
            counts = batch.counts or counts
            if self.sink is not None and perf_counter() - last_checkpoint >= self.checkpoint_s:
                self._checkpoint((int(batch.blocks[-1]) + 1) * self.geometry.block, counts)
                last_checkpoint = perf_counter()
        if not self.stopped.is_set():
            self._checkpoint(self.geometry.capacity, counts)

    def _checkpoint(self, position: int, counts: CopyStats) -> None:
        if self.fence is not None:
            self.fence()
        with self.clocks["flush"]:
            self.target.flush()
        if self.sink is not None:
            counts.selected_bytes = self.done_bytes
            counts.selected_blocks = -(-self.done_bytes // self.geometry.block)
            values = self._measured(counts).to_values()
            self.sink.checkpoint(min(position, self.geometry.capacity), values)
