"""The program native/tests/nfc.c, which opens disks at hosts with the tickets of a test."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from vreplica.nfc.authd import NfcTicket

NATIVE = Path(__file__).parents[2] / "native"
FLAGS = (
    "-std=c11 -g -O1 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Wall -Wextra -Werror "
    f"-I{NATIVE}/include -I{NATIVE}/src"
).split()
Answer = Callable[[bool], NfcTicket]
"""Gives a ticket: read_only -> ticket."""


def build(folder: Path, sanitizer: str) -> Path:
    program = folder / f"nfc-{sanitizer.split(',')[0]}"
    sources = [
        *(NATIVE / "src" / "net").glob("*.c"),
        *(NATIVE / "src" / "nfc").glob("*.c"),
        *(NATIVE / "src" / "os" / name for name in ("log.c", "deflate.c")),
    ]
    subprocess.run(
        [
            "gcc",
            *FLAGS,
            f"-fsanitize={sanitizer}",
            "-o",
            program,
            NATIVE / "tests" / "nfc.c",
            *sources,
            "-lpthread",
            "-ldl",
        ],
        check=True,
    )
    return program


def _word(value: str) -> str:
    return value or "-"


class NfcProgram:
    """One process: `say` gives it a line, and answers its questions for tickets."""

    def __init__(self, program: Path, folder: Path, tickets: Answer) -> None:
        self._tickets = tickets
        self._folder = folder
        self._log = folder / f"log-{id(self)}"
        self.capacity = 0
        """What the tickets say of the disk."""
        self.asked = 0
        """Tickets that were asked for."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def say(self, line: str) -> str:
        """Returns the answer, such as `ok 4096 1/255/63` or `error 13`."""
        out, into = self._pipes()
        into.write(line + "\n")
        into.flush()
        while (answer := out.readline().rstrip("\n")).startswith("TICKET "):
            self.asked += 1
            into.write(self._ticket(answer == "TICKET ro") + "\n")
            into.flush()
        assert answer, f"the program ended: {self.log}"
        return answer

    def open(
        self, path: str, *, read_only: bool = True, mode: str = "nbdssl", flags: int = 0
    ) -> str:
        return self.say(f"open {'ro' if read_only else 'rw'} {mode} {flags} {path}")

    def copy(
        self, how: str, direction: str, file: Path, *, chunk: int = 2048, depth: int = 8
    ) -> str:
        return self.say(f"copy {how} {direction} {file} {chunk} {depth}")

    def _ticket(self, read_only: bool) -> str:
        ticket = self._tickets(read_only)
        words = (
            *(ticket.host, str(ticket.port), ticket.service, ticket.session_id),
            *(_word(ticket.thumbprint_sha1), str(self.capacity)),
        )
        return " ".join((*words, self._pem(ticket)))

    def _pem(self, ticket: NfcTicket) -> str:
        text = getattr(ticket, "certificate_pem", "")
        if not text:
            return "-"
        file = self._folder / "ticket.pem"
        file.write_text(text, "ascii")
        return str(file)

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdout
        assert self._process.stdin
        return self._process.stdout, self._process.stdin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        out, into = self._pipes()
        into.close()
        try:
            code = self._process.wait(30)
        finally:
            self._process.kill()
            out.close()
        if kind is None:
            assert code == 0, self.log
            assert "Sanitizer" not in self.log, self.log
