"""Sends notices from the catalog to the receivers, each in a thread of its own.

    audit trail --> notices.waiting --> thread "vreplica-notify-NAME" --> send --> notices.delete
                                         receiver away: tried again for a day

A receiver that is slow, or away, delays neither a run nor the planner nor another receiver, and
notices outlive the process. A receiver gets as many events at a time as it takes.
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

from vreplica.config import Config
from vreplica.config.secrets import SecretUnavailable
from vreplica.errors import VReplicaError
from vreplica.notify.events import ServiceEvent
from vreplica.notify.receiver import Receiver
from vreplica.service.catalog import notices
from vreplica.service.catalog.database import Catalog
from vreplica.service.receivers import make_receiver, missing_secrets

log = logging.getLogger("vreplica.notify")

RETRY_FOR_S: Final = 300.0
"""A receiver that is away is tried for so long; then its notices are read again."""
LONGEST_WAIT_S: Final = 60.0
POLL_S: Final = 5.0
"""Between two looks for notices of other movers; `wake` reports those of this one."""
DRAIN_S: Final = 10.0
"""For sending what is left when the service stops."""


@dataclass(slots=True)
class Counts:
    """Counts of events."""

    sent: int = 0
    failed: int = 0
    dropped: int = 0


class Outbox:
    """The thread of one receiver: sends it the events of its notices."""

    def __init__(
        self, receiver: Receiver, catalog: Catalog, mover: str, *, first_wait_s: float = 1.0
    ) -> None:
        self.counts = Counts()
        self._receiver, self._catalog, self._mover = receiver, catalog, mover
        self._wake, self._closing = threading.Event(), threading.Event()
        self._again = Retrying(
            retry=retry_if_exception(_may_succeed_later),
            wait=wait_exponential(multiplier=first_wait_s, max=LONGEST_WAIT_S),
            stop=stop_after_delay(RETRY_FOR_S) | stop_when_event_set(self._closing),
            sleep=sleep_using_event(self._closing),
            reraise=True,
        )
        name = f"vreplica-notify-{receiver.name}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Reports that there may be a new notice. Returns at once."""
        self._wake.set()

    def close(self, until: float) -> None:
        """Sends what waits once more, until `until` (monotonic). Another mover, or the next start,
        sends the rest."""
        self._closing.set()
        self._wake.set()
        self._thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while True:
            closing = self._closing.is_set()
            self._wake.clear()
            try:
                while self._send_some() and not self._closing.is_set():
                    pass
                if closing:
                    with self._catalog.transaction() as c:
                        notices.release(c, self._receiver.name, self._mover)
            except Exception as error:
                # A database that is away, or a defect: notices stay in the catalog.
                self._log(logging.WARNING, f"cannot read the catalog: {error}", [])
            if closing:
                return
            self._wake.wait(POLL_S)

    def _send_some(self) -> bool:
        """Sends one batch. False: nothing waits, or the receiver cannot be reached."""
        name = self._receiver.name
        with self._catalog.transaction() as c:
            if not notices.claim(c, name, self._mover):
                return False
            dropped = notices.drop_old(c, name, self._catalog.now(c))
            events = notices.waiting(c, name, self._receiver.batch)
        if dropped:
            self.counts.dropped += dropped
            self._log(logging.ERROR, f"dropped {dropped} events that are older than a day", [])
        if not events:
            return False
        batch = list(events.values())
        try:
            answer = self._again(self._receiver.send, batch)
        except VReplicaError as error:
            self._log(logging.ERROR, str(error), batch)
            if _may_succeed_later(error):
                return False
            self.counts.failed += len(batch)
        except Exception:
            self.counts.failed += len(batch)
            log.exception("receiver %s", name, extra=self._log_fields())
        else:
            self.counts.sent += len(batch)
            self._log(logging.DEBUG, answer, batch)
        with self._catalog.transaction() as c:
            notices.delete(c, name, list(events))
        return True

    def _log(self, level: int, text: str, events: Sequence[ServiceEvent]) -> None:
        which = f" [{'; '.join(e.text for e in events)}]" if events else ""
        log.log(
            level, "receiver %s: %s%s", self._receiver.name, text, which, extra=self._log_fields()
        )

    def _log_fields(self) -> dict[str, str]:
        return {"receiver": self._receiver.name}


class Notifier:
    """The outboxes of all receivers of a job file. A listener of `EventPublisher`."""

    def __init__(self, config: Config, catalog: Catalog, mover: str) -> None:
        catalog.receivers = {name: frozenset(table.on) for name, table in config.notify.items()}
        for error in missing_secrets(config):
            log.error("%s", error)
        self.outboxes = {
            name: Outbox(make_receiver(config, name), catalog, mover) for name in config.notify
        }

    def __call__(self, event: ServiceEvent) -> None:
        for outbox in self.outboxes.values():
            outbox.wake()

    def close(self, drain_s: float = DRAIN_S) -> None:
        until = time.monotonic() + drain_s
        for outbox in self.outboxes.values():
            outbox.close(until)


def _may_succeed_later(error: BaseException) -> bool:
    """True where another try is worth it, however much later."""
    away = isinstance(error, VReplicaError) and error.retryable
    return away or isinstance(error, SecretUnavailable)
