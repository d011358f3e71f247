"""The program native/tests/vim.c, told what to do line by line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

TIMEOUT_S = 60


class Vim:
    """The program, told what to do line by line."""

    def __init__(self, program: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, **environment},
        )
        self.log: list[str] = []

    def set(self, **values: object) -> None:
        for name, value in values.items():
            self._say(f"{name}={value}")

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")

    def do(self, line: str) -> list[str]:
        """The words of the answer; the first one is the code."""
        assert self.process.stdout is not None
        self._say(line)
        for answer in self.process.stdout:
            if not answer.startswith("log "):
                return answer.split()
            self.log.append(answer[4:].rstrip("\n"))
        raise AssertionError(f"{line}: the program has ended")

    def code(self, line: str) -> int:
        return int(self.do(line)[0])

    def end(self) -> None:
        self.process.communicate(timeout=TIMEOUT_S)
        assert self.process.returncode == 0
