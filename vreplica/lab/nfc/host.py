"""The parts of a host that all its NFC sessions share: disks, memory, limits, fault rules.

The NFC service of a host has 48 MiB for all clients (96 MiB from ESXi 8), and about 50 connections
(VDDK 8.0 Programming Guide). A request takes its length and a header, from its arrival until its
reply is sent.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from vreplica.lab.nfc.faults import NfcFaultRules
from vreplica.lab.nfc.profile import Announced, HostProfile
from vreplica.lab.nfc.store import OUT_OF_MEMORY, DiskStore, Refused

REQUEST_HEADER: Final = 24
"""Hosts log the size of a failed allocation as the length of the request plus 24 bytes."""


class HostMemory:
    """Counts the NFC memory of a host. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.peak_bytes = 0
        self._lock = threading.Lock()

    def allocate(self, length: int) -> None:
        """Takes memory for a request. Raises Refused where none is left, as a host does."""
        size = length + REQUEST_HEADER
        with self._lock:
            if self.used_bytes + size > self.limit_bytes:
                raise Refused(OUT_OF_MEMORY, f"Failed to allocate the requested {size} bytes")
            self.used_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.used_bytes)

    def free(self, length: int) -> None:
        with self._lock:
            self.used_bytes -= length + REQUEST_HEADER


@dataclass(frozen=True, slots=True)
class NfcHost:
    """Everything that a session needs of its host."""

    store: DiskStore
    faults: NfcFaultRules
    memory: HostMemory
    profile: HostProfile
    announced: deque[Announced] = field(default_factory=deque)
