"""Ctrl-C, SIGTERM and SIGHUP: the first one cancels in order, the second one ends at once.

run ── Ctrl-C ──► Control.cancel() ──► the copy ends at its next batch, the replica goes back
 └──── Ctrl-C again ──► the process ends; the next run puts things in order
"""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any

from vreplica.cli import exits
from vreplica.cli.render.output import Output

_CODES = {
    signal.SIGINT: exits.INTERRUPTED,
    signal.SIGTERM: exits.TERMINATED,
    signal.SIGHUP: exits.HUNG_UP,
}


class Cancellation:
    """While entered, these signals go to `control`. `code` is set once one has come.

    `then` says what the first one leads to. With `unwind` the second one is a KeyboardInterrupt,
    for a caller that has something to clean up, and only the third one ends the process.
    """

    def __init__(self, out: Output, then: str, *, unwind: bool = False) -> None:
        # With it comes numpy, which `--help` can do without.
        from vreplica.delta.control import Control

        self.control = Control()
        self.code: int | None = None
        self._out = out
        self._then = then
        self._unwind = unwind
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Cancellation:
        for number in _CODES:
            # nohup and shells in the background let a process ignore some; so be it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.code is None:
            self.code = _CODES[signal.Signals(number)]
            self.control.cancel()
            self._out.note(f"cancelling: {self._then} (again: end at once)")
        elif self._unwind:
            self._unwind = False
            raise KeyboardInterrupt
        else:
            self._out.err.show_cursor()
            os._exit(self.code)
