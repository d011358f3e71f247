"""Limits how fast a copy reads, by the time of day. The caller may give the clock.

    windows    Mon-Fri 08:00-18:00  10 MiB/s      the first window that holds now counts
               Sat             all  no limit
    otherwise  `default`

A rate of 0 stops the copy until its window ends. The bucket holds the bytes of one second at most,
so a pause is not followed by a burst.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from vreplica.hours import Span

_RECHECK_S = 1.0
_SHORTEST_S = 0.001


@dataclass(frozen=True, slots=True)
class Window:
    """A rate for some hours or for a period, by the clock of the throttle."""

    bytes_per_s: float | None
    """None: no limit; 0: the copy stands still."""
    when: Span


class Throttle:
    """A token bucket. Thread-safe; several copies that share one share its rate."""

    def __init__(
        self,
        default: float | None = None,
        windows: Sequence[Window] = (),
        *,
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._default, self._windows = default, tuple(windows)
        self._now, self._clock = now, clock
        self._lock = threading.Lock()
        self._tokens = 0.0
        self._last = clock()

    def rate(self) -> float | None:
        """Bytes per second that are allowed now; None: no limit."""
        moment = self._now()
        for window in self._windows:
            if window.when.holds(moment):
                return window.bytes_per_s
        return self._default

    def take(self, nbytes: int) -> float:
        """Asks for `nbytes`; returns 0 if granted, else the seconds to wait before asking again.

        A request larger than the bucket is granted when the bucket is full, and leaves it in debt.
        """
        with self._lock:
            rate = self.rate()
            now = self._clock()
            elapsed, self._last = now - self._last, now
            if rate is None:
                self._tokens = 0.0
                return 0.0
            if rate <= 0:
                return _RECHECK_S
            self._tokens = min(rate, self._tokens + elapsed * rate)
            wanted = min(float(nbytes), rate)
            if self._tokens >= wanted:
                self._tokens -= nbytes
                return 0.0
            return min(_RECHECK_S, max(_SHORTEST_S, (wanted - self._tokens) / rate))
