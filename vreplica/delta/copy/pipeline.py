"""Copies one disk: source -> digests -> target, by a few workers, in memory of fixed size.

    worker 1   [ batch 0: read, hash ][ in turn: decide, write ][ batch 3 ...
    worker 2     [ batch 1: read, hash ]        ...[ in turn: decide, write ][ batch 4 ...
    worker 3       [ batch 2: read, hash ]                       ...[ in turn: decide, write ]
                 one slot of the arena for each worker

One worker takes a batch from the read to the write. So no batch passes from thread to thread
behind the interpreter's lock. The source says how many workers may read at once. The rest
happens in turn, batch by batch in ascending order: look up the known digests, write what
differs, give the digests to the sink. So one number says how far a copy is: all below byte X is
done. The first failure ends all workers; later failures are added to it as notes.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vreplica.delta.block_hash import Digests, equal, hash_blocks, is_zero
from vreplica.delta.copy.batches import Blocks
from vreplica.delta.copy.spec import CopySpec
from vreplica.delta.copy.stats import Clock, CopyProgress, CopyStats
from vreplica.delta.copy.transfer import Transfer
from vreplica.delta.errors import CopyCancelled
from vreplica.disk import Arena
from vreplica.units import round_down, round_up

ARENA_SHARE: Final = 8
"""The arena takes at most this part of the bytes to look at."""


def copy(spec: CopySpec) -> CopyStats:
    """Makes the target equal to the source, as `spec` says. The target is durable on return.

    Memory: one slot of at most `batch_size` for each worker, whatever the capacity. Raises what
    the disks raise, with the byte offset where the disk did not give it, and CopyCancelled when
    `control` was cancelled; the target is then as far as the copy got.
    """
    return _Copy(spec).run()


class _Copy:
    """The state of one copy. Workers change it in turn, except that they take batches any time."""

    def __init__(self, spec: CopySpec) -> None:
        self.spec = spec
        self.geometry = geometry = spec.geometry
        self.extents = spec.extents.clip(0, geometry.capacity).align(
            geometry.block, geometry.capacity
        )
        self.io_size = max(geometry.block, round_down(spec.io_size, geometry.block))
        total, self.workers = self.extents.total, spec.workers
        # A small delta takes a small arena: fresh memory costs about as much as moving the bytes.
        wanted = min(spec.batch_size, total // (self.workers * ARENA_SHARE))
        smallest = min(self.io_size, spec.batch_size)
        self.slot_size = round_up(max(wanted, smallest), geometry.block)
        self.stats = spec.earlier.duplicate()
        self.stats.looked_at_bytes += total
        self.stats.looked_at_blocks += -(-total // geometry.block)
        stages = ("read", "hash", "write", "flush", "wait")
        self.clocks = {stage: Clock() for stage in stages}
        per_batch = self.slot_size // geometry.block
        self.batches = enumerate(geometry.batches(self.extents, per_batch))
        self.reading = threading.Semaphore(spec.source.parallel_reads)
        self.taking = threading.Lock()
        self.batches_done = 0
        self.turn = threading.Condition()
        self.failures: list[BaseException] = []
        self.stopped = threading.Event()
        self.done_bytes = spec.earlier.looked_at_bytes
        self.started = self.last_checkpoint = perf_counter()
        transfer = partial(
            Transfer,
            smallest=geometry.block,
            control=spec.control,
            stopped=self.stopped,
            policy=spec.retry,
            on_retry=spec.on_retry,
        )
        self.reads = transfer(spec.source.read_many, before_try=self.check_cancelled)
        self.writes = transfer(spec.target.write_many, before_try=self.check_may_write)

    # -- all workers ------------------------------------------------------------------------

    def run(self) -> CopyStats:
        arena = Arena(self.slot_size * self.workers)
        try:
            self.spec.source.register(arena)
            self.spec.target.register(arena)
            self._run_workers(arena)
            if not self.failures:
                self._guarded(partial(self._checkpoint, self.geometry.capacity))
        finally:
            for error in self.failures:
                _clear_frames(error)
            with suppress(BufferError):
                arena.close()
        if self.failures:
            raise self._first_failure()
        self._report()
        return self._with_times(self.stats)

    def _with_times(self, stats: CopyStats) -> CopyStats:
        """Adds what is not counted batch by batch: times, requests and retries up to now."""
        before = self.spec.earlier
        stats.total_s = before.total_s + perf_counter() - self.started
        stats.read_requests = before.read_requests + self.reads.requests
        stats.write_requests = before.write_requests + self.writes.requests
        stats.retries = before.retries + self.reads.retries + self.writes.retries
        for name, clock in self.clocks.items():
            setattr(stats, f"{name}_s", getattr(before, f"{name}_s") + clock.seconds)
        return stats

    def _run_workers(self, arena: Arena) -> None:
        """Runs a worker for each slot.

        The calling thread only waits, so Ctrl-C never stops a worker that has its turn and for
        which the others wait.
        """
        threads = []
        for at in range(0, arena.size, self.slot_size):
            work = partial(self._work, arena.view[at : at + self.slot_size])
            threads.append(
                threading.Thread(target=self._guarded, args=(work,), name="vreplica-copy")
            )
        self._guarded(partial(_run, threads))
        # After Ctrl-C, or where not all threads could be started, the others end too.
        _join(threads)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Runs `work`; its failure stops all workers."""
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

    def _wait_for_control(self, read_bytes: int = 0) -> None:
        with self.clocks["wait"]:
            admitted = self.spec.control.admit(read_bytes, self.stopped)
        if not admitted:
            raise self._cancelled()

    def check_cancelled(self) -> None:
        """Raises CopyCancelled after a cancel, or after another worker has failed."""
        if self.spec.control.ended(self.stopped):
            raise self._cancelled()

    def check_may_write(self) -> None:
        """Raises like `check_cancelled`, and what the fence raises."""
        self.check_cancelled()
        self.spec.fence()

    def _cancelled(self) -> CopyCancelled:
        return CopyCancelled(done_bytes=self.done_bytes, total_bytes=self.stats.looked_at_bytes)

    # -- one worker -------------------------------------------------------------------------

    def _work(self, slot: memoryview) -> None:
        geometry = self.geometry
        while not self.stopped.is_set():
            with self.reading:
                with self.taking:
                    number, blocks = next(self.batches, (0, None))
                if blocks is None:
                    return
                self._wait_for_control(geometry.nbytes(blocks))
                read_bytes = self._read(blocks, slot)
            with self.clocks["hash"]:
                digests = hash_blocks(
                    slot[: geometry.nbytes(blocks)], geometry.block, self.spec.seed
                )
            with self._in_turn(number) as mine:
                if mine:
                    self.stats.read_bytes += read_bytes
                    self._write_changed(blocks, digests, slot)

    def _read(self, blocks: Blocks, slot: memoryview) -> int:
        """Fills the slot; returns how many bytes the source was asked for."""
        geometry = self.geometry
        hole = geometry.inside(blocks, self.spec.source_zero)
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
        """Waits until all earlier batches are done; gives False when the copy has stopped."""
        with self.turn:
            self.turn.wait_for(lambda: self.batches_done == number or self.stopped.is_set())
        yield not self.stopped.is_set()
        with self.turn:
            self.batches_done += 1
            self.turn.notify_all()

    def _write_changed(self, blocks: Blocks, digests: Digests, slot: memoryview) -> None:
        """Writes the blocks of one batch that the target does not hold, and counts all of them."""
        spec, geometry, stats = self.spec, self.geometry, self.stats
        nbytes = geometry.nbytes(blocks)
        zero = is_zero(digests)
        if spec.known is not None:
            write = fresh = ~equal(digests, spec.known.lookup(blocks))
        else:
            write = ~zero
            if zero.any():
                write |= zero & ~geometry.inside(blocks, spec.target_zero)
            fresh = np.ones(len(blocks), np.bool_)
        zeros = geometry.nbytes(blocks[zero])
        zeroed = geometry.nbytes(blocks[zero & write])
        written = geometry.nbytes(blocks[write])
        stats.zeroed_bytes += zeroed
        stats.zero_already_bytes += zeros - zeroed
        stats.data_bytes += written - zeroed
        stats.redundant_bytes += nbytes - written - (zeros - zeroed)
        stats.written_blocks += int(write.sum())
        self._sample_content(np.flatnonzero(write & ~zero), slot[:nbytes])
        if written:
            self._wait_for_control()
            with self.clocks["write"]:
                self.writes.run(slot, geometry.spans(blocks, self.io_size, write))
        if spec.sink is not None and fresh.any():
            spec.sink.add(blocks[fresh], digests[fresh])
        self.done_bytes += nbytes
        self._report()
        if spec.sink is not None and perf_counter() - self.last_checkpoint >= spec.checkpoint_s:
            self._checkpoint((int(blocks[-1]) + 1) * geometry.block)
            self.last_checkpoint = perf_counter()

    def _sample_content(self, written: NDArray[np.int64], slot: memoryview) -> None:
        """Gives some of the blocks at these places of the slot to the content sample."""
        for number in self.stats.content.choose(len(written)):
            at = int(written[number]) * self.geometry.block
            self.stats.content.add(slot[at : at + self.geometry.block])

    def _report(self) -> None:
        if self.spec.progress is not None:
            stats = self.stats
            self.spec.progress(
                CopyProgress(
                    total_bytes=stats.looked_at_bytes,
                    done_bytes=self.done_bytes,
                    read_bytes=stats.read_bytes,
                    written_bytes=stats.written_bytes,
                    elapsed_s=perf_counter() - self.started,
                )
            )

    def _checkpoint(self, position: int) -> None:
        """Makes all that was written durable, and tells the sink."""
        self.spec.fence()
        with self.clocks["flush"]:
            self.spec.target.flush()
        if self.spec.sink is not None:
            counts = self.stats.duplicate()
            counts.looked_at_bytes = self.done_bytes
            counts.looked_at_blocks = -(-self.done_bytes // self.geometry.block)
            values = self._with_times(counts).to_values()
            self.spec.sink.checkpoint(min(position, self.geometry.capacity), values)


def _clear_frames(error: BaseException | None) -> None:
    """Clears the frames of the error and its causes, which would keep views of the arena alive."""
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
    """Waits for the threads that were started."""
    for thread in threads:
        if thread.ident is not None:
            thread.join()
