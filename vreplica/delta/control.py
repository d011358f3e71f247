"""The handle by which others steer a copy that is running: cancel, pause, resume.

A copy asks `admit` before each batch it reads and each batch it writes, from its own threads.
"""

from __future__ import annotations

import threading


class Control:
    """Thread-safe. One may steer several copies at once."""

    def __init__(self) -> None:
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

    def admit(self) -> bool:
        """Wait while paused; False when the copy is to end."""
        self._running.wait()
        return not self.cancelled
