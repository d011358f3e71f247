"""Defines what a run reports while it works. Listeners must be quick: they run on its threads.

Step("snapshot", ...) -> Step("copy", ...) -> Progress ... Progress -> Step("commit", ...)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """The start of a step. `name` is stable for programs, `text` is for people."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The bytes of one disk that are done, out of those that this run looks at."""

    activity: str
    """`copy`, `verify` or `digest` (a replica's disk is read for its digest map)."""
    disk: str
    done_bytes: int
    total_bytes: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class Warn:
    """A warning for the operator; the run continues."""

    text: str


ReplicationEvent = Step | Progress | Warn
Listener = Callable[[ReplicationEvent], None]


def ignore(event: ReplicationEvent) -> None:
    """The listener of a caller that wants no events."""
