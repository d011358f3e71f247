"""Sends results to standard output and everything else to standard error.

standard output    tables for people, or with --json one JSON document a line
standard error     progress, warnings, errors; -q leaves errors only, -v adds steps;
                   what parts of the package log (the disk library's lines) in the same form

`rich` is imported when the first text is printed: a program that reads JSON does not pay for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vreplica.cli.render.plain import print_json
from vreplica.cli.results.document import document
from vreplica.errors import VReplicaError

if TYPE_CHECKING:
    from click import ClickException
    from rich.console import Console, RenderableType


class Verbosity(IntEnum):
    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


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
        self._lock = threading.RLock()
        self._shown = False

    @cached_property
    def err(self) -> Console:
        from vreplica.cli.render.console import make_console

        return make_console(stderr=True)

    @cached_property
    def _out(self) -> Console:
        from vreplica.cli.render.console import make_console

        return make_console(stderr=False)

    # -- results ----------------------------------------------------------------------------

    def show(self, *parts: RenderableType) -> None:
        """A result for people; an empty line sets it off from the one before."""
        from vreplica.cli.render.console import print_part

        with _naming("standard output"):
            if self._shown:
                print_part(self._out, "")
            self._shown = True
            for part in parts:
                print_part(self._out, part)

    def answer(
        self,
        kind: str,
        value: Mapping[str, Any],
        text: Callable[[], Iterable[RenderableType]] | str,
    ) -> None:
        """A result in the form that was asked for: `value` for programs, `text` for people.

        `kind`: its name in `results.registry.KINDS`.
        """
        if self.as_json:
            self.json(kind, value)
        elif isinstance(text, str):
            self.show(text)
        else:
            self.show(*text())

    def json(self, kind: str, value: Mapping[str, Any]) -> None:
        """A result for programs: one document in one line."""
        with _naming("standard output"):
            print_json(document(kind, value))

    # -- everything else --------------------------------------------------------------------

    def step(self, text: str) -> None:
        if self.verbosity >= Verbosity.VERBOSE:
            self.log_line(text)

    def note(self, text: str) -> None:
        if self.verbosity >= Verbosity.NORMAL:
            self._line("", "", text)

    def warning(self, text: str) -> None:
        if self.verbosity >= Verbosity.NORMAL:
            self._line("warning: ", "yellow", text)

    def error(self, error: VReplicaError, job: str | None = None) -> None:
        """An error with all that an operator has to know; with --json on standard output, too."""
        text = str(error)
        named = job is None or error.where.vm == job or f"job {job}" in text
        self.failure(text if named else f"{job}: {text}", *error.explain())
        if self.as_json:
            self.json("error", {**({"job": job} if job else {}), "error": error.to_dict()})

    def usage_error(self, error: ClickException) -> None:
        """A command line that cannot be used, for programs."""
        self.json("error", {"error": foreign_error(error, error.format_message(), error.exit_code)})

    def failure(self, text: str, *details: str) -> None:
        self._line("error: ", "bold red", text, *details)

    def log_line(self, text: str) -> None:
        from vreplica.cli.render.console import print_dim

        with self._lock, suppress(OSError):
            print_dim(self.err, text)

    def _line(self, mark: str, style: str, text: str, *details: str) -> None:
        from vreplica.cli.render.console import print_line

        # A terminal that is gone must not keep a run from ending in order.
        with self._lock, suppress(OSError):
            print_line(self.err, mark, style, text, *details)

    @contextmanager
    def showing_logs(self) -> Iterator[None]:
        """Shows warnings of the package's loggers as lines; with -v its notes, with --debug all."""
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


def foreign_error(
    error: Exception, message: str, exit_code: int, remedy: str | None = None
) -> dict[str, object]:
    """An error of another package or of the operating system, as `--json` shows errors."""
    return {
        "type": type(error).__name__,
        "message": message,
        "remedy": remedy,
        "exit_code": exit_code,
        "retryable": False,
    }


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Names the stream in an OSError that comes without the name of a file."""
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
        show = self._out.warning if record.levelno >= logging.WARNING else self._out.log_line
        show(record.getMessage())


def each_error(error: BaseException) -> Iterator[VReplicaError] | None:
    """The errors in an exception, group or not; None where one of them is not a VReplicaError."""
    flat = _leaves(error)
    known = [leaf for leaf in flat if isinstance(leaf, VReplicaError)]
    return iter(known) if len(known) == len(flat) else None


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]
