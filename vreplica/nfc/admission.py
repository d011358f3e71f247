"""Limits how much of one ESXi host all replications on this machine use together.

    runtime directory/nfc-<host hash>/in-flight   one lockable byte per MiB in flight
                                     /disks       one lockable byte per open disk

A slot is one byte of an empty file, taken with an open-file-description lock. When a process dies
in any way, the kernel gives its slots back. Every holder opens the file for itself, so threads of
one process exclude each other too. Waiters poll every few milliseconds, in no order.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import random
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Final, Self

from vreplica.nfc.config import HostLimits
from vreplica.nfc.errors import AdmissionTimeout, RuntimeDirUnusable
from vreplica.units import MIB, human_size

IN_FLIGHT_UNIT: Final = 1 * MIB
RUNTIME_ENV: Final = "VREPLICA_RUNTIME_DIR"

_POLL_S: Final = 0.002
_POLL_MAX_S: Final = 0.05
# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK: Final = struct.Struct("hhqqi4x")


class LockSlots:
    """`count` slots in one file; this holder may take any number of them. Not thread-safe."""

    def __init__(self, file: Path, count: int) -> None:
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._count = count
        self.held: set[int] = set()

    def take(self, wanted: int, spare: int = 0) -> int:
        """Takes up to `wanted` more slots without waiting, and returns how many it got.

        The last `spare` slots are left to others, where there are more slots than that.
        """
        among = max(1, self._count - spare)
        start = random.randrange(among)
        got = 0
        for number in range(among):
            if got == wanted:
                break
            slot = (start + number) % among
            if slot not in self.held and self._lock(slot):
                self.held.add(slot)
                got += 1
        return got

    def release(self) -> None:
        """Gives every slot back."""
        if self.held:
            self._set(fcntl.F_UNLCK, 0, 0)
            self.held.clear()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self.held.clear()

    def _lock(self, slot: int) -> bool:
        try:
            self._set(fcntl.F_WRLCK, slot, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True

    def _set(self, kind: int, start: int, length: int) -> None:
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))


class HostAdmission:
    """One open disk's share of one host. A context manager; it holds a disk slot until closed.

    first_of_two: the caller will take a second one, maybe of this host, while it has this one.
    """

    def __init__(self, host: str, limits: HostLimits, *, first_of_two: bool = False) -> None:
        self._host = host
        self._limits = limits
        folder = host_dir(host, limits)
        units = max(1, limits.in_flight_bytes // IN_FLIGHT_UNIT)
        self._disks = LockSlots(folder / "disks", limits.open_disks)
        self._bytes = LockSlots(folder / "in-flight", units)
        self._units = units
        try:
            what = "slot for an open disk"
            self._wait(self._disks, 1, 1, what=what, limit=limits.open_disks, spare=first_of_two)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def in_flight(self, least: int, most: int) -> Iterator[int]:
        """Yields how many bytes may be in flight inside the `with`: from `least` to `most`.

        Waits while fewer than `least` are free; raises AdmissionTimeout. A `least` above the
        host's limit is cut down to the limit.
        """
        low = min(-(-least // IN_FLIGHT_UNIT), self._units)
        high = max(low, min(-(-most // IN_FLIGHT_UNIT), self._units))
        limit = self._limits.in_flight_bytes
        self._wait(self._bytes, low, high, what="bytes in flight", limit=limit)
        try:
            yield max(len(self._bytes.held) * IN_FLIGHT_UNIT, least)
        finally:
            self._bytes.release()

    def close(self) -> None:
        """Gives everything back. Closing twice is allowed."""
        self._bytes.close()
        self._disks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wait(
        self, slots: LockSlots, low: int, high: int, *, what: str, limit: int, spare: int = 0
    ) -> None:
        deadline = monotonic() + self._limits.wait_s
        pause = _POLL_S
        while slots.take(high, spare) < low:
            # Two waiters that each hold some slots while they wait for more could wait for ever.
            slots.release()
            if monotonic() >= deadline:
                raise AdmissionTimeout(
                    host=self._host, what=what, limit=limit, timeout_s=self._limits.wait_s
                )
            sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _POLL_MAX_S)


def host_dir(host: str, limits: HostLimits) -> Path:
    """Returns the directory with one host's locks, and makes it where it is missing.

    Raises RuntimeDirUnusable where it cannot be made, or where others may write to it.
    """
    base = limits.runtime_dir or _default_dir()
    name = hashlib.sha256(host.lower().encode()).hexdigest()[:16]
    folder = base / f"nfc-{name}"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = base.stat()
    except OSError as error:
        reason = error.strerror or str(error)
        raise RuntimeDirUnusable(path=str(folder), reason=reason) from error
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise RuntimeDirUnusable(path=str(base), reason="other users may write to it")
    return folder


def _default_dir() -> Path:
    named = os.environ.get(RUNTIME_ENV)
    if named:
        return Path(named)
    user = os.environ.get("XDG_RUNTIME_DIR")
    if user and Path(user).is_dir():
        return Path(user) / "vreplica"
    if os.getuid() == 0 and Path("/run").is_dir():
        return Path("/run/vreplica")
    return Path(tempfile.gettempdir()) / f"vreplica-{os.getuid()}"


def describe(limits: HostLimits) -> str:
    """Says the limits in words, for plans and logs."""
    return (
        f"at most {human_size(limits.in_flight_bytes)} in flight and "
        f"{limits.open_disks} open disks per ESXi host"
    )
