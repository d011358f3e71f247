"""What all sessions of one host share: NFC memory and connections.

A host's NFC service has 48 MiB for all clients (96 MiB from ESXi 8) and bears about 50
connections (VDDK 8.0 Programming Guide). A request takes its length and a header from when it
is read off the wire until its reply is sent.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from vreplica.lab.nfc.store import OUT_OF_MEMORY, Refused
from vreplica.nfc.wire import BUFFER_MAX
from vreplica.units import MIB

REQUEST_HEADER: Final = 24
"""Hosts log the size of a failed allocation as the request's length and 24 bytes."""


@dataclass(frozen=True, slots=True)
class HostProfile:
    """How strict a host is."""

    memory_bytes: int = 48 * MIB
    connections: int = 52
    buffer_max: int = BUFFER_MAX
    """Of one AIO buffer. ESXi 8 takes 2 MiB; what older hosts take is not known."""
    nfc_version: int = 11
    service: str = "vpxa-nfc"


class HostMemory:
    """Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.peak_bytes = 0
        self._lock = threading.Lock()

    def take(self, length: int) -> None:
        """Raises Refused as a host does when its NFC memory is gone."""
        size = length + REQUEST_HEADER
        with self._lock:
            if self.used_bytes + size > self.limit_bytes:
                raise Refused(OUT_OF_MEMORY, f"Failed to allocate the requested {size} bytes")
            self.used_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.used_bytes)

    def give(self, length: int) -> None:
        with self._lock:
            self.used_bytes -= length + REQUEST_HEADER
