"""Retries and smaller requests: what is issued, how often, and when it gives up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from vreplica.delta.control import Control
from vreplica.delta.copy.batches import Span
from vreplica.delta.copy.transfer import RetryPolicy, Transfer
from vreplica.disk import Request
from vreplica.errors import DiskError, VReplicaError

UNIT = 1024
SPANS = [Span(i * 8 * UNIT, i * 8 * UNIT, 8 * UNIT) for i in range(4)]
SLOT = memoryview(bytearray(32 * UNIT))
QUICK = RetryPolicy(attempts=3, first_wait_s=0.0, longest_wait_s=0.0)


@dataclass(eq=False)
class Passing(DiskError):
    template = "try again"
    retryable = True


@dataclass(eq=False)
class TooMuch(DiskError):
    template = "out of memory"
    retryable = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shrink_requests = True


@dataclass(eq=False)
class Lasting(DiskError):
    template = "never"


class Host:
    """Records each call as a list of (offset, length); `judge` may raise."""

    def __init__(self, judge: Callable[[Sequence[Request], int], None]) -> None:
        self.calls: list[list[tuple[int, int]]] = []
        self.judge = judge

    def __call__(self, requests: Sequence[Request]) -> None:
        self.calls.append([(offset, view.nbytes) for offset, view in requests])
        self.judge(requests, len(self.calls))


def transfer(host: Host, control: Control | None = None) -> Transfer:
    return Transfer(host, smallest=UNIT, control=control or Control(), policy=QUICK)


def moved(host: Host, since: int = 0) -> list[int]:
    return [o + at for call in host.calls[since:] for o, n in call for at in range(0, n, UNIT)]


def test_all_requests_go_out_together() -> None:
    host = Host(lambda requests, call: None)
    one = transfer(host)
    one.run(SLOT, SPANS)
    assert host.calls == [[(s.offset, s.length) for s in SPANS]]
    assert (one.requests, one.retries) == (4, 0)


def test_a_passing_error_is_tried_again_and_reported() -> None:
    def judge(requests: Sequence[Request], call: int) -> None:
        if call < 3:
            raise Passing

    seen: list[VReplicaError] = []
    host = Host(judge)
    one = Transfer(host, smallest=UNIT, control=Control(), policy=QUICK, on_retry=seen.append)
    one.run(SLOT, SPANS)
    assert host.calls == [host.calls[0]] * 3
    assert one.retries == len(seen) == 2


@pytest.mark.parametrize(("error", "calls"), [(Passing, 3), (Lasting, 1)])
def test_an_error_that_stays_comes_out_with_its_byte(error: type[DiskError], calls: int) -> None:
    def judge(requests: Sequence[Request], call: int) -> None:
        raise error

    host = Host(judge)
    with pytest.raises(error) as caught:
        transfer(host).run(SLOT, SPANS[1:])
    assert len(host.calls) == calls
    assert caught.value.where.offset_bytes == 8 * UNIT


def test_a_host_short_of_memory_is_asked_for_less_until_it_can() -> None:
    def judge(requests: Sequence[Request], call: int) -> None:
        if sum(view.nbytes for _, view in requests) > 3 * UNIT:
            raise TooMuch

    host = Host(judge)
    one = transfer(host)
    one.run(SLOT, SPANS)
    assert [call[0][1] * len(call) for call in host.calls[:3]] == [32 * UNIT, 8 * UNIT, 2 * UNIT]
    assert moved(host, since=2) == list(range(0, 32 * UNIT, UNIT))
    assert one.retries == 2
    before = len(host.calls)
    one.run(SLOT, SPANS)
    assert len(host.calls) == before + 16, "what the host can take is remembered"


def test_a_host_without_any_memory_fails_after_the_least_was_tried() -> None:
    def judge(requests: Sequence[Request], call: int) -> None:
        raise TooMuch

    host = Host(judge)
    with pytest.raises(TooMuch):
        transfer(host).run(SLOT, SPANS)
    assert host.calls[-3:] == [[(0, UNIT)]] * 3


def test_a_cancelled_copy_does_not_wait_for_retries() -> None:
    control = Control()

    def judge(requests: Sequence[Request], call: int) -> None:
        control.cancel()
        raise Passing

    host = Host(judge)
    with pytest.raises(Passing):
        transfer(host, control).run(SLOT, SPANS)
    assert len(host.calls) == 1


def test_the_fence_is_asked_before_every_try() -> None:
    asked = 0

    def fence() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise Lasting

    def judge(requests: Sequence[Request], call: int) -> None:
        raise Passing

    host = Host(judge)
    policy = RetryPolicy(attempts=9, first_wait_s=0.0, longest_wait_s=0.0)
    one = Transfer(host, smallest=UNIT, control=Control(), policy=policy, before_try=fence)
    with pytest.raises(Lasting):
        one.run(SLOT, SPANS)
    assert len(host.calls) == 2


def test_a_fence_that_raises_is_not_asked_again_though_a_retry_might_help() -> None:
    asked = 0

    def fence() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Passing

    host = Host(lambda requests, call: None)
    one = Transfer(host, smallest=UNIT, control=Control(), policy=QUICK, before_try=fence)
    with pytest.raises(Passing):
        one.run(SLOT, SPANS)
    assert (asked, host.calls) == (1, [])
