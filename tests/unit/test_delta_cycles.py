"""Cycles of writes, copies, crashes, resumes, reverts and growth against a plain model.

The model is a list of contents: the source's, the replica's and one for each recovery point.
Whatever happens, the replica can be taken to its latest point, and after a copy that ends well
it holds exactly what the source held at its snapshot, and the digest map says so.
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vreplica.delta import modes
from vreplica.delta.hash import ALGORITHM, hash_blocks
from vreplica.delta.pipeline import copy
from vreplica.disk import MemoryDisk
from vreplica.extents import Extents
from vreplica.points.digestmap import DigestMap
from vreplica.points.maperrors import DigestMapUnusable
from vreplica.points.maprebuild import rebuild

BLOCK = 4096
SECTOR = 512
START = 9 * BLOCK + 3 * SECTOR


class Crash(Exception):
    """The process ends here."""


def disk_of(content: bytes | bytearray, allocated: Extents) -> MemoryDisk:
    disk = MemoryDisk(len(content))
    for start, end in allocated:
        disk.write_from(start, memoryview(content)[start:end])
    disk.ops.clear()
    return disk


def content_of(disk: MemoryDisk) -> bytes:
    data = bytearray(disk.capacity_bytes)
    disk.read_into(0, memoryview(data))
    return bytes(data)


class Countdown:
    """Raises Crash when it was called so many times; never, when None."""

    def __init__(self, left: int | None) -> None:
        self.left = left

    def __call__(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Crash


def crashes(most: int) -> st.SearchStrategy[int | None]:
    """Mostly none."""
    return st.one_of(st.none(), st.none(), st.integers(0, most))


class Cycles(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        # Many small syncs: in memory where that is possible.
        memory = Path("/dev/shm")
        self.folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.path = Path(self.folder.name) / "map"
        self.source = MemoryDisk(START)
        self.changed = Extents.empty()
        """Since the snapshot of the latest point: what change tracking would report."""
        self.replica = MemoryDisk(START)
        self.points: list[tuple[str, bytes, Extents]] = [("", bytes(START), Extents.empty())]
        self.count = 0
        self.broken: tuple[str, MemoryDisk, Extents, Extents] | None = None
        """Of a cycle that broke off: id, snapshot, its extents, and what changed up to it."""
        DigestMap.create(self.path, capacity_bytes=START, algorithm=ALGORITHM, block=BLOCK).close()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    # -- the guest --------------------------------------------------------------------------

    @rule(at=st.integers(0, 99), sectors=st.integers(1, 40), value=st.integers(0, 3))
    def write(self, at: int, sectors: int, value: int) -> None:
        start, end = self.place(at, sectors)
        self.source.write_from(start, memoryview(bytes([value]) * (end - start)))
        self.changed = self.changed.union(Extents.of(start, end))

    @rule(at=st.integers(0, 99), sectors=st.integers(1, 40))
    def discard(self, at: int, sectors: int) -> None:
        """Reads as zeros and is not allocated any more."""
        start, end = self.place(at, sectors)
        content = bytearray(content_of(self.source))
        content[start:end] = bytes(end - start)
        self.source = disk_of(content, self.source.allocated().subtract(Extents.of(start, end)))
        self.changed = self.changed.union(Extents.of(start, end))

    def place(self, at: int, sectors: int) -> tuple[int, int]:
        """`at` is a percentage of the disk, so that its end is found as easily as its start."""
        capacity = self.source.capacity_bytes
        start = capacity // SECTOR * at // 99 * SECTOR
        start = min(start, capacity - SECTOR)
        return start, min(start + sectors * SECTOR, capacity)

    @precondition(lambda self: self.broken is None)
    @rule(sectors=st.integers(1, 40))
    def grow(self, sectors: int) -> None:
        old, new = self.source.capacity_bytes, self.source.capacity_bytes + sectors * SECTOR
        self.source = disk_of(content_of(self.source) + bytes(new - old), self.source.allocated())
        self.replica = disk_of(
            content_of(self.replica) + bytes(new - old), self.replica.allocated()
        )
        self.changed = self.changed.union(Extents.of(old, new))
        self.open_map().close()

    # -- the replica ------------------------------------------------------------------------

    @precondition(lambda self: self.broken is None and len(self.points) > 1)
    @rule(back=st.integers(1, 3))
    def revert(self, back: int) -> None:
        """The operator goes back to an earlier point: later ones are gone, CBT's base too."""
        del self.points[max(1, len(self.points) - back) :]
        self.revert_leaf()
        self.changed = Extents.of(0, self.source.capacity_bytes)

    def revert_leaf(self) -> None:
        _, content, allocated = self.points[-1]
        grown = bytes(self.source.capacity_bytes - len(content))
        self.replica = disk_of(content + grown, allocated)

    def open_map(self) -> DigestMap:
        """As a cycle does it: a map that is of no use is made anew from the replica."""
        latest = self.points[-1][0]
        try:
            found = DigestMap.open(self.path, latest_point=latest)
        except DigestMapUnusable:
            return self.rebuilt(latest)
        if found.capacity_bytes < self.replica.capacity_bytes:
            found.grow(self.replica.capacity_bytes)
        return found

    def rebuilt(self, latest: str) -> DigestMap:
        return rebuild(
            self.path, self.replica, hash_blocks, point=latest, algorithm=ALGORITHM, block=BLOCK
        )

    # -- cycles -----------------------------------------------------------------------------

    @precondition(lambda self: self.broken is None)
    @rule(
        mode=st.sampled_from(["delta", "rescan", "full"]),
        writes=crashes(6),
        steps=crashes(25),
    )
    def cycle(self, mode: str, writes: int | None, steps: int | None) -> None:
        """One run. It breaks off after some writes, or some steps of the map, or not at all."""
        self.count += 1
        point = f"p{self.count}"
        snapshot = disk_of(content_of(self.source), self.source.allocated())
        changed, self.changed = self.changed, Extents.empty()
        found = self.open_map()
        capacity = snapshot.capacity_bytes
        if mode == "delta":
            plan = modes.delta(changed, capacity, snapshot.allocated())
        elif mode == "rescan":
            plan = modes.rescan(snapshot.allocated(), found.not_zero(), capacity)
        else:
            plan = modes.full(snapshot.allocated(), self.replica.allocated(), capacity)
        self.run(found, point, snapshot, plan, changed, Countdown(writes), Countdown(steps))

    @precondition(lambda self: self.broken is not None)
    @rule(resume=st.booleans(), writes=crashes(4))
    def recover(self, resume: bool, writes: int | None) -> None:
        """The next run after one that broke off: goes on, or goes back to the latest point."""
        assert self.broken is not None
        point, snapshot, extents, changed = self.broken
        self.broken = None
        found = self.open_map()
        pending = found.resume() if resume else None
        if pending is None or pending.head.point != point:
            found.discard()
            found.close()
            self.revert_leaf()
            self.changed = self.changed.union(changed)
            return
        assert pending.position > 0
        rest = extents.clip(pending.position, snapshot.capacity_bytes)
        plan = modes.delta(rest, snapshot.capacity_bytes, snapshot.allocated())
        self.run(found, point, snapshot, plan, changed, Countdown(writes), Countdown(None), pending)

    def run(
        self,
        found: DigestMap,
        point: str,
        snapshot: MemoryDisk,
        plan: modes.CopyPlan,
        changed: Extents,
        writes: Countdown,
        steps: Countdown,
        pending: Any = None,
    ) -> None:
        committed = False
        extents = plan.extents
        try:
            with counted(steps):
                pending = pending or found.begin(point)
                copy(
                    snapshot,
                    self.replica,
                    plan.extents,
                    known=found if plan.use_known else None,
                    sink=pending,
                    seed=found.seed,
                    block=BLOCK,
                    io_size=2 * BLOCK,
                    batch_size=3 * BLOCK,
                    source_zero=plan.source_zero,
                    target_zero=plan.target_zero,
                    fence=writes,
                    checkpoint_s=0,
                )
                root = found.seal(pending)
                steps()
                committed = True
                self.points.append((point, content_of(self.replica), self.replica.allocated()))
                found.apply(point)
            assert found.root == root
        except Crash:
            if not committed:
                self.broken = (point, snapshot, extents, changed)
        finally:
            found.close()
        if committed:
            assert content_of(self.replica) == content_of(snapshot)

    # -- what always holds ------------------------------------------------------------------

    @precondition(lambda self: hasattr(self, "points") and self.broken is None)
    @invariant()
    def the_map_tells_what_the_replica_holds(self) -> None:
        content = content_of(self.replica)
        found = self.open_map()
        expected = hash_blocks(memoryview(content), BLOCK, found.seed)
        told = found.lookup(np.arange(len(expected)))
        unknown = (told == 0xFF).all(axis=1)  # a short last block that has grown
        assert np.array_equal(told[~unknown], expected[~unknown])
        assert unknown.sum() <= 1
        assert found.check()
        found.close()


