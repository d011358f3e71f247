"""Nothing is left behind, disks do not disturb each other, and requests are cut as promised."""

from __future__ import annotations

import gc
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from vreplica.disk import Arena
from vreplica.disk_errors import DiskAccessError
from vreplica.units import KIB, MIB, SECTOR
from vreplica.vddk.errors import HelperDied
from vreplica.vddk.raw_disk import MAX_IO


def held() -> tuple[list[str], int, int]:
    """What this process has open, its threads and its children."""
    gc.collect()
    links = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            link = os.readlink(fd)  # noqa: PTH115 - "pipe:[1]" is not a path
        except FileNotFoundError:
            continue
        links.append(link.split("[")[0].split(" ")[0])
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return sorted(links), threading.active_count(), len(children)


def use(dummy: Any, path: Path) -> None:
    with dummy.open(path) as disk:
        arena = Arena(MIB)
        disk.register(arena)
        disk.read_into(0, arena.view)
        disk.allocated()
    arena.close()


def fail_to_open(dummy: Any, path: Path) -> None:
    dummy.fault(path, "open 15")
    with pytest.raises(DiskAccessError):
        dummy.open(path)
    dummy.fault(path)


def crash(dummy: Any, path: Path) -> None:
    with dummy.open(path) as disk:
        dummy.fault(path, "read segv")
        with pytest.raises(HelperDied):
            disk.read_into(0, memoryview(bytearray(SECTOR)))
    dummy.fault(path)


@pytest.mark.parametrize("way", [use, fail_to_open, crash])
def test_descriptors_threads_and_processes_are_given_back(
    dummy: Any, way: Callable[[Any, Path], None]
) -> None:
    path = dummy.disk(os.urandom(MIB))
    way(dummy, path)
    before = held()
    for _ in range(4):
        way(dummy, path)
    assert held() == before


def test_disks_are_used_side_by_side(dummy: Any, isolation: bool) -> None:
    contents = [os.urandom(6 * MIB) for _ in range(6)]
    paths = [dummy.disk(data, f"{number}.nbdssl") for number, data in enumerate(contents)]

    def work(number: int) -> int:
        content, rng = bytearray(contents[number]), random.Random(number)
        with dummy.open(paths[number], isolation=isolation, read_only=False) as disk:
            for _ in range(25):
                offset = rng.randrange(len(content) // SECTOR - 4096) * SECTOR
                length = rng.choice([1, 130, 4096]) * SECTOR
                if rng.random() < 0.5:
                    data = rng.randbytes(length)
                    disk.write_from(offset, memoryview(data))
                    content[offset : offset + length] = data
                else:
                    buffer = bytearray(length)
                    disk.read_into(offset, memoryview(buffer))
                    assert buffer == content[offset : offset + length]
            disk.flush()
        assert paths[number].read_bytes() == content
        return number

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(work, range(6))) == list(range(6))


def test_a_helper_outlives_the_thread_that_started_it(dummy: Any) -> None:
    path = dummy.disk(bytes(MIB))
    with ThreadPoolExecutor(1) as pool:
        disk = pool.submit(dummy.open, path).result()
    disk.read_into(0, memoryview(bytearray(MIB)))
    disk.close()


def test_requests_are_cut_to_the_largest_that_a_host_takes(dummy: Any) -> None:
    content = os.urandom(4 * MIB)
    path = dummy.disk(content)
    with dummy.open(path, isolation=False) as disk:
        calls: list[tuple[int, int]] = []
        raw = disk._backend._first.raw
        real = raw._sync[False]

        def recorded(handle: int, start: int, count: int, address: int) -> None:
            calls.append((start * SECTOR, count * SECTOR))
            real(handle, start, count, address)

        raw._sync[False] = recorded
        target = memoryview(bytearray(4 * MIB))
        disk.read_many(
            [
                (512, target[: 2 * MIB + 64 * KIB]),
                (3 * MIB, target[3 * MIB :]),
                (0, target[:0]),
            ]
        )
    assert MAX_IO == MIB
    assert calls == [
        (512, MIB),
        (512 + MIB, MIB),
        (512 + 2 * MIB, 64 * KIB),
        (3 * MIB, MIB),
    ]
    assert target[: 2 * MIB + 64 * KIB] == content[512 : 512 + 2 * MIB + 64 * KIB]


def test_nothing_is_issued_where_one_request_of_many_is_bad(dummy: Any, isolation: bool) -> None:
    path = dummy.disk(bytes(MIB))
    with dummy.open(path, isolation=isolation, read_only=False) as disk:
        good = memoryview(b"x" * SECTOR)
        with pytest.raises(Exception, match="reach past the disk's end"):
            disk.write_many([(0, good), (MIB, good)])
        with pytest.raises(Exception, match="not a multiple of 512"):
            disk.write_many([(0, good), (1, good)])
    assert path.read_bytes() == bytes(MIB)
