"""What a run tells while it works. Handlers must be quick; they run on the run's threads.

Step("snapshot", ...) -> Step("copy", ...) -> Progress ... Progress -> Step("commit", ...)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A step begins. `name` is stable for programs, `text` is for people."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of one disk that are dealt with so far, out of those in this run's extents."""

    activity: str
    """`copy` or `verify`."""
    disk: str
    done_bytes: int
    total_bytes: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class Warn:
    """Something that an operator should know although the run goes on."""

    text: str


Event = Step | Progress | Warn
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener for callers that do not listen."""