class counted:
    """Every write, sync and removal of the map's files is a step at which the process may end."""

    def __init__(self, steps: Countdown) -> None:
        self.steps = steps

    def __enter__(self) -> None:
        real_pwrite, real_fsync, real_unlink = os.pwrite, os.fsync, Path.unlink
        steps = self.steps

        def pwrite(fd: int, data: memoryview, at: int) -> int:
            steps()
            return real_pwrite(fd, data, at)

        def fsync(fd: int) -> None:
            steps()
            real_fsync(fd)

        def unlink(path: Path, missing_ok: bool = False) -> None:
            steps()
            real_unlink(path, missing_ok=missing_ok)

        self.patches = [
            mock.patch.object(os, "pwrite", pwrite),
            mock.patch.object(os, "fsync", fsync),
            mock.patch.object(Path, "unlink", unlink),
        ]
        for patch in self.patches:
            patch.start()

    def __exit__(self, *_: object) -> None:
        for patch in self.patches:
            patch.stop()


TestCycles = Cycles.TestCase
TestCycles.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("writes", range(1, 26))
def test_a_full_copy_that_breaks_off_anywhere_goes_on_from_its_checkpoint(
    tmp_path: Path, writes: int
) -> None:
    content = random.Random(writes).randbytes(40 * BLOCK)
    source, target = disk_of(content, Extents.of(0, len(content))), MemoryDisk(len(content))
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
    assert content_of(target) == content
    expected = hash_blocks(memoryview(content), BLOCK, found.seed)
    assert np.array_equal(found.lookup(np.arange(40)), expected)
    found.close()
