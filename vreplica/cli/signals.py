"""Turns Ctrl-C, SIGTERM and SIGHUP into a cancellation; a second one ends the process at once.

run ── Ctrl-C ──► Control.cancel() ──► the copy ends at its next batch, the replica goes back
 └──── Ctrl-C again ──► the process ends; the next run repairs what it left
"""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any

from vreplica.cli import exit_codes
from vreplica.cli.render.output import Output

_CODES = {
    signal.SIGINT: exit_codes.INTERRUPTED,
    signal.SIGTERM: exit_codes.TERMINATED,
    signal.SIGHUP: exit_codes.HUNG_UP,
}


class Cancellation:
    """Sends these signals to `control` while it is entered. `code` is set once one has come.

    `then`: what the first one leads to, for the operator. `unwind`: the second one raises
    KeyboardInterrupt, for a caller that has something to clean up, and only the third one ends the
    process.
    """

    def __init__(self, out: Output, then: str, *, unwind: bool = False) -> None:
        from vreplica.delta.control import Control

        self.control = Control()
        self.code: int | None = None
        self._out = out
        self._then = then
        self._unwind = unwind
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Cancellation:
        for number in _CODES:
            # nohup and shells in the background let a process ignore some signals; that is kept.
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
