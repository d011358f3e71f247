"""Ctrl-C and SIGTERM: the first one cancels the run in order, the second one ends at once.

run ── Ctrl-C ──► Control.cancel() ──► the copy ends at its next batch, the replica goes back
 └──── Ctrl-C again ──► the process ends; the next run puts things in order
"""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any

from vreplica.cli import exits
from vreplica.cli.output import Output
from vreplica.delta import Control

_CODES = {signal.SIGINT: exits.INTERRUPTED, signal.SIGTERM: exits.TERMINATED}


class Cancellation:
    """While entered, the two signals go to `control`. `code` is set once one has come."""

    def __init__(self, out: Output) -> None:
        self.control = Control()
        self.code: int | None = None
        self._out = out
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Cancellation:
        for number in _CODES:
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        code = _CODES[signal.Signals(number)]
        if self.code is not None:
            self._out.err.show_cursor()
            os._exit(code)
        self.code = code
        self.control.cancel()
        self._out.note(CANCELLING)


CANCELLING = "cancelling: the replica goes back to its last recovery point (again: end at once)"
