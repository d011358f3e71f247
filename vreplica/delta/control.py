"""Controls a running copy from outside: cancel, pause, resume, slow down.

The threads of a copy call `admit` before they read a batch and before they write one.
"""

from __future__ import annotations

import threading
from time import monotonic

from vreplica.delta.throttle import Throttle

_RECHECK_S = 0.2
"""A worker that is paused or waits notices within this time that another one has failed."""


class Control:
    """Cancels, pauses and slows down copies. Thread-safe; copies may share one, and its rate."""

    def __init__(self, throttle: Throttle | None = None) -> None:
        self.throttle = throttle
        self._cancelled = threading.Event()
        self._running = threading.Event()
        self._running.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    def cancel(self) -> None:
        """Ends the copy with CopyCancelled at its next batch, also when it is paused."""
        self._cancelled.set()
        self._running.set()

    def pause(self) -> None:
        """Makes the copy issue nothing until `resume`; its handles stay open."""
        if not self.cancelled:
            self._running.clear()

    def resume(self) -> None:
        self._running.set()

    def admit(self, read_bytes: int = 0, stopped: threading.Event | None = None) -> bool:
        """Waits while paused and for the throttle; returns False when the copy has to end.

        Only reads are throttled, because a copy writes no more than it reads. `stopped` is set when
        another worker of the same copy has failed.
        """
        while not self.ended(stopped):
            if not self._running.wait(_RECHECK_S):
                continue
            wait = self.throttle.take(read_bytes) if self.throttle and read_bytes else 0.0
            if not wait:
                return not self.cancelled
            self.sleep(wait, stopped)
        return False

    def ended(self, stopped: threading.Event | None = None) -> bool:
        """Tells whether the copy was cancelled, or has stopped by itself."""
        return self.cancelled or (stopped is not None and stopped.is_set())

    def sleep(self, seconds: float, stopped: threading.Event | None = None) -> None:
        """Waits, at most until the copy has `ended`."""
        until = monotonic() + seconds
        while not self.ended(stopped) and (left := until - monotonic()) > 0:
            self._cancelled.wait(min(left, _RECHECK_S))
