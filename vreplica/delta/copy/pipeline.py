"""The copier: source -> digests -> target, by a few workers in memory that is fixed.

    worker 1   [ batch 0: read, digest ][ in turn: decide, write ][ batch 3 ...
    worker 2     [ batch 1: read, digest ]      ...[ in turn: decide, write ][ batch 4 ...
    worker 3       [ batch 2: read, digest ]                     ...[ in turn: decide, write ]
                 slot of the arena: one a worker

A worker carries its batch through from the read to the write, so that no batch is handed from
thread to thread behind the interpreter's lock. The source says how many may read at once.
Everything else happens in turn, batch by batch in ascending order: what is known is looked up,
what differs is written, digests go to the sink. So "all below byte X is done" is one number. The
first failure ends all workers; what others fail with is noted on it.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from time import perf_counter
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vreplica.delta.block_hash import Digests, equal, hash_blocks, is_zero
from vreplica.delta.control import Control
from vreplica.delta.copy.batches import Blocks, Geometry
from vreplica.delta.copy.stats import Clock, CopyProgress, CopyStats
from vreplica.delta.copy.transfer import DEFAULT_RETRY, RetryPolicy, Transfer
from vreplica.delta.errors import CopyCancelled
from vreplica.disk import Arena, Disk
from vreplica.errors import VReplicaError
from vreplica.extents import Extents
from vreplica.units import BLOCK, IO_SIZE, MIB, round_down, round_up

BATCH: Final = 8 * MIB
"""Bytes per slot: eight requests of 1 MiB in flight hide a round trip of an NFC session."""

DEPTH: Final = 3
"""Workers, each with a slot: one reads, one digests, one writes. 24 MiB, under the 32 MiB that one
host's NFC service may have in flight (it has 48 MiB; VDDK 8.0 Programming Guide). Where no request
waits for a network there are no more of them than processors."""

ARENA_SHARE: Final = 8
"""The arena is at most this part of the bytes that are looked at."""

CHECKPOINT_S: Final = 30.0
"""A resumed copy repeats at most about this much work."""


class KnownDigests(Protocol):
    """What the target is known to hold."""

    def lookup(self, blocks: NDArray[np.int64]) -> Digests:
        """Digests of these blocks, shape (n, 16). Called by one thread at a time."""


class DigestSink(Protocol):
    """Where digests of what was written go. Called by one thread at a time, in block order."""

    def add(self, blocks: NDArray[np.int64], digests: Digests) -> None:
        """These blocks are now on the target (not yet durable)."""

    def checkpoint(self, position: int, counts: Mapping[str, float]) -> None:
        """Every selected byte below `position` is durable on the target.

        `counts`: what was counted up to there, as `CopyStats.to_values` gives it.
        """


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
    batch_size: int = BATCH,
    depth: int | None = None,
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

    Memory: `depth` slots of `batch_size` (whole blocks; None: as DEPTH says), whatever the
    capacity. Raises what the disks raise, with the byte offset filled in where the disk did not,
    and CopyCancelled when `control` says so; the target is then as far as it got.
    """
    geometry = Geometry(min(source.capacity_bytes, target.capacity_bytes), block)
    if depth is None:
        far = source.round_trips or target.round_trips
        depth = DEPTH if far else min(DEPTH, len(os.sched_getaffinity(0)))
    job = _Copy(
        source, target, geometry, extents, io_size, batch_size, depth, earlier or CopyStats()
    )
    job.known, job.sink, job.seed = known, sink, seed
    job.source_zero = source_zero or Extents.empty()
    job.target_zero = target_zero or Extents.empty()
    job.progress, job.control, job.fence = progress, control or Control(), fence
    job.checkpoint_s = checkpoint_s
    transfer = partial(
        Transfer,
        smallest=block,
        control=job.control,
        stopped=job.stopped,
        policy=retry,
        on_retry=on_retry,
    )
    job.reads = transfer(source.read_many, fence=job.heed)
    job.writes = transfer(target.write_many, fence=job.heed_fence)
    return job.run()


