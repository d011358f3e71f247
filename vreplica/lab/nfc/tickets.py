"""Tickets: issued by the SOAP side, redeemed once by authd."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

LIFE_S: Final = 120.0
"""How long a ticket waits to be used. What a host really allows is not documented."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a ticket permits: disks of one VM for which `allows(path)` is true."""

    vm: str
    writable: bool
    allows: Callable[[str], bool]
    expires: float


class TicketBook:
    """Thread-safe."""

    def __init__(self, life_s: float = LIFE_S) -> None:
        self.life_s = life_s
        self.issued = 0
        self._grants: dict[str, Grant] = {}
        self._lock = threading.Lock()

    def issue(self, *, vm: str, writable: bool, allows: Callable[[str], bool]) -> str:
        """A new session id."""
        now = monotonic()
        session_id = str(uuid.uuid4())
        with self._lock:
            self._grants = {i: g for i, g in self._grants.items() if g.expires > now}
            self._grants[session_id] = Grant(vm, writable, allows, now + self.life_s)
            self.issued += 1
        return session_id

    def redeem(self, session_id: str) -> Grant | None:
        """The grant, once and in time; None otherwise."""
        with self._lock:
            grant = self._grants.pop(session_id, None)
        return grant if grant and grant.expires > monotonic() else None
