"""Cycles of writes, copies, crashes, resumes, reverts and growth against a plain model.

The model is a list of contents: the source's, the replica's and one for each recovery point.
Whatever happens, the replica can be taken to its latest point, and after a copy that ends well
it holds exactly what the source held at its snapshot, and the digest map says so.
"""

from __future__ import annotations

import os
import random
import stat
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.digest_maps import is_intact
from vreplica.delta.block_hash import ALGORITHM, hash_blocks
from vreplica.delta.copy import modes
from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CopySpec
from vreplica.disk import MemoryDisk
from vreplica.extents import Extents
from vreplica.points.digestmap import pending as pending_file
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.points.digestmap.errors import DigestMapUnusable
from vreplica.points.digestmap.rebuild import rebuild

BLOCK = 4096
SECTOR = 512
START = 9 * BLOCK + 3 * SECTOR


class Crash(Exception):
    """The process ends here."""


def disk_of(content: bytes | bytearray, allocated: Extents) -> Leaf:
    disk = Leaf(len(content))
    for start, end in allocated:
        disk.write_from(start, memoryview(content)[start:end])
    disk.flush()
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


class Leaf(MemoryDisk):
    """A replica's disk that knows which writes a power cut may still undo."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes)
        self.unsynced: list[tuple[int, bytes]] = []

    def write_from(self, offset: int, view: memoryview) -> None:
        old = bytearray(view.nbytes)
        self.read_into(offset, memoryview(old))
        self.unsynced.append((offset, bytes(old)))
        super().write_from(offset, view)

    def flush(self) -> None:
        super().flush()
        self.unsynced.clear()

    def cut_power(self, chance: random.Random) -> None:
        for offset, old in reversed(self.unsynced):
            if chance.random() < 0.5:
                super().write_from(offset, memoryview(old))
        self.unsynced.clear()


class Files:
    """The map and its sidecar, and what a power cut may leave of them.

    Every write, sync and removal is a step at which the process may end. What was not synced
    may be lost, each write on its own, in whole or in part; what was not synced in the folder
    may be as it was before.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.sidecar = path, path.with_name(path.name + ".pending")
        self.steps = Countdown(None)
        self.unsynced: list[tuple[int, bytes]] = []
        """Of the map: where something was written since its last sync, and what was there."""
        self.synced_size = 0
        """Of the sidecar."""
        self.earlier: list[bytes | None] = []
        """What the sidecar's name stood for before changes of the folder that were not synced."""

    def cut_power(self, chance: random.Random) -> None:
        with self.path.open("r+b", buffering=0) as file:
            for at, old in reversed(self.unsynced):
                kind = chance.randrange(3)
                part = SECTOR * chance.randrange(max(1, len(old) // SECTOR)) if kind == 2 else 0
                if kind:
                    os.pwrite(file.fileno(), old[part:], at + part)
        self.unsynced.clear()
        now = self.content()
        if now is not None:
            size = chance.randint(min(self.synced_size, len(now)), len(now))
            tail = bytes(len(now) - size) if chance.random() < 0.3 else b""
            now = now[:size] + tail
        left = chance.choice([*self.earlier, now])
        self.earlier.clear()
        if left is None:
            self.sidecar.unlink(missing_ok=True)
        else:
            self.sidecar.write_bytes(left)
            self.synced_size = len(left)

    def content(self) -> bytes | None:
        return self.sidecar.read_bytes() if self.sidecar.exists() else None

    def __enter__(self) -> None:
        real_pwrite, real_unlink, real_open = os.pwrite, Path.unlink, Path.open
        real_frame = pending_file._write_frame

        def pwrite(fd: int, data: Any, at: int) -> int:
            self.steps()
            self.unsynced.append((at, os.pread(fd, len(data), at).ljust(len(data), b"\0")))
            return real_pwrite(fd, data, at)

        def fsync(fd: int) -> None:
            self.steps()
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                self.earlier.clear()
            elif status.st_ino == self.path.stat().st_ino:
                self.unsynced.clear()
            else:
                self.synced_size = status.st_size

        def unlink(path: Path, missing_ok: bool = False) -> None:
            self.steps()
            if path == self.sidecar:
                self.earlier.append(self.content())
            real_unlink(path, missing_ok=missing_ok)

        def opened(path: Path, mode: str = "r", **options: Any) -> Any:
            if path == self.sidecar and mode in {"wb", "r+b"}:
                self.earlier.append(self.content())
                self.synced_size = 0 if mode == "wb" else self.synced_size
            return real_open(path, mode, **options)

        def frame(file: Any, kind: int, payload: bytes) -> None:
            self.steps()
            real_frame(file, kind, payload)

        self.patches = [
            mock.patch.object(os, "pwrite", pwrite),
            mock.patch.object(os, "fsync", fsync),
            mock.patch.object(Path, "unlink", unlink),
            mock.patch.object(Path, "open", opened),
            mock.patch.object(pending_file, "_write_frame", frame),
        ]
        for patch in self.patches:
            patch.start()

    def __exit__(self, *_: object) -> None:
        for patch in self.patches:
            patch.stop()
        self.steps = Countdown(None)


class Cycles(RuleBasedStateMachine):
    syncs = 0

    @initialize()
    def begin(self) -> None:
        # Many small syncs: in memory where that is possible.
        memory = Path("/dev/shm")
        self.folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.path = Path(self.folder.name) / "map"
        self.source = MemoryDisk(START)
        self.changed = Extents.empty()
        """Since the snapshot of the latest point: what change tracking would report."""
        self.replica = Leaf(START)
        self.points: list[tuple[str, bytes, Extents]] = [("", bytes(START), Extents.empty())]
        self.count = 0
        self.reverted = False
        self.broken: tuple[str, Leaf, Extents, Extents] | None = None
        """Of a cycle that broke off: id, snapshot, its extents, and what changed up to it."""
        DigestMap.create(self.path, capacity_bytes=START, algorithm=ALGORITHM, block=BLOCK).close()
        self.files = Files(self.path)

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
        self.reverted = True

    def revert_leaf(self) -> None:
        _, content, allocated = self.points[-1]
        grown = bytes(self.source.capacity_bytes - len(content))
        self.replica = disk_of(content + grown, allocated)

    def open_map(self) -> DigestMap:
        """As a cycle does it: a map that is of no use is made anew from the replica."""
        latest = self.points[-1][0]
        with self.files:
            try:
                found = DigestMap.open(self.path, latest_point=latest)
            except DigestMapUnusable:
                assert self.reverted, "only a point that is taken back may cost a map"
                return self.rebuilt(latest)
            finally:
                self.reverted = False
        if found.capacity_bytes < self.replica.capacity_bytes:
            with self.files:
                found.grow(self.replica.capacity_bytes)
        return found

    def rebuilt(self, latest: str) -> DigestMap:
        return rebuild(
            self.path, self.replica, hash_blocks, point=latest, algorithm=ALGORITHM, block=BLOCK
        )

    def cut_power(self, seed: int) -> None:
        """Both machines: what was not made durable may be lost."""
        chance = random.Random(seed)
        self.files.cut_power(chance)
        self.replica.cut_power(chance)

    # -- cycles -----------------------------------------------------------------------------

    @precondition(lambda self: self.broken is None)
    @rule(
        mode=st.sampled_from(["delta", "rescan", "full"]),
        writes=crashes(6),
        steps=crashes(25),
        power=st.one_of(st.none(), st.integers(0, 2**32)),
    )
    def cycle(self, mode: str, writes: int | None, steps: int | None, power: int | None) -> None:
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
        self.run(found, point, snapshot, plan, changed, Countdown(writes), Countdown(steps), power)

    @precondition(lambda self: self.broken is not None)
    @rule(
        resume=st.booleans(),
        writes=crashes(4),
        steps=crashes(20),
        power=st.one_of(st.none(), st.integers(0, 2**32)),
    )
    def recover(
        self, resume: bool, writes: int | None, steps: int | None, power: int | None
    ) -> None:
        """The next run after one that broke off: goes on, or goes back to the latest point."""
        assert self.broken is not None
        point, snapshot, extents, changed = self.broken
        self.broken = None
        found = self.open_map()
        with self.files:
            pending = found.resume_run() if resume else None
        if pending is None or pending.head.point != point:
            with self.files:
                found.discard_pending()
            found.close()
            self.revert_leaf()
            self.changed = self.changed.union(changed)
            return
        assert pending.position > 0
        rest = extents.clip(pending.position, snapshot.capacity_bytes)
        plan = modes.delta(rest, snapshot.capacity_bytes, snapshot.allocated())
        ends = Countdown(writes), Countdown(steps), power
        self.run(found, point, snapshot, plan, changed, *ends, pending)

    def run(
        self,
        found: DigestMap,
        point: str,
        snapshot: Leaf,
        plan: modes.CopyPlan,
        changed: Extents,
        writes: Countdown,
        steps: Countdown,
        power: int | None,
        pending: Any = None,
    ) -> None:
        committed = crashed = False
        Cycles.syncs += 1
        extents = plan.extents
        try:
            self.files.steps = steps
            with self.files:
                pending = pending or found.begin_run(point)
                copy(
                    CopySpec(
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
                )
                root = found.seal(pending)
                steps()
                committed = True
                self.points.append((point, content_of(self.replica), self.replica.allocated()))
                found.apply(point)
            assert found.root == root
        except Crash:
            crashed = True
            if not committed:
                self.broken = (point, snapshot, extents, changed)
        finally:
            found.close()
        if crashed and power is not None:
            self.cut_power(power)
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
        assert is_intact(found.path)
        found.close()


def syncs(examples: int) -> int:
    """Live so many lives of 30 steps; how many syncs were in them."""
    Cycles.syncs = 0
    run_state_machine_as_test(
        Cycles, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )
    print(f"{Cycles.syncs} syncs")
    return Cycles.syncs


def test_syncs_end_as_the_model_says() -> None:
    assert syncs(800) >= 2000


@pytest.mark.slow
def test_tens_of_thousands_of_syncs_end_as_the_model_says() -> None:
    assert syncs(7000) >= 20_000