class _Copy:
    """State of one copy: what changes does so in turn, but for the batches that are taken."""

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
        stages = ("read", "hash", "write", "flush", "wait")
        self.clocks = {stage: Clock() for stage in stages}
        per_batch = self.slot_size // geometry.block
        self.batches = enumerate(geometry.batches(self.extents, per_batch))
        self.reading = threading.Semaphore(source.parallel_reads)
        self.taking = threading.Lock()
        self.settled = 0
        self.turn = threading.Condition()
        self.failures: list[BaseException] = []
        self.stopped = threading.Event()
        self.done_bytes = earlier.selected_bytes
        self.started = self.last_checkpoint = perf_counter()

    # -- the whole --------------------------------------------------------------------------

    def run(self) -> CopyStats:
        arena = Arena(self.slot_size * self.depth)
        try:
            self.source.register(arena)
            self.target.register(arena)
            self._run_workers(arena)
            if not self.failures:
                self._worker(self._end)
        finally:
            for error in self.failures:
                _clear_frames(error)
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

    def _run_workers(self, arena: Arena) -> None:
        """The calling thread only waits, so that Ctrl-C never cuts a worker short while it has
        what others wait for."""
        threads = []
        for at in range(0, arena.size, self.slot_size):
            work = partial(self._work, arena.view[at : at + self.slot_size])
            threads.append(
                threading.Thread(target=self._worker, args=(work,), name="vreplica-copy")
            )
        self._worker(partial(_run, threads))
        # After Ctrl-C, or where not all could be started, the others end too.
        _join(threads)

    def _worker(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append(error)
            self.stopped.set()
            with self.turn:
                self.turn.notify_all()

    def _first_failure(self) -> BaseException:
        first, *others = self.failures
        for other in others:
            if not isinstance(other, CopyCancelled):
                first.add_note(f"another part of the copy failed too: {other}")
        return first

    def _admit(self, read_bytes: int = 0) -> None:
        with self.clocks["wait"]:
            admitted = self.control.admit(read_bytes, self.stopped)
        if not admitted:
            raise self._cancelled()

    def heed(self) -> None:
        """Before every try: another worker may have failed during the wait for it."""
        if self.control.ended(self.stopped):
            raise self._cancelled()

    def heed_fence(self) -> None:
        self.heed()
        if self.fence is not None:
            self.fence()

    def _cancelled(self) -> CopyCancelled:
        return CopyCancelled(done_bytes=self.done_bytes, total_bytes=self.stats.selected_bytes)

    # -- one worker -------------------------------------------------------------------------

    def _work(self, slot: memoryview) -> None:
        geometry = self.geometry
        while not self.stopped.is_set():
            with self.reading:
                with self.taking:
                    number, blocks = next(self.batches, (0, None))
                if blocks is None:
                    return
                self._admit(geometry.nbytes(blocks))
                read_bytes = self._read(blocks, slot)
            with self.clocks["hash"]:
                digests = hash_blocks(slot[: geometry.nbytes(blocks)], geometry.block, self.seed)
            with self._in_turn(number) as mine:
                if mine:
                    self.stats.read_bytes += read_bytes
                    self._settle(blocks, digests, slot)

    def _read(self, blocks: Blocks, slot: memoryview) -> int:
        """Returns how many bytes the source was asked for."""
        geometry = self.geometry
        hole = geometry.inside(blocks, self.source_zero)
        for span in geometry.spans(blocks, slot.nbytes, hole):
            np.frombuffer(slot[span.at : span.at + span.length], np.uint8).fill(0)
        spans = geometry.spans(blocks, self.io_size, ~hole)
        if spans:
            with self.clocks["read"]:
                self.reads.run(slot, spans)
        return sum(span.length for span in spans)

    # -- in turn ----------------------------------------------------------------------------

    @contextmanager
    def _in_turn(self, number: int) -> Iterator[bool]:
        """Batch after batch; False where the copy has come to its end before."""
        with self.turn:
            self.turn.wait_for(lambda: self.settled == number or self.stopped.is_set())
        yield not self.stopped.is_set()
        with self.turn:
            self.settled += 1
            self.turn.notify_all()

    def _settle(self, blocks: Blocks, digests: Digests, slot: memoryview) -> None:
        geometry, stats = self.geometry, self.stats
        nbytes = geometry.nbytes(blocks)
        zero = is_zero(digests)
        if self.known is not None:
            write = fresh = ~equal(digests, self.known.lookup(blocks))
        else:
            write = ~zero
            if zero.any():
                write |= zero & ~geometry.inside(blocks, self.target_zero)
            fresh = np.ones(len(blocks), np.bool_)
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
        if written:
            self._admit()
            with self.clocks["write"]:
                self.writes.run(slot, geometry.spans(blocks, self.io_size, write))
        if self.sink is not None and fresh.any():
            self.sink.add(blocks[fresh], digests[fresh])
        self.done_bytes += nbytes
        self._report()
        if self.sink is not None and perf_counter() - self.last_checkpoint >= self.checkpoint_s:
            self._checkpoint((int(blocks[-1]) + 1) * geometry.block)
            self.last_checkpoint = perf_counter()

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

    def _end(self) -> None:
        self._checkpoint(self.geometry.capacity)

    def _checkpoint(self, position: int) -> None:
        if self.fence is not None:
            self.fence()
        with self.clocks["flush"]:
            self.target.flush()
        if self.sink is not None:
            counts = self.stats.taken()
            counts.selected_bytes = self.done_bytes
            counts.selected_blocks = -(-self.done_bytes // self.geometry.block)
            values = self._measured(counts).to_values()
            self.sink.checkpoint(min(position, self.geometry.capacity), values)


def _clear_frames(error: BaseException | None) -> None:
    """Those of what led to it as well: frames would keep views of the arena alive."""
    cleared: set[int] = set()
    while error is not None and id(error) not in cleared:
        traceback.clear_frames(error.__traceback__)
        cleared.add(id(error))
        error = error.__cause__ or error.__context__


def _run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    _join(threads)


def _join(threads: list[threading.Thread]) -> None:
    """Wait for those that were started."""
    for thread in threads:
        if thread.ident is not None:
            thread.join()
