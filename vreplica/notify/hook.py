"""Receiver `hook`: runs a program for each event, with the event as JSON on standard input."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from vreplica.notify.events import ServiceEvent
from vreplica.notify.receiver import (
    ANSWER_BYTES,
    NotificationFailed,
    ReceiverAway,
    answer_text,
    as_json,
)

_TEMPORARY: Final = 75
"""EX_TEMPFAIL of sysexits.h: the hook asks to be run again."""


@dataclass(frozen=True, slots=True)
class HookReceiver:
    """`without`: environment variables that the program does not inherit: they hold passwords."""

    name: str
    command: tuple[str, ...]
    folder: Path
    without: frozenset[str]
    timeout_s: float
    batch: ClassVar[int] = 1

    def send(self, events: Sequence[ServiceEvent]) -> str:
        answer = ""
        for event in events:
            answer = self._run(as_json(event.to_dict()))
        return answer

    def _run(self, given: bytes) -> str:
        environment = {k: v for k, v in os.environ.items() if k not in self.without}
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                reason = f"cannot run {self.command[0]}: {error.strerror}"
                raise NotificationFailed(self.name, reason) from None
            with process:
                try:
                    process.communicate(given, timeout=self.timeout_s)
                except subprocess.TimeoutExpired:
                    # The group is the program's own, with everything that it has started.
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    reason = f"its program did not end within {self.timeout_s:.0f} s"
                    raise NotificationFailed(self.name, reason) from None
            output.seek(max(0, output.seek(0, os.SEEK_END) - ANSWER_BYTES))
            text = output.read().decode("utf-8", "replace")
        answer = answer_text(f"exit code {process.returncode}", text)
        if process.returncode:
            kind = ReceiverAway if process.returncode == _TEMPORARY else NotificationFailed
            raise kind(self.name, answer)
        return answer
