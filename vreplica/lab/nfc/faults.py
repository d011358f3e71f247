"""Faults on demand: what goes wrong with which request, how often."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from vreplica.lab.chance import Chance

Kind = Literal[
    "slow",  # the reply comes after delay_s
    "hang",  # no reply ever
    "drop",  # the connection is reset instead of a reply
    "truncate",  # half of the reply, then the connection ends
    "garbage",  # random bytes instead of a reply
    "corrupt",  # one bit of the data is another: only a digest finds it
    "error",  # an error reply with `code` and `text`
]
Operation = Literal["login", "open", "read", "write", "allocated", "ddb", "close", "any"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Strikes `count` times (None: always) after `skip` requests, each with `probability`.

    Only requests that touch bytes from `start` to `end` count, where these are given.
    """

    kind: Kind
    operation: Operation = "any"
    count: int | None = 1
    skip: int = 0
    probability: float = 1.0
    delay_s: float = 0.0
    code: int = 7
    text: str = ""
    start: int = 0
    end: int | None = None

    @classmethod
    def make(cls, **values: Any) -> Fault:
        """Raises ValueError for a kind or an operation that does not exist."""
        made = cls(**values)
        for value, known in ((made.kind, get_args(Kind)), (made.operation, get_args(Operation))):
            if value not in known:
                raise ValueError(f"no such fault of NFC: {value}; known: {', '.join(known)}")
        return made


class Faults:
    """The rules of one host. Thread-safe; the same seed gives the same strikes.

    `changed` is called whenever `kept` gives something else.
    """

    def __init__(self, seed: int = 0, changed: Callable[[], None] = lambda: None) -> None:
        self.struck = 0
        self._changed = changed
        self._chance = Chance(seed)
        self._noise = random.Random(seed)
        self._rules: list[tuple[Fault, list[int]]] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._rules.append((fault, [0, 0]))  # requests seen, strikes
        self._changed()

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()
        self._changed()

    def seed(self, seed: int) -> None:
        with self._lock:
            self._chance = Chance(seed)
        self._changed()

    def kept(self) -> dict[str, Any]:
        with self._lock:
            rules = [[asdict(fault), list(counts)] for fault, counts in self._rules]
            return {"chance": self._chance.saved_state(), "rules": rules}

    def restore(self, kept: dict[str, Any]) -> None:
        if kept:
            self._chance = Chance(*kept["chance"])
            self._rules = [(Fault(**fault), counts) for fault, counts in kept["rules"]]

    def strike(self, operation: Operation, offset: int = 0, length: int = 0) -> Fault | None:
        """The first rule that hits this request, if one does."""
        if not self._rules:
            return None
        met, found = self._choose(operation, offset, length)
        if met:
            self._changed()
        return found

    def _choose(self, operation: Operation, offset: int, length: int) -> tuple[bool, Fault | None]:
        """(whether a rule counted the request, the one that strikes)."""
        met = False
        with self._lock:
            for fault, counts in self._rules:
                if fault.operation not in ("any", operation):
                    continue
                beyond = fault.end is not None and offset >= fault.end
                if length and (beyond or offset + length <= fault.start):
                    continue
                if fault.count is not None and counts[1] >= fault.count:
                    continue
                counts[0] += 1
                met = True
                if counts[0] <= fault.skip or self._chance.draw() >= fault.probability:
                    continue
                counts[1] += 1
                self.struck += 1
                return True, fault
        return met, None

    def noise(self, size: int) -> bytes:
        with self._lock:
            return self._noise.randbytes(size)
