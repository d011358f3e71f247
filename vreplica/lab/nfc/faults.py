"""Faults on demand: what goes wrong with which request, how often."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Literal

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


class Faults:
    """The rules of one host. Thread-safe; the same seed gives the same strikes."""

    def __init__(self, seed: int = 0) -> None:
        self.struck = 0
        self._random = random.Random(seed)
        self._rules: list[tuple[Fault, list[int]]] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._rules.append((fault, [0, 0]))  # requests seen, strikes

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def strike(self, operation: Operation, offset: int = 0, length: int = 0) -> Fault | None:
        """The first rule that hits this request, if one does."""
        with self._lock:
            for fault, counts in self._rules:
                if fault.operation not in ("any", operation):
                    continue
                beyond = fault.end is not None and offset >= fault.end
                if length and (beyond or offset + length <= fault.start):
                    continue
                counts[0] += 1
                spent = fault.count is not None and counts[1] >= fault.count
                if spent or counts[0] <= fault.skip or self._random.random() >= fault.probability:
                    continue
                counts[1] += 1
                self.struck += 1
                return fault
        return None

    def noise(self, size: int) -> bytes:
        with self._lock:
            return self._random.randbytes(size)
