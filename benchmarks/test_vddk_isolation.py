"""Benchmarks of the helper process: the same reads and copies in process and isolated.

They are the reason for a default: VddkConfig.isolation is on, because batched reads into an arena
keep most of their speed. They also compare sync and async calls on one handle of a local file.
There vreplica uses sync calls, and several handles to read at once (vddk/reader_pool.py).

Read the throughput as `bytes` of extra_info over the median time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CopySpec
from vreplica.disk import Arena
from vreplica.units import KIB, MIB
from vreplica.vddk.abi import DiskType
from vreplica.vddk.config import VddkConfig, VddkConnection
from vreplica.vddk.disk import VddkDisk
from vreplica.vddk.library import Library
from vreplica.vddk.open import open_vddk_disk

SIZE = 256 * MIB
LOCAL = VddkConnection()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse disk, fully allocated, warm in the page cache."""
    path = tmp_path_factory.mktemp("isolation") / "source.vmdk"
    library = Library.load()
    library.create(path, SIZE, DiskType.MONOLITHIC_SPARSE)
    content = memoryview(os.urandom(8 * MIB))
    with library.open(path, read_only=False) as disk:
        for at in range(0, SIZE, content.nbytes):
            disk.write_from(at, content)
    return path


@pytest.fixture(params=[False, True], ids=["in-process", "isolated"])
def isolation(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def disk(source: Path, isolation: bool) -> Iterator[VddkDisk]:
    with open_vddk_disk(VddkConfig(isolation=isolation), LOCAL, str(source)) as disk:
        yield disk


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = Arena(8 * MIB)
    arena.view[:] = bytes(arena.size)
    yield arena
    arena.close()


def read_all(disk: VddkDisk, buffer: memoryview, request: int) -> None:
    """Reads the whole disk, in batches of the size of the buffer."""
    for start in range(0, SIZE, buffer.nbytes):
        parts = range(0, buffer.nbytes, request)
        disk.read_many([(start + at, buffer[at : at + request]) for at in parts])


@pytest.mark.parametrize("request_size", [MIB, 64 * KIB], ids=["1MiB", "64KiB"])
def test_batched_reads_into_an_arena(
    benchmark: Any, disk: VddkDisk, arena: Arena, request_size: int
) -> None:
    disk.register(arena)
    benchmark.extra_info["bytes"] = SIZE
    benchmark.pedantic(read_all, (disk, arena.view, request_size), rounds=9, warmup_rounds=1)


@pytest.mark.parametrize("request_size", [MIB, 64 * KIB], ids=["1MiB", "64KiB"])
def test_batched_reads_into_other_memory(benchmark: Any, disk: VddkDisk, request_size: int) -> None:
    buffer = memoryview(bytearray(8 * MIB))
    benchmark.extra_info["bytes"] = SIZE
    benchmark.pedantic(read_all, (disk, buffer, request_size), rounds=9, warmup_rounds=1)


def test_one_read_of_64_kib(benchmark: Any, disk: VddkDisk, arena: Arena) -> None:
    disk.register(arena)
    benchmark.extra_info["bytes"] = 64 * KIB
    benchmark(disk.read_into, 128 * MIB, arena.view[: 64 * KIB])


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("request_size", [MIB, 64 * KIB], ids=["1MiB", "64KiB"])
def test_sync_and_async_calls_on_a_local_file(
    benchmark: Any, source: Path, arena: Arena, way: str, request_size: int
) -> None:
    # One handle: a local disk that is opened for reading has several, which take turns.
    handle = Library.load(VddkConfig(isolation=False)).open(source, io_depth=8)
    handle.raw.use_async = way == "async"
    with VddkDisk(handle, str(source), read_only=True) as disk:
        benchmark.extra_info["bytes"] = SIZE
        benchmark.pedantic(read_all, (disk, arena.view, request_size), rounds=9, warmup_rounds=1)


def test_open_and_close(benchmark: Any, source: Path, isolation: bool) -> None:
    config = VddkConfig(isolation=isolation)
    benchmark.pedantic(
        lambda: open_vddk_disk(config, LOCAL, str(source)).close(), rounds=15, warmup_rounds=1
    )


def test_a_copy_through_the_engine(
    benchmark: Any, source: Path, isolation: bool, tmp_path: Path
) -> None:
    library, config = Library.load(), VddkConfig(isolation=isolation)
    target = tmp_path / "target.vmdk"

    def fresh() -> None:
        if target.exists():
            library.unlink(target)
        library.create(target, SIZE, DiskType.MONOLITHIC_SPARSE)

    def run() -> None:
        with (
            open_vddk_disk(config, LOCAL, str(source)) as reader,
            open_vddk_disk(config, LOCAL, str(target), read_only=False) as writer,
        ):
            stats = copy(CopySpec(reader, writer, reader.allocated()))
        assert stats.data_bytes == SIZE

    benchmark.extra_info["bytes"] = SIZE
    benchmark.pedantic(run, setup=fresh, rounds=7, warmup_rounds=1)
