"""A mover's lease: renewed in the catalog, and over by each process's own monotonic clock.

    mover   asks --|-- may write, four fifths of the lease --| stops itself
    catalog          until = ...
    others             seen --|-------- the lease, and a third --------| its runs are lost

The mover counts from before it asked; the others from when they saw the renewal, and longer. So
when they take its runs it has stopped, whether it was frozen or cut off; and whose clock was set,
forwards or back, does not matter: the moment in the catalog is only compared for being the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

_OWN_SHARE: Final = 0.8
"""Of the lease is what the process itself believes in: clocks of two machines drift."""


class Watch:
    """Which movers do not renew any more, as this process sees it. Thread-safe."""

    def __init__(self, patience: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s, self._clock = patience.total_seconds(), clock
        self._seen: dict[str, tuple[datetime, float]] = {}

    def look(self, leases: Mapping[str, datetime]) -> None:
        """What the catalog says now."""
        now, before = self._clock(), self._seen
        self._seen = {
            mover: before[mover] if mover in before and before[mover][0] == until else (until, now)
            for mover, until in leases.items()
        }

    def gone(self) -> dict[str, datetime]:
        """Movers whose lease has not changed for too long, and what it was."""
        end = self._clock() - self._patience_s
        return {mover: until for mover, (until, seen) in self._seen.items() if seen < end}


class Lease:
    """`renew` writes it to the catalog and says whether it was still there."""

    def __init__(
        self, renew: Callable[[], bool], rejoin: Callable[[], None], ttl: timedelta
    ) -> None:
        self._renew, self._rejoin, self._ttl = renew, rejoin, ttl
        self._good_until = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="vreplica-lease", daemon=True)

    @property
    def good(self) -> bool:
        return time.monotonic() < self._good_until

    def start(self) -> None:
        """Raises what the catalog raises at the first renewal."""
        self.once()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def once(self) -> None:
        """Renew; where others have noted its end, join again, with what it held gone."""
        asked = time.monotonic()
        if not self._renew():
            self._rejoin()
        self._good_until = asked + self._ttl.total_seconds() * _OWN_SHARE

    def _keep(self) -> None:
        while not self._stopped.wait(self._ttl.total_seconds() / 4):
            try:
                self.once()
            except Exception:  # noqa: S112  a database that is away; the lease runs out
                continue
