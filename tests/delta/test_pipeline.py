"""The copier: what arrives, which operations are issued, and how it ends when something fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vreplica.delta.block_hash import Digests, hash_blocks
from vreplica.delta.control import Control
from vreplica.delta.copy import modes
from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CopySpec
from vreplica.delta.copy.stats import Clock, CopyProgress, CopyStats
from vreplica.delta.copy.transfer import RetryPolicy
from vreplica.delta.errors import CopyCancelled
from vreplica.disk import Arena, MemoryDisk, Request
from vreplica.errors import DiskError
from vreplica.extents import Extents
from vreplica.units import MIB

BLOCK = 4096
CAPACITY = 40 * BLOCK + 1536
BLOCKS = 41
SEED = 99


class DictDigests:
    """Known digests and sink in one, as plain as it gets."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.digests: dict[int, bytes] = {}
        self.checkpoints: list[int] = []
        if disk is not None:
            rows = hash_blocks(memoryview(content(disk)), BLOCK, SEED)
            self.digests = {i: row.tobytes() for i, row in enumerate(rows) if row.any()}

    def lookup(self, blocks: NDArray[np.int64]) -> Digests:
        rows = b"".join(self.digests.get(block, bytes(16)) for block in blocks.tolist())
        return np.frombuffer(rows, np.uint8).reshape(-1, 16)

    def add(self, blocks: NDArray[np.int64], digests: Digests) -> None:
        for block, digest in zip(blocks.tolist(), digests, strict=True):
            self.digests[block] = digest.tobytes()

    def checkpoint(self, position: int, counts: object) -> None:
        self.checkpoints.append(position)

    def not_zero(self) -> Extents:
        held = [block for block, digest in self.digests.items() if any(digest)]
        return Extents.from_blocks(np.array(sorted(held), np.int64), BLOCK, CAPACITY)


def content(disk: MemoryDisk) -> bytearray:
    data = bytearray(disk.capacity_bytes)
    disk.read_into(0, memoryview(data))
    disk.ops.pop()
    return data


def issued(disk: MemoryDisk, op: str) -> list[tuple[int, int]]:
    return [(offset, length) for name, offset, length in disk.ops if name == op]


