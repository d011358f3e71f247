"""Fault rules of NFC servers: which request fails, how, and how often."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from vreplica.lab.chance import Chance

FaultKind = Literal[
    "slow",  # the reply comes after delay_s
    "hang",  # there is no reply
    "drop",  # the connection is reset instead of a reply
    "truncate",  # half of the reply, then the connection ends
    "garbage",  # random bytes instead of a reply
    "corrupt",  # one bit of the data is flipped: only a digest finds it
    "error",  # an error reply with `code` and `text`
    "status",  # an ordinary reply whose first u64, the status, is `code`
]
Operation = Literal["login", "open", "read", "write", "allocated", "ddb", "close", "any"]


@dataclass(frozen=True, slots=True)
class NfcFaultRule:
    """Strikes `count` times (None: always) after `skip` requests, each time with `probability`.

    With `start` and `end`, only requests that touch these bytes match. It is stored in state.db by
    these names.
    """

    kind: FaultKind
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
    def make(cls, **values: Any) -> NfcFaultRule:
        """Raises ValueError for a kind or an operation that does not exist."""
        made = cls(**values)
        for value, known in (
            (made.kind, get_args(FaultKind)),
            (made.operation, get_args(Operation)),
        ):
            if value not in known:
                raise ValueError(f"no such NFC fault: {value}; known: {', '.join(known)}")
        return made


class NfcFaultRules:
    """The rules of one host, with their counts. Thread-safe. A seed gives the same strikes again.

    `on_change` is called whenever `saved_state` has changed.
    """

    def __init__(self, seed: int = 0, on_change: Callable[[], None] = lambda: None) -> None:
        self.struck = 0
        self._on_change = on_change
        self._chance = Chance(seed)
        self._noise = random.Random(seed)
        self._rules: list[tuple[NfcFaultRule, list[int]]] = []
        self._lock = threading.Lock()

    def add(self, fault: NfcFaultRule) -> None:
        with self._lock:
            self._rules.append((fault, [0, 0]))  # requests seen, strikes
        self._on_change()

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()
        self._on_change()

    def seed(self, seed: int) -> None:
        with self._lock:
            self._chance = Chance(seed)
        self._on_change()

    def saved_state(self) -> dict[str, Any]:
        with self._lock:
            rules = [[asdict(fault), list(counts)] for fault, counts in self._rules]
            return {"chance": self._chance.saved_state(), "rules": rules}

    def restore(self, kept: dict[str, Any]) -> None:
        if kept:
            self._chance = Chance(*kept["chance"])
            self._rules = [(NfcFaultRule(**fault), counts) for fault, counts in kept["rules"]]

    def strike(self, operation: Operation, offset: int = 0, length: int = 0) -> NfcFaultRule | None:
        """The first rule that strikes this request, or None."""
        if not self._rules:
            return None
        met, found = self._choose(operation, offset, length)
        if met:
            self._on_change()
        return found

    def _choose(
        self, operation: Operation, offset: int, length: int
    ) -> tuple[bool, NfcFaultRule | None]:
        """(whether a count changed, the rule that strikes or None)."""
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
