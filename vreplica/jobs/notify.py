"""Tells receivers of events, each from a queue and by a thread of its own.

    event --> put --> [ | | | ] --> thread "vreplica-notify-NAME" --> send, again for 15 minutes
                full: dropped, counted, logged

So a receiver that is slow, or away, holds neither a run nor the planner nor another receiver.
What waits for it is sent together, as much as it takes at a time. The queue is in memory: what
waits when the process is killed is not sent, and stands in the audit trail all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_delay,
    wait_exponential,
)
from tenacity.stop import stop_when_event_set

from vreplica.errors import VReplicaError
from vreplica.jobs.config import Config
from vreplica.jobs.events import TEST, Event
from vreplica.jobs.notifytable import PORTS
from vreplica.jobs.receivers import Hook, Mail, Receiver, Webhook

log = logging.getLogger("vreplica.notify")

QUEUE: Final = 1000
GIVE_UP_S: Final = 900.0
"""A mail server that is restarted, with its machine, is there again by then."""
LONGEST_WAIT_S: Final = 60.0
DRAIN_S: Final = 10.0
"""What is still tried when the service stops."""


@dataclass(slots=True)
class Counts:
    """Of events."""

    sent: int = 0
    failed: int = 0
    dropped: int = 0


class Outbox:
    """One receiver's queue and thread."""

    def __init__(
        self,
        receiver: Receiver,
        wanted: frozenset[str],
        *,
        capacity: int = QUEUE,
        give_up_s: float = GIVE_UP_S,
        first_wait_s: float = 1.0,
    ) -> None:
        self.counts = Counts()
        self._receiver, self._wanted, self._capacity = receiver, wanted, capacity
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._told_dropped = 0
        self._again = Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, VReplicaError) and e.retryable),
            wait=wait_exponential(multiplier=first_wait_s, max=LONGEST_WAIT_S),
            stop=stop_after_delay(give_up_s) | stop_when_event_set(self._closing),
            sleep=sleep_using_event(self._closing),
            reraise=True,
        )
        name = f"vreplica-notify-{receiver.name}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def put(self, event: Event) -> None:
        """Returns at once."""
        if event.what not in self._wanted:
            return
        with self._changed:
            if len(self._waiting) < self._capacity and not self._closing.is_set():
                self._waiting.append(event)
                self._changed.notify()
                return
            self.counts.dropped += 1
            first = self.counts.dropped == self._told_dropped + 1
        if first:
            self._log(logging.ERROR, "its queue is full; events are dropped", [event])

    def close(self, until: float) -> None:
        """Try each event that waits once more, as long as `until` (monotonic) is not reached."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
            self.counts.dropped += len(left)
        if left:
            self._log(logging.ERROR, "the service stops; not told any more", left)

    def _work(self) -> None:
        while events := self._next():
            try:
                said = self._again(self._receiver.send, events)
            except VReplicaError as error:
                self.counts.failed += len(events)
                self._log(logging.ERROR, str(error), events)
            except Exception:
                self.counts.failed += len(events)
                log.exception("receiver %s", self._receiver.name, extra=self._fields())
            else:
                self.counts.sent += len(events)
                self._log(logging.DEBUG, said, events)
            self._tell_dropped()

    def _next(self) -> list[Event]:
        """What is sent next; empty: nothing any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            take = min(self._receiver.batch, len(self._waiting))
            return [self._waiting.popleft() for _ in range(take)]

    def _tell_dropped(self) -> None:
        lost = self.counts.dropped - self._told_dropped
        if lost and len(self._waiting) < self._capacity:
            self._told_dropped += lost
            self._log(logging.ERROR, f"{lost} events were dropped since its queue was full", [])

    def _log(self, level: int, text: str, events: Sequence[Event]) -> None:
        which = f" [{'; '.join(e.text for e in events)}]" if events else ""
        log.log(level, "receiver %s: %s%s", self._receiver.name, text, which, extra=self._fields())

    def _fields(self) -> dict[str, str]:
        return {"receiver": self._receiver.name}


class Notifier:
    """All receivers of a job file. A listener of `Events`."""

    def __init__(self, config: Config) -> None:
        self.outboxes = {
            name: Outbox(receiver(config, name), frozenset(table.on))
            for name, table in config.notify.items()
        }

    def __call__(self, event: Event) -> None:
        for outbox in self.outboxes.values():
            outbox.put(event)

    def close(self, drain_s: float = DRAIN_S) -> None:
        until = time.monotonic() + drain_s
        for outbox in self.outboxes.values():
            outbox.close(until)


def receiver(config: Config, name: str) -> Receiver:
    """One receiver of the job file. Its secrets are read each time that it is told something."""
    table = config.notify[name]
    if web := table.webhook:
        url = config.secret(web.url, f"the URL of notify.{name}", name)
        sign = (
            config.secret(web.sign, f"the signing key of notify.{name}", name) if web.sign else None
        )
        ca_file = web.ca_file and config.resolve(web.ca_file)
        return Webhook(name, url, sign, ca_file, web.timeout_s)
    if mail := table.mail:
        what = f"the password of notify.{name}"
        password = config.secret(mail.password, what, mail.user or name) if mail.password else None
        return Mail(
            name=name,
            host=mail.host,
            port=mail.port or PORTS[mail.security],
            security=mail.security,
            user=mail.user,
            password=password,
            sender=mail.sender,
            to=mail.to,
            ca_file=mail.ca_file and config.resolve(mail.ca_file),
            timeout_s=mail.timeout_s,
        )
    assert table.hook is not None
    program, *arguments = table.hook.command
    if "/" in program:
        program = str(config.resolve(Path(program)))
    folder = config.resolve(Path())
    command = (program, *arguments)
    return Hook(name, command, folder, config.secret_variables(), table.hook.timeout_s)


def test(config: Config, name: str, mover: str) -> str:
    """Send one test event, without a second try; what came back. Raises NotificationFailed."""
    data = {"text": "a test, sent by `vreplica-sync notify test`; nothing has happened"}
    return receiver(config, name).send([Event(TEST, "", mover, data)])