def blocks_of(requests: list[tuple[int, int]]) -> list[int]:
    return [o // BLOCK + i for o, length in requests for i in range(-(-length // BLOCK))]


# A disk's content: per block None (never written), 0 (zeros written) or a byte to fill it with.
fills = st.lists(
    st.one_of(st.none(), st.just(0), st.integers(1, 3)), min_size=BLOCKS, max_size=BLOCKS
)


def disk_of(fill: Sequence[int | None], name: str = "disk") -> MemoryDisk:
    disk = MemoryDisk(CAPACITY, name=name)
    for block, value in enumerate(fill):
        if value is not None:
            length = min(BLOCK, CAPACITY - block * BLOCK)
            disk.write_from(block * BLOCK, memoryview(bytes([value]) * length))
    disk.ops.clear()
    return disk


def run(
    source: MemoryDisk, target: MemoryDisk, plan: modes.CopyPlan, digests: DictDigests
) -> CopyStats:
    return copy(
        CopySpec(
            source,
            target,
            plan.extents,
            known=digests if plan.use_known else None,
            sink=digests,
            seed=SEED,
            block=BLOCK,
            io_size=4 * BLOCK,
            batch_size=8 * BLOCK,
            source_zero=plan.source_zero,
            target_zero=plan.target_zero,
        )
    )


def assert_accounts_add_up(stats: CopyStats, source: MemoryDisk, target: MemoryDisk) -> None:
    not_written = stats.redundant_bytes + stats.zero_already_bytes
    assert stats.looked_at_bytes == not_written + stats.zeroed_bytes + stats.data_bytes
    assert stats.written_bytes == stats.zeroed_bytes + stats.data_bytes
    reads, writes = issued(source, "read"), issued(target, "write")
    assert stats.read_bytes == sum(length for _, length in reads)
    assert stats.written_bytes == sum(length for _, length in writes)
    assert (stats.read_requests, stats.write_requests) == (len(reads), len(writes))
    assert stats.written_blocks == len(blocks_of(writes))
    assert len(set(blocks_of(reads))) == len(blocks_of(reads))


@given(fills, fills)
def test_full_makes_any_target_equal(before: list[int | None], there: list[int | None]) -> None:
    source, target, digests = disk_of(before), disk_of(there), DictDigests()
    plan = modes.full(source.allocated(), target.allocated(), CAPACITY)
    stats = run(source, target, plan, digests)
    assert_accounts_add_up(stats, source, target)
    assert content(target) == content(source)
    assert digests.not_zero() == DictDigests(source).not_zero()
    assert (
        digests.lookup(np.arange(BLOCKS)).tobytes()
        == DictDigests(source).lookup(np.arange(BLOCKS)).tobytes()
    )
    # Nothing is read where the source has nothing; zeros go only where the target has something.
    assert (
        source.allocated()
        .align(BLOCK, CAPACITY)
        .covers(Extents.from_pairs([(o, o + n) for o, n in issued(source, "read")]))
    )
    written = {block: before[block] for block in blocks_of(issued(target, "write"))}
    for block, value in written.items():
        assert value or there[block] is not None


@given(fills, fills)
def test_rescan_writes_exactly_the_blocks_that_differ(
    now: list[int | None], there: list[int | None]
) -> None:
    source, target = disk_of(now), disk_of(there)
    digests = DictDigests(target)
    plan = modes.rescan(source.allocated(), digests.not_zero(), CAPACITY)
    stats = run(source, target, plan, digests)
    assert_accounts_add_up(stats, source, target)
    assert content(target) == content(source)
    differing = [b for b in range(BLOCKS) if (now[b] or 0) != (there[b] or 0)]
    assert blocks_of(issued(target, "write")) == differing
    assert digests.digests.keys() >= DictDigests(source).digests.keys()
    assert digests.not_zero() == DictDigests(source).not_zero()


@given(
    fills,
    st.dictionaries(st.integers(0, BLOCKS - 1), st.integers(0, 3)),
    st.sets(st.integers(0, BLOCKS - 1)),
)
def test_delta_reads_what_is_reported_and_writes_what_changed(
    there: list[int | None], writes: dict[int, int], redundant: set[int]
) -> None:
    target = disk_of(there)
    digests = DictDigests(target)
    now = [writes.get(b, value) for b, value in enumerate(there)]
    source = disk_of(now)
    reported = sorted(writes.keys() | redundant)
    plan = modes.delta(
        Extents.from_pairs([(b * BLOCK + 512, b * BLOCK + 1024) for b in reported]),
        CAPACITY,
    )
    stats = run(source, target, plan, digests)
    assert_accounts_add_up(stats, source, target)
    assert content(target) == content(source)
    assert blocks_of(issued(source, "read")) == reported
    changed = [b for b in reported if (now[b] or 0) != (there[b] or 0)]
    assert blocks_of(issued(target, "write")) == changed
    assert digests.not_zero() == DictDigests(source).not_zero()


def test_neighbours_share_requests_up_to_the_request_size() -> None:
    source, target = disk_of([1] * BLOCKS), disk_of([])
    stats = run(
        source, target, modes.full(source.allocated(), Extents.empty(), CAPACITY), DictDigests()
    )
    assert issued(target, "write") == [(i * 4 * BLOCK, 4 * BLOCK) for i in range(10)] + [
        (40 * BLOCK, 1536)
    ]
    assert stats.read_requests == stats.write_requests == 11
    assert target.ops[-1][0] == "flush"


def test_checkpoints_follow_a_flush_and_end_at_the_capacity() -> None:
    source, target, digests = disk_of([1] * BLOCKS), disk_of([]), DictDigests()
    copy(
        CopySpec(
            source,
            target,
            Extents.of(0, CAPACITY),
            sink=digests,
            block=BLOCK,
            io_size=8 * BLOCK,
            batch_size=8 * BLOCK,
            checkpoint_s=0,
        )
    )
    assert digests.checkpoints == [8 * BLOCK * i for i in range(1, 6)] + [CAPACITY, CAPACITY]
    written = 0
    checkpoints = iter(digests.checkpoints)
    for name, offset, length in target.ops:
        if name == "flush":
            assert written == next(checkpoints)
        elif name == "write":
            written = offset + length


def test_progress_ends_at_all_bytes() -> None:
    source, target = disk_of([1] * BLOCKS), disk_of([])
    seen: list[CopyProgress] = []
    copy(
        CopySpec(
            source,
            target,
            Extents.of(0, CAPACITY),
            block=BLOCK,
            batch_size=8 * BLOCK,
            progress=seen.append,
        )
    )
    assert seen[-1].done_bytes == seen[-1].total_bytes == CAPACITY
    assert [p.done_bytes for p in seen] == sorted(p.done_bytes for p in seen)


def test_time_counts_once_however_many_are_at_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([1.0, 9.0])
    monkeypatch.setattr("vreplica.delta.copy.stats.perf_counter", lambda: next(now))
    clock = Clock()
    with clock, clock:
        pass
    assert clock.seconds == 8.0


def test_what_holds_a_copy_back_is_not_work_but_its_slowest_stage_is() -> None:
    stats = CopyStats(read_s=2, write_s=3, flush_s=1, wait_s=5, total_s=10)
    assert stats.busy_s == 5
    stats.wait_s = 8
    assert stats.busy_s == 4


def test_memory_does_not_follow_the_capacity() -> None:
    capacity = 62 << 40
    source, target = MemoryDisk(capacity), MemoryDisk(capacity)
    for place in range(5):
        source.write_from(place * (12 << 40), memoryview(bytes([place + 1]) * MIB))
    plan = modes.full(source.allocated(), target.allocated(), capacity)
    stats = copy(
        CopySpec(
            source, target, plan.extents, source_zero=plan.source_zero, target_zero=plan.target_zero
        )
    )
    assert stats.looked_at_bytes == stats.read_bytes == stats.data_bytes == 5 * MIB
    assert target.allocated() == source.allocated()


def test_eight_requests_of_a_batch_are_issued_together() -> None:
    together: list[int] = []

    class Far(MemoryDisk):
        def read_many(self, requests: Sequence[Request]) -> None:
            together.append(len(requests))
            super().read_many(requests)

    source, target = Far(256 * MIB), MemoryDisk(256 * MIB)
    copy(CopySpec(source, target, Extents.of(0, 256 * MIB)))
    assert max(together) == 8


class CountingDisk(MemoryDisk):
    """Knows how many threads are inside of it; the first read waits until it has company."""

    def __init__(self, capacity: int, *, company: int) -> None:
        super().__init__(capacity)
        self.company = threading.Barrier(company)
        self.inside = self.most = 0

    def read_many(self, requests: Sequence[Request]) -> None:
        self._count()
        if requests[0][0] < self.company.parties * BLOCK:
            self.company.wait(timeout=10)
        super().read_many(requests)
        self.inside -= 1

    def write_many(self, requests: Sequence[Request]) -> None:
        self._count()
        super().write_many(requests)
        self.inside -= 1

    def _count(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_a_source_is_read_by_as_many_at_once_as_it_allows(allowed: int) -> None:
    source, target = CountingDisk(CAPACITY, company=allowed), CountingDisk(CAPACITY, company=1)
    source.write_from(0, memoryview(bytes([1]) * CAPACITY))
    source.parallel_reads = allowed
    copy(CopySpec(source, target, Extents.of(0, CAPACITY), block=BLOCK, batch_size=BLOCK, depth=3))
    assert (source.most, target.most) == (allowed, 1)
    assert issued(target, "write") == [
        (at, min(BLOCK, CAPACITY - at)) for at in range(0, CAPACITY, BLOCK)
    ], "in order, whoever has read first"


# -- failures -------------------------------------------------------------------------------


@dataclass(eq=False)
class Broken(DiskError):
    template = "the {side} broke"
    side: str


class BreakingDisk(MemoryDisk):
    """Fails every request that reaches byte `at` with `failure`."""

    at = 0
    failure: BaseException = Broken("disk")

    def _check(self, op: str, offset: int, length: int) -> None:
        super()._check(op, offset, length)
        if length and offset + length > self.at:
            raise self.failure


def breaking(at: int, failure: BaseException) -> BreakingDisk:
    disk = BreakingDisk(CAPACITY)
    disk.at, disk.failure = at, failure
    return disk


def failing_copy(source: MemoryDisk, target: MemoryDisk) -> None:
    copy(
        CopySpec(
            source,
            target,
            Extents.of(0, CAPACITY),
            block=BLOCK,
            io_size=BLOCK,
            batch_size=4 * BLOCK,
            depth=3,
        )
    )


def test_a_failing_read_names_the_byte_and_everything_before_it_may_be_written() -> None:
    target = disk_of([])
    with pytest.raises(Broken) as caught:
        failing_copy(breaking(20 * BLOCK, Broken("source")), target)
    assert caught.value.where.offset_bytes == 20 * BLOCK
    assert all(offset < 20 * BLOCK for offset, _ in issued(target, "write"))
    assert not [op for op in target.ops if op[0] == "flush"]


def test_a_failing_write_names_the_byte_and_stops_the_reader() -> None:
    source = disk_of([1] * BLOCKS)
    with pytest.raises(Broken) as caught:
        failing_copy(source, breaking(8 * BLOCK, Broken("target")))
    assert caught.value.where.offset_bytes == 8 * BLOCK
    assert len(issued(source, "read")) < BLOCKS


@dataclass(eq=False)
class Passing(Broken):
    retryable = True


@pytest.mark.parametrize("error", [Broken, Passing])
def test_a_failure_that_is_kept_does_not_keep_the_memory(error: type[Broken]) -> None:
    arenas: list[Arena] = []

    class Failing(MemoryDisk):
        def register(self, arena: Arena) -> None:
            arenas.append(arena)

        def write_many(self, requests: Sequence[Request]) -> None:
            try:
                self._send(requests)
            except OSError as lost:
                raise error("target") from lost

        def _send(self, requests: Sequence[Request]) -> None:
            raise OSError(len(requests))

    with pytest.raises(error) as caught:
        copy(
            CopySpec(
                disk_of([1] * BLOCKS),
                Failing(CAPACITY),
                Extents.of(0, CAPACITY),
                block=BLOCK,
                retry=RetryPolicy(attempts=2, first_wait_s=0),
            )
        )
    assert arenas[0]._map.closed, caught.value


def test_an_error_that_is_not_ours_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        failing_copy(breaking(0, ZeroDivisionError()), disk_of([]))


def test_no_thread_is_left_behind_by_a_failure() -> None:
    with pytest.raises(Broken):
        failing_copy(disk_of([1] * BLOCKS), breaking(0, Broken("target")))
    assert not [t.name for t in threading.enumerate() if t.name.startswith("vreplica-")]


def test_a_worker_that_cannot_be_started_ends_those_that_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, started = threading.Thread.start, threading.Event()

    def start_one(thread: threading.Thread) -> None:
        if started.is_set():
            raise RuntimeError("can't start new thread")
        started.set()
        start(thread)

    class Endless(MemoryDisk):
        """Is read until the copy gives up."""

        def read_many(self, requests: Sequence[Request]) -> None:
            control.pause()

    control = Control()
    monkeypatch.setattr(threading.Thread, "start", start_one)
    with pytest.raises(RuntimeError):
        copy(
            CopySpec(
                Endless(CAPACITY),
                disk_of([]),
                Extents.of(0, CAPACITY),
                block=BLOCK,
                batch_size=BLOCK,
                depth=3,
                control=control,
            )
        )
    left = [t.name for t in threading.enumerate() if t.name.startswith("vreplica-")]
    control.cancel()
    assert not left


def test_only_the_workers_touch_the_disks_so_that_ctrl_c_cannot_cut_a_step_short() -> None:
    seen: set[threading.Thread] = set()

    class Watched(MemoryDisk):
        def read_many(self, requests: Sequence[Request]) -> None:
            seen.add(threading.current_thread())
            super().read_many(requests)

        def write_many(self, requests: Sequence[Request]) -> None:
            seen.add(threading.current_thread())
            super().write_many(requests)

    source, target = Watched(CAPACITY, bytes([1]) * CAPACITY), Watched(CAPACITY)
    copy(CopySpec(source, target, Extents.of(0, CAPACITY), block=BLOCK, depth=1))
    assert seen
    assert threading.current_thread() not in seen


def test_a_fence_that_raises_stops_before_the_next_write() -> None:
    source, target = disk_of([1] * BLOCKS), disk_of([])
    calls = 0

    def fence() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Broken("epoch")

    with pytest.raises(Broken):
        copy(
            CopySpec(
                source,
                target,
                Extents.of(0, CAPACITY),
                block=BLOCK,
                batch_size=4 * BLOCK,
                fence=fence,
            )
        )
    assert blocks_of(issued(target, "write")) == list(range(8))


def test_cancel_ends_the_copy_with_its_own_error() -> None:
    source, target, control = disk_of([1] * BLOCKS), disk_of([]), Control()

    def cancel_midway(progress: CopyProgress) -> None:
        if progress.read_bytes >= 16 * BLOCK:
            control.cancel()

    with pytest.raises(CopyCancelled) as caught:
        copy(
            CopySpec(
                source,
                target,
                Extents.of(0, CAPACITY),
                block=BLOCK,
                io_size=BLOCK,
                batch_size=4 * BLOCK,
                progress=cancel_midway,
                control=control,
            )
        )
    assert caught.value.total_bytes == CAPACITY
    assert caught.value.done_bytes == sum(length for _, length in issued(target, "write"))
    assert len(issued(target, "write")) < BLOCKS


def test_a_paused_copy_issues_nothing_until_it_goes_on() -> None:
    source, target, control = disk_of([1] * BLOCKS), disk_of([]), Control()
    control.pause()
    spec = CopySpec(source, target, Extents.of(0, CAPACITY), control=control)
    thread = threading.Thread(target=copy, args=(spec,))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert not source.ops
    control.resume()
    thread.join()
    assert content(target) == content(source)


def test_a_copy_that_fails_while_paused_ends() -> None:
    control = Control()

    class Failing(MemoryDisk):
        def write_many(self, requests: Sequence[Request]) -> None:
            control.pause()
            raise Broken("target")

    with pytest.raises(Broken):
        copy(
            CopySpec(
                disk_of([1] * BLOCKS),
                Failing(CAPACITY),
                Extents.of(0, CAPACITY),
                block=BLOCK,
                io_size=BLOCK,
                batch_size=BLOCK,
                control=control,
            )
        )


def test_failures_of_other_stages_are_noted_on_the_first() -> None:
    both_in = threading.Barrier(2, timeout=10)

    class Meeting(MemoryDisk):
        def read_many(self, requests: Sequence[Request]) -> None:
            if requests[0][0] == 0:
                super().read_many(requests)
                return
            both_in.wait()
            raise Broken("source")

        def write_many(self, requests: Sequence[Request]) -> None:
            both_in.wait()
            raise Broken("target")

    disks = Meeting(CAPACITY, bytes([1]) * CAPACITY), Meeting(CAPACITY)
    with pytest.raises(Broken) as caught:
        copy(CopySpec(*disks, Extents.of(0, CAPACITY), block=BLOCK, batch_size=4 * BLOCK))
    (note,) = caught.value.__notes__
    assert {"source", "target"} == {caught.value.side, "source" if "source" in note else "target"}


def test_a_worker_that_waits_for_a_retry_ends_when_another_one_fails() -> None:
    waiting, tries = threading.Event(), []

    class Slow(MemoryDisk):
        def read_many(self, requests: Sequence[Request]) -> None:
            if requests[0][0]:
                tries.append(requests[0][0])
                raise Passing("source")
            super().read_many(requests)

        def write_many(self, requests: Sequence[Request]) -> None:
            assert waiting.wait(60)
            raise Broken("target")

    control, failed = Control(), []

    def work() -> None:
        try:
            copy(
                CopySpec(
                    Slow(CAPACITY, bytes([1]) * CAPACITY),
                    Slow(CAPACITY),
                    Extents.of(0, CAPACITY),
                    block=BLOCK,
                    batch_size=4 * BLOCK,
                    depth=2,
                    control=control,
                    retry=RetryPolicy(first_wait_s=1e6, longest_wait_s=1e6),
                    on_retry=lambda _: waiting.set(),
                )
            )
        except Broken as error:
            failed.append(error.side)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    control.cancel()
    thread.join()
    assert failed == ["target"]
    assert len(tries) == 1
