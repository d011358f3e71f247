"""A mover's lease: renewed in the catalog, and ended by each process's own monotonic clock.

    mover   renews --|-- may write for four fifths of the lease --| stops itself
    catalog           until = ...
    others              seen --|------ the lease and a third of it ------| its runs are lost

The mover counts from before it asked for the renewal; the others count from when they saw it, and
longer. So the mover has stopped before they take its runs, whether it was frozen or cut off. A
clock that is set forwards or back changes nothing: the time in the catalog is only compared for
equality.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

_OWN_SHARE: Final = 0.8
"""The share of the lease in which the mover itself may write: clocks of two machines drift."""


class LeaseWatch:
    """Finds movers that no longer renew their lease, by this process's clock. Thread-safe."""

    def __init__(self, patience: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s, self._clock = patience.total_seconds(), clock
        self._seen: dict[str, tuple[datetime, float]] = {}

    def observe(self, leases: Mapping[str, datetime]) -> None:
        """Takes the leases that the catalog has now."""
        now, before = self._clock(), self._seen
        self._seen = {
            mover: before[mover] if mover in before and before[mover][0] == until else (until, now)
            for mover, until in leases.items()
        }

    def gone(self) -> dict[str, datetime]:
        """The movers whose lease has not changed for too long, with the end of that lease."""
        end = self._clock() - self._patience_s
        return {mover: until for mover, (until, seen) in self._seen.items() if seen < end}


class Lease:
    """Renews the lease of this mover in a thread of its own.

    `renew` writes the renewal to the catalog, and returns False where another mover has removed the
    lease; `rejoin` registers the mover again.
    """

    def __init__(
        self, renew: Callable[[], bool], rejoin: Callable[[], None], ttl: timedelta
    ) -> None:
        self._renew, self._rejoin, self._ttl = renew, rejoin, ttl
        self._valid_until = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="vreplica-lease", daemon=True)

    @property
    def valid(self) -> bool:
        """True while this process may write."""
        return time.monotonic() < self._valid_until

    def start(self) -> None:
        """Raises what the catalog raises at the first renewal."""
        self.renew_once()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def renew_once(self) -> None:
        """Renews, or joins again where others have removed the lease, and with it the runs."""
        asked = time.monotonic()
        if not self._renew():
            self._rejoin()
        self._valid_until = asked + self._ttl.total_seconds() * _OWN_SHARE

    def _keep(self) -> None:
        while not self._stopped.wait(self._ttl.total_seconds() / 4):
            try:
                self.renew_once()
            except Exception:  # noqa: S112  a database that is away; the lease ends
                continue
