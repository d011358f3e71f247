"""Tells receivers of events, each by a thread of its own, from what waits in the catalog.

    audit trail --> notices.waiting --> thread "vreplica-notify-NAME" --> send --> notices.done
                                             away: again and again, for a day

So a receiver that is slow, or away, holds neither a run nor the planner nor another receiver, and
what waits outlives the process. It is sent together, as much as the receiver takes at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_delay,
    wait_exponential,
)
from tenacity.stop import stop_when_event_set

from vreplica.config.jobfile import Config
from vreplica.config.secrets import SecretUnavailable
from vreplica.errors import VReplicaError
from vreplica.notify.events import Event
from vreplica.notify.receivers import Receiver
from vreplica.service.catalog import notices
from vreplica.service.catalog.database import Catalog
from vreplica.service.notifications import missing, receiver

log = logging.getLogger("vreplica.notify")

LOOK_AGAIN_S: Final = 300.0
"""Of a receiver that is away: between two looks at what waits for it."""
LONGEST_WAIT_S: Final = 60.0
POLL_S: Final = 5.0
"""Between two looks where nothing calls for one: other movers write notices too."""
DRAIN_S: Final = 10.0
"""What is still tried when the service stops."""


@dataclass(slots=True)
class Counts:
    """Of events."""

    sent: int = 0
    failed: int = 0
    dropped: int = 0


class Outbox:
    """One receiver's thread: tells it what the catalog says it has not been told of."""

    def __init__(
        self, receiver: Receiver, catalog: Catalog, mover: str, *, first_wait_s: float = 1.0
    ) -> None:
        self.counts = Counts()
        self._receiver, self._catalog, self._mover = receiver, catalog, mover
        self._wake, self._closing = threading.Event(), threading.Event()
        self._again = Retrying(
            retry=retry_if_exception(_passes),
            wait=wait_exponential(multiplier=first_wait_s, max=LONGEST_WAIT_S),
            stop=stop_after_delay(LOOK_AGAIN_S) | stop_when_event_set(self._closing),
            sleep=sleep_using_event(self._closing),
            reraise=True,
        )
        name = f"vreplica-notify-{receiver.name}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There may be something to tell. Returns at once."""
        self._wake.set()

    def close(self, until: float) -> None:
        """Try what waits once more, as long as `until` (monotonic) is not reached; what is left
        is told by another mover, or after the next start."""
        self._closing.set()
        self._wake.set()
        self._thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while True:
            closing = self._closing.is_set()
            self._wake.clear()
            try:
                while self._tell_some() and not self._closing.is_set():
                    pass
                if closing:
                    with self._catalog.transaction() as c:
                        notices.release(c, self._receiver.name, self._mover)
            except Exception as error:
                # A database that is away, a defect: what waits stays in the catalog.
                self._log(logging.WARNING, f"the catalog could not be read: {error}", [])
            if closing:
                return
            self._wake.wait(POLL_S)

    def _tell_some(self) -> bool:
        """Tell as much as it takes at a time. False: nothing waits, or it is not to be reached."""
        name = self._receiver.name
        with self._catalog.transaction() as c:
            if not notices.claim(c, name, self._mover):
                return False
            dropped = notices.drop_old(c, name, self._catalog.now(c))
            events = notices.waiting(c, name, self._receiver.batch)
        if dropped:
            self.counts.dropped += dropped
            self._log(logging.ERROR, f"{dropped} events were too old to be told any more", [])
        if not events:
            return False
        told = list(events.values())
        try:
            said = self._again(self._receiver.send, told)
        except VReplicaError as error:
            self._log(logging.ERROR, str(error), told)
            if _passes(error):
                return False
            self.counts.failed += len(told)
        except Exception:
            self.counts.failed += len(told)
            log.exception("receiver %s", name, extra=self._fields())
        else:
            self.counts.sent += len(told)
            self._log(logging.DEBUG, said, told)
        with self._catalog.transaction() as c:
            notices.done(c, name, list(events))
        return True

    def _log(self, level: int, text: str, events: Sequence[Event]) -> None:
        which = f" [{'; '.join(e.text for e in events)}]" if events else ""
        log.log(level, "receiver %s: %s%s", self._receiver.name, text, which, extra=self._fields())

    def _fields(self) -> dict[str, str]:
        return {"receiver": self._receiver.name}


class Notifier:
    """All receivers of a job file. A listener of `Events`."""

    def __init__(self, config: Config, catalog: Catalog, mover: str) -> None:
        catalog.receivers = {name: frozenset(table.on) for name, table in config.notify.items()}
        for error in missing(config):
            log.error("%s", error)
        self.outboxes = {
            name: Outbox(receiver(config, name), catalog, mover) for name in config.notify
        }

    def __call__(self, event: Event) -> None:
        for outbox in self.outboxes.values():
            outbox.wake()

    def close(self, drain_s: float = DRAIN_S) -> None:
        until = time.monotonic() + drain_s
        for outbox in self.outboxes.values():
            outbox.close(until)


def _passes(error: BaseException) -> bool:
    """Is it worth another try, however much later?"""
    away = isinstance(error, VReplicaError) and error.retryable
    return away or isinstance(error, SecretUnavailable)
