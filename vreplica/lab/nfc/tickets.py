"""Tickets: the SOAP service issues them, authd redeems each one once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

TICKET_LIFETIME_S: Final = 120.0
"""How long a ticket is valid. The time of real hosts is not documented."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights of a ticket: the disks of one VM for which `allows(path)` is true."""

    vm: str
    writable: bool
    allows: Callable[[str], bool]
    expires: float


class TicketBook:
    """The tickets of one host. Thread-safe."""

    def __init__(self, lifetime_s: float = TICKET_LIFETIME_S) -> None:
        self.lifetime_s = lifetime_s
        self._grants: dict[str, Grant] = {}
        self._lock = threading.Lock()

    def issue(self, *, vm: str, writable: bool, allows: Callable[[str], bool]) -> str:
        """Issues a ticket. Returns its session id."""
        now = monotonic()
        session_id = str(uuid.uuid4())
        with self._lock:
            self._grants = {i: g for i, g in self._grants.items() if g.expires > now}
            self._grants[session_id] = Grant(vm, writable, allows, now + self.lifetime_s)
        return session_id

    def redeem(self, session_id: str) -> Grant | None:
        """The rights of a ticket that is valid and unused. None: any other one."""
        with self._lock:
            grant = self._grants.pop(session_id, None)
        return grant if grant and grant.expires > monotonic() else None
