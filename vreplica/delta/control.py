"""The handle by which others steer a copy that is running: cancel, pause, resume, slow down.

A copy asks `admit` before each batch it reads and each batch it writes, from its own threads.
"""

from __future__ import annotations

import threading
from time import monotonic

from vreplica.delta.throttle import Throttle

_RECHECK_S = 0.2
"""How long a worker that is paused, or waits, takes to notice that another one has failed."""


class Control:
    """Thread-safe. One may steer several copies at once, which then share the throttle."""

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
        """The copy ends with CopyCancelled at its next batch, also when paused."""
        self._cancelled.set()
        self._running.set()

    def pause(self) -> None:
        """The copy keeps its handles open and issues nothing more until `resume`."""
        if not self.cancelled:
            self._running.clear()

    def resume(self) -> None:
        self._running.set()

    def admit(self, read_bytes: int = 0, stopped: threading.Event | None = None) -> bool:
        """Wait while paused and for the throttle; False when the copy is to end.

        What a copy reads is throttled; it writes no more than it has read. `stopped` is the
        copy's own end: another of its stages has failed.
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
        """Cancelled, or come to its own end."""
        return self.cancelled or (stopped is not None and stopped.is_set())

    def sleep(self, seconds: float, stopped: threading.Event | None = None) -> None:
        """Wait, but no longer than until the copy has `ended`."""
        until = monotonic() + seconds
        while not self.ended(stopped) and (left := until - monotonic()) > 0:
            self._cancelled.wait(min(left, _RECHECK_S))
