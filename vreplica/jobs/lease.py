"""A mover's lease: renewed in the catalog, and over by this process's own clock.

    catalog      |------------- until (database's clock) -------------|-- grace --> runs are lost
    this process |---- may write (monotonic, from before the renewal) ----| stops itself

The process counts from before it asked and ends earlier than the catalog does; so when others
take its runs it has stopped, whether it was frozen, cut off, or its clock was set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

_OWN_SHARE: Final = 0.8
"""Of the lease is what the process itself believes in: clocks of two machines drift."""


class Lease:
    """`renew` writes it to the catalog and says whether it was still there."""

    def __init__(
        self,
        renew: Callable[[], bool],
        rejoin: Callable[[], None],
        ttl: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._renew, self._rejoin, self._ttl, self._clock = renew, rejoin, ttl, clock
        self._good_until = clock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="vreplica-lease", daemon=True)

    @property
    def good(self) -> bool:
        return self._clock() < self._good_until

    def start(self) -> None:
        """Raises what the catalog raises at the first renewal."""
        self.once()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def once(self) -> None:
        """Renew; where others have noted its end, join again, with what it held gone."""
        asked = self._clock()
        if not self._renew():
            self._rejoin()
        self._good_until = asked + self._ttl.total_seconds() * _OWN_SHARE

    def _keep(self) -> None:
        while not self._stopped.wait(self._ttl.total_seconds() / 4):
            try:
                self.once()
            except Exception:  # noqa: S112  a database that is away; the lease runs out
                continue
