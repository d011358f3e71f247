"""Settings of the NFC transport, and the limits that they must keep."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from vreplica.nfc.errors import NfcConfigInvalid
from vreplica.nfc.wire import AUTHD_PORT, BUFFER_MAX, SESSION_BUFFERS_MAX
from vreplica.units import IO_SIZE, KIB, MIB, SECTOR

NfcMode = Literal["nbdssl", "nbd"]

IO_MIN: Final = 64 * KIB
"""The smallest request, also where the host is short of memory: VDDK's default buffer."""


@dataclass(frozen=True, slots=True)
class NfcTimeouts:
    """Timeouts in seconds. VDDK 8.0 has 60 s for a read, 600 s for a write (nfc.*TimeoutMs)."""

    connect_s: float = 10.0
    handshake_s: float = 30.0
    read_s: float = 60.0
    write_s: float = 600.0
    close_s: float = 10.0


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Limits for all replications of this machine together, at one ESXi host.

    A host has 48 MiB of NFC memory (96 MiB from ESXi 8) for all clients, and allows about 50 open
    disks (VDDK 8.0 Programming Guide).
    """

    in_flight_bytes: int = 32 * MIB
    open_disks: int = 32
    wait_s: float = 600.0
    runtime_dir: Path | None = None
    """Folder of the locks. None: VREPLICA_RUNTIME_DIR, else the user's runtime directory."""


@dataclass(frozen=True, slots=True)
class NfcConfig:
    """Settings of one disk's connection to its ESXi host.

    mode: "nbdssl" encrypts the data; "nbd" sends it in the clear, and is used only on request.
    depth: requests in flight. io_bytes: bytes of one request.
    buffer_bytes, buffer_count: the session's buffers at the host; others measured 1-2 MiB times 4
    as the best.
    reconnects: how often a lost connection is made again within one operation.
    pinned_sha256: host name or address -> SHA-256 of its certificate, for hosts to pin.
    legacy_tls: names or addresses of hosts whose TLS may have keys of 1024 bits (ESXi 6.5, 6.7.0).
    """

    mode: NfcMode = "nbdssl"
    depth: int = 8
    io_bytes: int = IO_SIZE
    buffer_bytes: int = 1 * MIB
    buffer_count: int = 4
    reconnects: int = 5
    reconnect_wait_s: float = 0.5
    port: int = AUTHD_PORT
    timeouts: NfcTimeouts = field(default_factory=NfcTimeouts)
    limits: HostLimits = field(default_factory=HostLimits)
    pinned_sha256: dict[str, str] = field(default_factory=dict)
    legacy_tls: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        buffers = self.buffer_bytes * self.buffer_count
        checks = (
            ("mode", self.mode in ("nbdssl", "nbd"), "is nbdssl or nbd"),
            ("depth", 1 <= self.depth <= 256, "is from 1 to 256"),
            (
                "io_bytes",
                self.io_bytes >= IO_MIN and self.io_bytes % SECTOR == 0,
                f"is a multiple of {SECTOR} and at least {IO_MIN}",
            ),
            (
                "buffer_bytes",
                IO_MIN <= self.buffer_bytes <= BUFFER_MAX and self.buffer_bytes % SECTOR == 0,
                f"is from {IO_MIN} to {BUFFER_MAX}, which hosts refuse to exceed",
            ),
            (
                "buffer_count",
                self.buffer_count >= 1 and buffers <= SESSION_BUFFERS_MAX,
                f"times buffer_bytes is at most {SESSION_BUFFERS_MAX}",
            ),
            ("reconnects", self.reconnects >= 0, "is not below 0"),
            ("limits.open_disks", self.limits.open_disks >= 1, "is at least 1"),
            (
                "limits.in_flight_bytes",
                self.limits.in_flight_bytes >= self.io_bytes,
                "holds at least one request (io_bytes)",
            ),
        )
        for setting, good, reason in checks:
            if not good:
                raise NfcConfigInvalid(setting=setting, reason=reason)
