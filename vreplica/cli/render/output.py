"""Who gets to read what: results on standard output, everything else on standard error.

standard output    tables for people, or with --json one JSON document a line
standard error     progress, warnings, errors; -q leaves errors only, -v adds steps;
                   what parts of the package log (the disk library's lines) in the same form
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from vreplica.errors import VReplicaError

WIDE = 160
"""Columns of tables that nobody looks at through a terminal: wide enough not to be cut."""


class Verbosity(IntEnum):
    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave the exit code to the command: Console itself would make it 1."""
        raise BrokenPipeError


class Output:
    """The two streams of one command. Lines on standard error may come from any thread."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        verbosity: Verbosity = Verbosity.NORMAL,
        debug: bool = False,
    ) -> None:
        self.as_json = as_json
        self.verbosity = verbosity
        self.debug = debug
        self.err = _console(stderr=True)
        self._out = _console(stderr=False)
        self._lock = threading.RLock()
        self._shown = False

    def show(self, *parts: RenderableType) -> None:
        """A result for people; an empty line sets it off from the one before."""
        with _naming("standard output"):
            if self._shown:
                _print(self._out, "")
            self._shown = True
            for part in parts:
                _print(self._out, part)

    def answer(self, value: dict[str, Any], *parts: RenderableType) -> None:
        """A result in the form that was asked for: `value` for programs, `parts` for people."""
        if self.as_json:
            self.json(value)
        else:
            self.show(*parts)

    def json(self, value: dict[str, Any]) -> None:
        """A result for programs: one document in one line."""
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        with _naming("standard output"):
            print(json.dumps(value, ensure_ascii=not unicode), flush=True)

    def step(self, text: str) -> None:
        if self.verbosity >= Verbosity.VERBOSE:
            self._line(Text(text, "dim"))

    def note(self, text: str) -> None:
        if self.verbosity >= Verbosity.NORMAL:
            self._line(Text(text))

    def warning(self, text: str) -> None:
        if self.verbosity >= Verbosity.NORMAL:
            self._line(Text.assemble(("warning: ", "yellow"), text))

    def error(self, error: VReplicaError, job: str | None = None) -> None:
        """An error with what an operator has to know; under --json on standard output, too."""
        text = str(error)
        named = job is None or error.where.vm == job or f"job {job}" in text
        self.failure(text if named else f"{job}: {text}", *error.explain())
        if self.as_json:
            self.json({**({"job": job} if job else {}), "error": error.to_dict()})

    def failure(self, text: str, *details: str) -> None:
        lines = [Text.assemble(("error: ", "bold red"), text)]
        lines += [Text(f"  {line}", "dim" if line.startswith(" ") else "") for line in details]
        self._line(Text("\n").join(lines))

    @contextmanager
    def hearing_logs(self) -> Iterator[None]:
        """Warnings of the package's loggers are lines here; with -v its notes, with --debug all."""
        logger, handler = logging.getLogger("vreplica"), _LogLines(self)
        level = logging.INFO if self.verbosity >= Verbosity.VERBOSE else logging.WARNING
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if self.debug else level)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)

    def log_line(self, text: str) -> None:
        self._line(Text(text, "dim"))

    def _line(self, text: Text) -> None:
        # A terminal that is gone must not keep a run from ending in order.
        with self._lock, suppress(OSError):
            _print(self.err, text)


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """What the system refuses to a stream comes without the name of a file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or place
        raise


class _LogLines(logging.Handler):
    def __init__(self, out: Output) -> None:
        super().__init__()
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        from vreplica.redact import hide

        show = self._out.warning if record.levelno >= logging.WARNING else self._out.log_line
        show(hide(record.getMessage()))


def each_error(error: BaseException) -> Iterator[VReplicaError] | None:
    """What an exception says, group or not; None where not all of it was raised on purpose."""
    flat = _leaves(error)
    known = [leaf for leaf in flat if isinstance(leaf, VReplicaError)]
    return iter(known) if len(known) == len(flat) else None


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


def _print(console: Console, part: RenderableType) -> None:
    """Lines are folded between words for a reader, and left whole for a program."""
    if console.is_terminal:
        console.print(part, markup=False, highlight=False)
        return
    with console.capture() as captured:
        whole = isinstance(part, str | Text)
        console.print(part, markup=False, highlight=False, soft_wrap=whole)
    # Cells of a table are filled up with blanks, which nobody needs in a file.
    lines = captured.get().removesuffix("\n").split("\n")
    console.file.write("".join(f"{line.rstrip()}\n" for line in lines))
    console.file.flush()


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # A thumbprint with :AB: in it is no emoji.
    return _Console(stderr=stderr, width=None if stream.isatty() else WIDE, emoji=False)
