"""Records commands at a terminal of 100 columns, with what is typed, as plain text that stays.

    recorder.command("failover web01", ("How shall", "1"))      $ vreplica-sync failover web01 ...
    recorder.text                                               the transcript, ids and times fixed

What differs from one recording to the next (times, durations, ids, sizes of what ran meanwhile,
and where lines are folded because of them) is left out of a comparison: `canonical`.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

COLUMNS, LINES = 100, 60
PATIENCE_S = 120.0

_ID = re.compile(r"\b(fo-|fb-|un-)?(\d{8}T\d{6}Z-[0-9a-f]{6})\b")
_MOMENT = re.compile(r"\b\d{4}-\d\d-\d\d(T|\s+)\d\d:\d\d:\d\d(?:\.\d+)?(Z|\+00:00)?")
_ADDRESS = re.compile(r"\b127\.0\.0\.1:\d+")
_PROCESS = re.compile(r"\S+ on \S+, process\s+\d+")
_DURATION = re.compile(r"\b\d+ (?:min|h) \d\d (?:s|min)|\b\d+(?:\.\d+)? (?:ms|s|min|h|days?)\b")
_COUNTDOWN = re.compile(r": \d+ s left$")
_SPINNER = re.compile(r"^\s*[\u2800-\u28ff] |[\u2501\u2578\u257a]{4,}")


class Recorder:
    """Types commands of `vreplica-sync` in a folder, and keeps what the terminal shows."""

    def __init__(self, folder: Path, config: str) -> None:
        self.folder, self.config = folder, config
        self._shown: list[str] = []

    def say(self, text: str) -> None:
        """A line for the reader, between two commands."""
        if self._shown and self._shown[-1].startswith("# "):
            self._shown[-1] += f"\n# {text}"
        else:
            self._shown.append(f"# {text}")

    def prepare(self, words: str) -> None:
        """A command that the reader does not see."""
        code, shown = self._run(words, ())
        assert code == 0, shown

    def command(self, words: str, *typed: tuple[str, str], code: int = 0) -> str:
        """`typed`: for each question its words, and the answer. Returns what was shown."""
        process, shown = self._run(words, typed)
        assert process == code, f"vreplica-sync {words}: exit code {process}\n{shown}"
        end = [f"[exit code {code}]"] if code else []
        self._shown.append("\n".join([f"$ vreplica-sync {words}", *_lines(shown), *end]))
        return shown

    @property
    def text(self) -> str:
        return steady("\n\n".join(self._shown).replace(str(self.folder), "/srv/dr") + "\n")

    def _run(self, words: str, typed: tuple[tuple[str, str], ...]) -> tuple[int, str]:
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        environment = {**os.environ, "TERM": "dumb", "NO_COLOR": "1"}
        environment["VREPLICA_CONFIG"] = self.config
        environment |= {"COLUMNS": str(COLUMNS), "LINES": str(LINES)}
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("vreplica-sync")), *words.split()],
            **dict.fromkeys(("stdin", "stdout", "stderr"), side),
            cwd=self.folder,
            env=environment,
        )
        os.close(side)
        try:
            shown = _converse(main, list(typed))
            return process.wait(PATIENCE_S), shown
        finally:
            os.close(main)
            process.kill()
            process.wait()


def _converse(main: int, typed: list[tuple[str, str]]) -> str:
    """Reads until the other side ends, and answers each question once its words are there."""
    seen, since, end = b"", 0, time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if not select.select([main], [], [], 1.0)[0]:
            continue
        try:
            data = os.read(main, 65536)
        except OSError:
            data = b""
        if not data:
            assert not typed, f"nobody asked {typed}: {seen.decode()}"
            return seen.decode()
        seen += data
        if typed and typed[0][0].encode() in seen[since:]:
            since = len(seen)
            os.write(main, f"{typed.pop(0)[1]}\n".encode())
    raise AssertionError(f"it does not end: {seen.decode()}")


def _lines(shown: str) -> list[str]:
    """The lines without progress displays; of a countdown the first one."""
    kept: list[str] = []
    for line in shown.replace("\r\n", "\n").split("\n"):
        line = line.rstrip().rpartition("\r")[2]
        if _SPINNER.search(line):
            continue
        counts = _COUNTDOWN.search(line)
        if counts and kept and kept[-1].startswith(line[: counts.start()]):
            continue
        kept.append(line)
    return "\n".join(kept).strip("\n").split("\n")


def steady(text: str) -> str:
    """The text with ids, times and durations of a night that never was."""
    ids: dict[str, int] = {}

    def id_(found: re.Match[str]) -> str:
        number = ids.setdefault(found[2], len(ids) + 1)
        return f"{found[1] or ''}20260301T02{number:02}00Z-{number:06x}"

    text = _MOMENT.sub(lambda m: f"2026-03-01{m[1]}02:00:00{m[2] or ''}", _ID.sub(id_, text))
    text = _PROCESS.sub("root on mover1, process 4242", _ADDRESS.sub("192.0.2.10:443", text))
    host = re.escape(socket.gethostname())
    return re.sub(rf"(?<=had it   ){host}|\b{host}(?= can\s+do nothing)", "mover1", text)


def canonical(text: str) -> list[str]:
    """The words, without what differs from one recording to the next."""
    text = re.sub(r"\[exit code (\d+)\]", r"exit-code-\1", text)
    text = re.sub(r"[\u2500-\u257f]+", " ", text)
    text = _DURATION.sub("T", " ".join(text.split()))
    # A table cuts what does not fit.
    return re.sub(r"\b\d+(\.\d+)? (B|KiB|MiB|GiB)(/s)?", "SIZE", text).split(" ")
