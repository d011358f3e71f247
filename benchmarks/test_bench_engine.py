"""Benchmarks of hashing, extents and whole copies; `bytes` of extra_info gives the throughput."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.disks.generated import FORMS, TestDisk
from benchmarks.peers.ours import make_map
from vreplica.delta.block_hash import hash_blocks
from vreplica.delta.compare.compare import compare
from vreplica.delta.copy import modes
from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CopySpec
from vreplica.delta.copy.stats import CopyStats
from vreplica.extents import Extents
from vreplica.points.digestmap.digest_map import DigestMap
from vreplica.units import BLOCK, KIB, MIB, TIB
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.library import Library
from vreplica.vddk.open import open_vddk_disk

WRITING = VddkConnection(read_only=False)

# -- hashing --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [4 * KIB, 64 * KIB, 1024 * KIB])
@pytest.mark.parametrize("content", ["random", "zeros", "every third block zero"])
def test_hash_blocks(benchmark: Any, block: int, content: str) -> None:
    data = bytearray(np.random.default_rng(1).bytes(8 * MIB))
    if content == "zeros":
        data = bytearray(len(data))
    elif content != "random":
        for at in range(0, len(data), 3 * block):
            data[at : at + block] = bytes(min(block, len(data) - at))
    benchmark.extra_info["bytes"] = len(data)
    benchmark(hash_blocks, memoryview(data), block, 7)


# -- extents --------------------------------------------------------------------------------


def scattered(count: int, seed: int) -> Extents:
    starts = np.random.default_rng(seed).integers(0, 62 * TIB // BLOCK, count) * BLOCK
    return Extents.from_array(np.stack((starts, starts + BLOCK), axis=1))


@pytest.mark.parametrize("count", [1_000, 100_000])
@pytest.mark.parametrize("operation", ["union", "intersect", "subtract", "align", "complement"])
def test_extents(benchmark: Any, operation: str, count: int) -> None:
    left, right = scattered(count, 1), scattered(count, 2)
    run: Callable[[], Extents] = {
        "union": lambda: left.union(right),
        "intersect": lambda: left.intersect(right),
        "subtract": lambda: left.subtract(right),
        "align": lambda: left.align(1 * MIB),
        "complement": lambda: left.complement(62 * TIB),
    }[operation]
    benchmark(run)


# -- digest maps ----------------------------------------------------------------------------


def test_digest_map_of_a_delta(benchmark: Any, tmp_path: Path) -> None:
    """One GiB changed at many places of a disk of 62 TiB: sidecar, root, folding."""
    blocks = np.sort(np.random.default_rng(3).choice(62 * TIB // BLOCK, 16_384, replace=False))
    digests = np.full((len(blocks), 16), 7, np.uint8)
    found = DigestMap.create(tmp_path / "map", capacity_bytes=62 * TIB, algorithm="test")
    number = 0

    def cycle() -> None:
        nonlocal number
        number += 1
        pending = found.begin_run(str(number))
        for start in range(0, len(blocks), 128):
            found.lookup(blocks[start : start + 128])
            pending.add(blocks[start : start + 128], digests[start : start + 128])
        found.seal(pending)
        found.apply(str(number))

    benchmark.pedantic(cycle, rounds=5)
    found.close()


# -- whole copies ---------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", [False, True], ids=["in process", "helper processes"])
@pytest.mark.parametrize("form", [form for form in FORMS if form != "stream"])
def test_full_copy(
    benchmark: Any, vmdk: Callable[..., Path], tmp_path: Path, form: str, isolation: bool
) -> None:
    """The same form at both ends; every block is hashed, the target is durable."""
    source_path = vmdk(form)
    config = VddkConfig(isolation=isolation)
    made: list[Path] = []
    stats: list[CopyStats] = []

    def fresh() -> None:
        for old in tmp_path.glob("target*"):
            old.unlink()
        made.append(tmp_path / f"target-{len(made)}.vmdk")
        capacity = open_capacity(source_path)
        Library.load().create(made[-1], capacity, FORMS[form])

    def full() -> None:
        with (
            open_vddk_disk(config, WRITING, str(source_path)) as source,
            open_vddk_disk(config, WRITING, str(made[-1]), read_only=False) as target,
        ):
            plan = modes.full(source.allocated(), target.allocated(), source.capacity_bytes)
            stats.append(
                copy(
                    CopySpec(
                        source,
                        target,
                        plan.extents,
                        source_zero=plan.source_zero,
                        target_zero=plan.target_zero,
                    )
                )
            )

    benchmark.pedantic(full, setup=fresh, rounds=3)
    benchmark.extra_info["bytes"] = stats[-1].data_bytes
    with (
        open_vddk_disk(config, WRITING, str(source_path)) as source,
        open_vddk_disk(config, WRITING, str(made[-1])) as target,
    ):
        assert compare(source, target).equal


@pytest.mark.parametrize("mode", ["delta", "rescan"])
@pytest.mark.parametrize("form", ["flat", "sparse"])
def test_changes(
    benchmark: Any,
    vmdk: Callable[..., Path],
    replica: Callable[[str], Path],
    bench_disk: TestDisk,
    tmp_path: Path,
    form: str,
    mode: str,
) -> None:
    """1 % changed. Writes exactly the blocks that differ: written / changed is 1.00."""
    base, target_path, map_path = vmdk(form), replica(form), tmp_path / "map"
    config = VddkConfig(isolation=False)
    make_map(target_path, map_path)
    sources = [vmdk(form, changed=True), base]
    stats: list[CopyStats] = []

    def cycle() -> None:
        """Copies the changes in odd rounds and takes them back in even ones: equal work in each."""
        number = len(stats)
        digests = DigestMap.open(map_path, latest_point=str(number) if number else "base")
        with (
            open_vddk_disk(config, WRITING, str(sources[number % 2])) as source,
            open_vddk_disk(config, WRITING, str(target_path), read_only=False) as target,
        ):
            capacity = source.capacity_bytes
            if mode == "delta":
                plan = modes.delta(bench_disk.reported, capacity)
            else:
                plan = modes.rescan(source.allocated(), digests.not_zero(), capacity)
            pending = digests.begin_run(str(number + 1))
            done = copy(
                CopySpec(
                    source,
                    target,
                    plan.extents,
                    known=digests,
                    sink=pending,
                    seed=digests.seed,
                    source_zero=plan.source_zero,
                )
            )
            digests.seal(pending)
            digests.apply(str(number + 1))
        digests.close()
        stats.append(done)

    benchmark.pedantic(cycle, rounds=6)
    changed = len(bench_disk.changed_blocks) * BLOCK
    assert {done.data_bytes for done in stats} == {changed}
    benchmark.extra_info["written / changed"] = stats[-1].data_bytes / changed
    benchmark.extra_info["bytes"] = stats[-1].read_bytes


def open_capacity(path: Path) -> int:
    with Library.load().open(path) as handle:
        return handle.capacity_bytes
