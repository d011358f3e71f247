"""Finds the line of each key in a TOML document.

The standard library's parser gives values without lines, and an error without a line makes the user
search. This scanner reads the text a second time and only records lines:

    [jobs.web01]                       ("jobs",) ("jobs", "web01")              line 1
    destination = { site = "dr" }      ("jobs", "web01", "destination")         line 2
                                       ("jobs", "web01", "destination", "site") line 2

The standard parser must have accepted the text before; nothing is checked here. Elements of arrays
have their index as key, as in pydantic's error paths.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping

KeyPath = tuple[str | int, ...]
Lines = Mapping[KeyPath, int]

_FILL = re.compile(r"(?:[\s,]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)


def locate(text: str) -> dict[KeyPath, int]:
    """The line (from 1) in which each key path of a valid TOML document first appears."""
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return scanner.lines


def line_of(lines: Lines, path: KeyPath) -> int:
    """The line of a path; for a missing key, of the innermost table that is there."""
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 1)


class _Scanner:
    """Reads through `text`; `at` is the position of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self.arrays: dict[KeyPath, int] = {}
        """The index of the last table of each array of tables."""
        self.counted = (1, 0)
        """A line and its position, up to which line ends have been counted."""

    def document(self) -> None:
        table: KeyPath = ()
        self.skip(_FILL)
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self.header("[[")
            elif self.text[self.at] == "[":
                table = self.header("[")
            else:
                self.pair(table)
            self.skip(_FILL)

    def header(self, bracket: str) -> KeyPath:
        self.at += len(bracket)
        line = self.line()
        path: KeyPath = ()
        parts = list(self.key())
        for number, part in enumerate(parts, 1):
            path = (*path, part)
            self.lines.setdefault(path, line)
            if bracket == "[[" and number == len(parts):
                self.arrays[path] = self.arrays.get(path, -1) + 1
            if path in self.arrays:
                path = (*path, self.arrays[path])
                self.lines.setdefault(path, line)
        self.at += len(bracket)
        return path

    def pair(self, path: KeyPath) -> None:
        line = self.line()
        for part in self.key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self.at += 1  # the equals sign
        self.skip(_SPACE)
        self.value(path)

    def key(self) -> Iterator[str]:
        """The parts of a dotted key. `at` is behind the key at the end."""
        while True:
            self.skip(_SPACE)
            if self.text[self.at] in "\"'":
                yield tomllib.loads(f"key = {self.skip(_STRING)}")["key"]
            else:
                yield self.skip(_BARE)
            self.skip(_SPACE)
            if self.text[self.at] != ".":
                return
            self.at += 1

    def value(self, path: KeyPath) -> None:
        match self.text[self.at]:
            case "{":
                for _ in self.items("}"):
                    self.pair(path)
            case "[":
                for index in self.items("]"):
                    self.lines[(*path, index)] = self.line()
                    self.value((*path, index))
            case '"' | "'":
                self.skip(_STRING)
            case _:
                self.skip(_SCALAR)

    def items(self, end: str) -> Iterator[int]:
        """Yields at each item of an array or inline table, for the caller to read it."""
        self.at += 1
        index = 0
        self.skip(_FILL)
        while self.text[self.at] != end:
            yield index
            index += 1
            self.skip(_FILL)
        self.at += 1

    def line(self) -> int:
        line, since = self.counted
        line += self.text.count("\n", since, self.at)
        self.counted = (line, self.at)
        return line

    def skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        assert match is not None, "the document is not valid TOML"
        self.at = match.end()
        return match[0]
