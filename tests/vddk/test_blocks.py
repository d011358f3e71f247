"""Allocated blocks: the arithmetic, and what becomes of the library's answers."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vreplica.extents import Extents
from vreplica.units import GIB, KIB, MIB, SECTOR, TIB
from vreplica.vddk import abi, allocated_blocks
from vreplica.vddk import disk as disk_module
from vreplica.vddk.errors import HelperDied


class Clock:
    """A clock that goes on by `step` seconds each time it is looked at."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@given(capacity=st.integers(1, 62 * TIB // SECTOR), step=st.sampled_from([0.0, 0.01, 0.5, 3.0]))
def test_every_sector_is_asked_for_once_or_in_the_tail(capacity: int, step: float) -> None:
    at, chunk = 0, abi.MIN_CHUNK_SECTORS
    for query in allocated_blocks.queries(capacity, Clock(step)):
        assert query.start == at
        assert query.start % query.chunk == query.count % query.chunk == 0
        assert 0 < query.count // query.chunk <= abi.MAX_CHUNKS_PER_CALL
        assert query.chunk >= chunk
        at, chunk = query.end, query.chunk
    assert 0 <= capacity - at < chunk


def test_a_quick_library_is_asked_in_64_kib_whatever_the_capacity() -> None:
    calls = list(allocated_blocks.queries(62 * TIB // SECTOR, Clock(0.001)))
    assert {call.chunk * SECTOR for call in calls} == {64 * KIB}
    assert len(calls) == 62 * TIB // (32 * GIB)


def test_a_slow_library_is_asked_less_often_on_a_huge_disk() -> None:
    calls = list(allocated_blocks.queries(62 * TIB // SECTOR, Clock(3.0)))
    assert [call.chunk * SECTOR for call in calls[:2]] == [64 * KIB, 2 * MIB]
    assert len(calls) <= allocated_blocks.COARSE_CALLS + 1


def test_a_slow_library_still_gives_64_kib_up_to_2_tib() -> None:
    calls = list(allocated_blocks.queries(2 * TIB // SECTOR, Clock(3.0)))
    assert {call.chunk * SECTOR for call in calls} == {64 * KIB}
    assert len(calls) == 64


@pytest.mark.parametrize(
    ("capacity", "chunk"),
    [
        (512, 64 * KIB),
        (2 * TIB, 64 * KIB),
        (2 * TIB + SECTOR, 128 * KIB),
        (62 * TIB, 2 * MIB),
        (1 << 60, 64 * MIB),
    ],
)
def test_coarse_chunks_grow_with_the_disk_up_to_the_library_s_limit(
    capacity: int, chunk: int
) -> None:
    assert allocated_blocks.coarse_chunk(capacity // SECTOR) * SECTOR == chunk


def test_a_disk_smaller_than_a_chunk_is_not_asked_for() -> None:
    assert list(allocated_blocks.queries(127)) == []
    assert list(allocated_blocks.queries(128)) == [allocated_blocks.BlockQuery(0, 128, 128)]


def test_allocated_has_64_kib_granularity_and_the_tail(dummy: Any, isolation: bool) -> None:
    content = bytearray(MIB + 1536)
    content[70 * KIB] = content[300 * KIB] = 1
    with dummy.open(dummy.disk(bytes(content)), isolation=isolation) as disk:
        assert disk.allocated() == Extents.from_pairs(
            [(64 * KIB, 128 * KIB), (256 * KIB, 320 * KIB), (MIB, MIB + 1536)]
        )


def test_an_empty_answer_is_an_empty_disk(dummy: Any, isolation: bool) -> None:
    with dummy.open(dummy.disk(bytes(MIB)), isolation=isolation) as disk:
        assert disk.allocated() == Extents.empty()


def test_answers_larger_than_a_message_arrive_whole(dummy: Any, isolation: bool) -> None:
    """Every other 64 KiB of 512 MiB: 4096 blocks, 64 KiB of answer."""
    path = dummy.disk(b"")
    os.truncate(path, 512 * MIB)
    with path.open("r+b") as file:
        for at in range(0, 512 * MIB, 128 * KIB):
            os.pwrite(file.fileno(), b"x", at)
    with dummy.open(path, isolation=isolation) as disk:
        found = disk.allocated()
    assert len(found) == 4096
    assert found.total == 256 * MIB


def test_many_calls_are_united(
    dummy: Any, isolation: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocated_blocks, "MAX_CHUNKS_PER_CALL", 3)
    content = bytearray(MIB)
    for at in range(128 * KIB, 640 * KIB, 64 * KIB):
        content[at] = 1
    with dummy.open(dummy.disk(bytes(content)), isolation=isolation) as disk:
        assert disk.allocated() == Extents.of(128 * KIB, 640 * KIB)


def test_a_library_that_cannot_answer_makes_the_whole_disk_allocated(
    dummy: Any, isolation: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "vreplica.vddk")
    path = dummy.disk(bytes(MIB))
    with dummy.open(path, isolation=isolation) as disk:
        dummy.fault(path, "blocks 6")
        assert disk.allocated() == Extents.of(0, MIB)
        assert "all of it counts as allocated" in caplog.text
        assert "VixDiskLib_QueryAllocatedBlocks failed" in caplog.text
        caplog.clear()
        dummy.fault(path)
        assert disk.allocated() == Extents.empty()
        assert "counts as allocated" not in caplog.text


def test_a_crash_is_not_taken_for_an_answer(dummy: Any) -> None:
    path = dummy.disk(bytes(MIB))
    with dummy.open(path) as disk:
        dummy.fault(path, "blocks segv")
        with pytest.raises(HelperDied):
            disk.allocated()


def test_too_many_extents_are_joined_rather_than_kept(
    dummy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "EXTENTS_MAX", 2)
    content = bytearray(MIB)
    written = [0, 128 * KIB, 512 * KIB, 896 * KIB]
    for at in written:
        content[at] = 1
    with dummy.open(dummy.disk(bytes(content))) as disk:
        found = disk.allocated()
    assert len(found) <= 2
    assert found.covers(Extents.from_pairs((at, at + 64 * KIB) for at in written))
