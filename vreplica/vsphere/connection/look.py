"""Keeps what is read in one look at a site, so that several jobs share it.

    with session.one_look():
        session.datastores()     read from the server
        session.hosts()          from the same read

Outside of a look every read is a new one: what acts on it must not act on what has changed since.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any, Final, TypeVar

T = TypeVar("T")

LOOK_S: Final = 60.0
"""The longest time that a value of a look is used: a check of 500 jobs takes minutes."""


class Look:
    """The values of one look, by key, each with the time of its read. Threads may share it."""

    def __init__(self) -> None:
        self._values: dict[Hashable, tuple[float, Any]] = {}
        self._lock = RLock()

    def once(self, key: Hashable, read: Callable[[], T]) -> T:
        with self._lock:
            at, value = self._values.get(key, (float("-inf"), None))
            if time.monotonic() - at > LOOK_S:
                value = read()
                self._values[key] = time.monotonic(), value
            found: T = value
            return found


def once(look: Look | None, key: Hashable, read: Callable[[], T]) -> T:
    """Returns the value of this look; without a look it reads."""
    return read() if look is None else look.once(key, read)
