"""Moves the requests of a batch: repeats them after errors, in smaller pieces where an error asks.

    [ 1 MiB ][ 1 MiB ][ 1 MiB ][ 1 MiB ]     all in flight together
                 NFC out of memory
    [512][512] [512][512] [512][512] ...     half the size, two in flight; stays so

A failed group is issued again as a whole, because the same reads and writes may be repeated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from vreplica.delta.control import Control
from vreplica.delta.copy.batches import Span
from vreplica.disk import Request
from vreplica.errors import VReplicaError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits how often a request is issued, and the waits between (random, doubling)."""

    attempts: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 20.0


DEFAULT_RETRY: Final = RetryPolicy()


class Transfer:
    """Moves requests in one direction of one disk. Thread-safe if `call` is.

    `call` is the disk's `read_many` or `write_many`. `before_try` is called before every try, and
    ends the transfer by raising. Once `stopped` is set (the copy has ended), no try is waited for.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Request]], None],
        *,
        smallest: int,
        control: Control,
        policy: RetryPolicy,
        on_retry: Callable[[VReplicaError], None] | None = None,
        before_try: Callable[[], None] | None = None,
        stopped: threading.Event | None = None,
    ) -> None:
        self._call = call
        self._smallest = smallest
        self._ended = partial(control.ended, stopped)
        self._on_retry = on_retry
        self._before = before_try
        self._largest: int | None = None
        self._in_flight: int | None = None
        self._retrying = Retrying(
            before=self._before_try,
            sleep=partial(control.sleep, stopped=stopped),
            stop=stop_after_attempt(policy.attempts),
            wait=wait_random_exponential(policy.first_wait_s, policy.longest_wait_s),
            retry=retry_if_exception(self._worth_a_retry),
            before_sleep=self._before_retry,
            reraise=True,
        )
        self._counting = threading.Lock()
        self.requests = 0
        self.retries = 0

    def run(self, slot: memoryview, spans: list[Span]) -> None:
        """Moves all spans. An error carries the byte offset of its group."""
        while spans:
            spans = self._cut(spans)
            group = spans[: self._in_flight]
            if self._issue(slot, group):
                with self._counting:
                    self.requests += len(group)
                spans = spans[len(group) :]

    def _issue(self, slot: memoryview, group: list[Span]) -> bool:
        """Moves one group; returns False if it has to be issued again in smaller requests."""
        requests = [(offset, slot[at : at + length]) for offset, at, length in group]
        try:
            self._retrying(self._call, requests)
        except VReplicaError as error:
            error.at(offset_bytes=group[0].offset)
            if not (error.shrink_requests and self._can_shrink()) or self._ended():
                raise
            self._note(error)
            self._shrink(group)
            return False
        return True

    def _before_try(self, _state: RetryCallState) -> None:
        """Much may have happened during the wait. Errors of `before_try` end the transfer."""
        if self._before is not None:
            self._before()

    def _worth_a_retry(self, error: BaseException) -> bool:
        return (
            isinstance(error, VReplicaError)
            and not self._ended()
            and error.retryable
            and error.in_place
            and not (error.shrink_requests and self._can_shrink())
        )

    def _can_shrink(self) -> bool:
        return self._largest is None or self._largest > self._smallest or self._in_flight != 1

    def _shrink(self, group: list[Span]) -> None:
        """Halves size and number of requests for the rest of this copy."""
        largest = max(span.length for span in group)
        self._largest = max(self._smallest, largest // 2 // self._smallest * self._smallest)
        self._in_flight = max(1, len(group) // 2)

    def _cut(self, spans: list[Span]) -> list[Span]:
        size = self._largest
        if size is None:
            return spans
        return [
            Span(span.offset + at, span.at + at, min(size, span.length - at))
            for span in spans
            for at in range(0, span.length, size)
        ]

    def _before_retry(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        error = state.outcome.exception()
        assert isinstance(error, VReplicaError)
        self._note(error)

    def _note(self, error: VReplicaError) -> None:
        with self._counting:
            self.retries += 1
        if self._on_retry is not None:
            self._on_retry(error)
