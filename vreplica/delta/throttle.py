"""How fast a copy may go, by the time of day. Pure but for the clock that is handed in.

    windows    Mon-Fri 08:00-18:00  10 MiB/s      the first window that holds now counts
               Sat             all  no limit
    otherwise  `default`

A rate of 0 stops the copy until its window ends. The bucket holds at most one second's worth,
so a pause does not lead to a burst.
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
    """A rate for some hours or a period, by the clock that the throttle is given."""

    bytes_per_s: float | None
    """None: no limit; 0: nothing at all."""
    when: Span


class Throttle:
    """A token bucket. Thread-safe: several copies may share one, and share its rate."""

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
        """Ask for `nbytes`. 0: granted; otherwise how many seconds to wait before asking again.

        A request that is larger than the bucket is granted when the bucket is full, and then
        leaves it in debt.
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
