"""Requests in flight: the async way, which a transport with round trips gets.

The dummy gives a disk the transport mode nbdssl where its path says so, takes 2 ms for an async
request, and logs at Close how many it had in flight at most.
"""

from __future__ import annotations

import logging
import os
import re
import time
from typing import Any

import pytest

from vreplica.disk_errors import DiskAccessError, DiskFull
from vreplica.units import KIB, MIB
from vreplica.vddk.errors import HelperDied


@pytest.fixture
def in_flight(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG, "vreplica.vddk")

    def most() -> int:
        (line,) = [r.getMessage() for r in caplog.records if "in flight" in r.getMessage()]
        return int(re.findall(r"at most (\d+) in flight", line)[0])

    return most


@pytest.mark.parametrize("depth", [2, 5])
def test_depth_requests_are_in_flight_and_no_more(
    dummy: Any, isolation: bool, in_flight: Any, depth: int
) -> None:
    content = os.urandom(4 * MIB)
    path = dummy.disk(content, "nbdssl.raw")
    target = memoryview(bytearray(4 * MIB))
    with dummy.open(path, isolation=isolation, io_depth=depth) as disk:
        assert disk.transport_mode == "nbdssl"
        disk.read_many([(at, target[at : at + 128 * KIB]) for at in range(0, 4 * MIB, 128 * KIB)])
    assert target == content
    assert in_flight() == depth


def test_one_large_read_is_split_so_that_its_parts_fly_together(
    dummy: Any, isolation: bool, in_flight: Any
) -> None:
    content = os.urandom(8 * MIB)
    target = memoryview(bytearray(8 * MIB))
    path = dummy.disk(content, "nbdssl.raw")
    with dummy.open(path, isolation=isolation, io_depth=4) as disk:
        started = time.perf_counter()
        disk.read_into(0, target)
        elapsed = time.perf_counter() - started
    assert target == content
    assert in_flight() == 4
    assert elapsed > 0.003, "two rounds of 2 ms"


def test_writes_fly_together_too(dummy: Any, isolation: bool, in_flight: Any) -> None:
    content = os.urandom(6 * MIB)
    path = dummy.disk(bytes(6 * MIB), "nbdssl.raw")
    with dummy.open(path, isolation=isolation, io_depth=3, read_only=False) as disk:
        disk.write_from(0, memoryview(content))
        disk.flush()
    assert path.read_bytes() == content
    assert in_flight() == 3


@pytest.mark.parametrize(
    ("name", "depth"), [("plain.raw", 8), ("nbdssl.raw", 1)], ids=["local file", "depth 1"]
)
def test_without_round_trips_or_depth_the_sync_calls_are_used(
    dummy: Any, isolation: bool, in_flight: Any, name: str, depth: int
) -> None:
    path = dummy.disk(bytes(4 * MIB), name)
    with dummy.open(path, isolation=isolation, io_depth=depth) as disk:
        disk.read_into(0, memoryview(bytearray(4 * MIB)))
    assert in_flight() == 0


def test_a_failed_completion_is_raised_once_nothing_is_in_flight(
    dummy: Any, isolation: bool
) -> None:
    content = os.urandom(4 * MIB)
    path = dummy.disk(content, "nbdssl.raw")
    target = memoryview(bytearray(4 * MIB))
    with dummy.open(path, isolation=isolation, io_depth=4) as disk:
        dummy.fault(path, "read 8")
        with pytest.raises(DiskFull) as caught:
            disk.read_into(0, target)
        assert caught.value.doing == "VixDiskLib_ReadAsync"
        assert caught.value.where.offset_bytes in range(0, 4 * MIB, MIB)
        dummy.fault(path)
        disk.read_into(0, target)
        assert target == content


def test_a_request_that_is_not_queued_is_not_waited_for(dummy: Any, isolation: bool) -> None:
    content = os.urandom(4 * MIB)
    path = dummy.disk(content, "nbdssl.raw")
    target = memoryview(bytearray(4 * MIB))
    with dummy.open(path, isolation=isolation, io_depth=2) as disk:
        dummy.fault(path, "submit 2")
        with pytest.raises(DiskAccessError) as caught:
            disk.read_into(0, target)
        assert (caught.value.code, caught.value.where.offset_bytes) == (2, 0)
        dummy.fault(path)
        disk.read_into(0, target)
        assert target == content


def test_a_crash_on_a_thread_of_the_library_fails_the_disk(dummy: Any) -> None:
    path = dummy.disk(bytes(4 * MIB), "nbdssl.raw")
    with dummy.open(path) as disk:
        dummy.fault(path, "read segv")
        with pytest.raises(HelperDied, match="SIGSEGV"):
            disk.read_into(0, memoryview(bytearray(4 * MIB)))
