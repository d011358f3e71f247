"""A receiver of notifications, and what all kinds of receivers share: errors, TLS, texts.

    webhook.py   POST {"text": "...", "events": [{...}, ...]}        success: 2xx
    mail.py      one message, a line for each event                  success: one recipient accepted
    hook.py      a program, one event as JSON on its standard input  success: exit code 0

No message of an error contains a URL, a key or a password.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from vreplica.errors import VReplicaError
from vreplica.notify.events import ServiceEvent
from vreplica.printable import one_line, printable_json
from vreplica.redact import hide

ANSWER_BYTES: Final = 2000
"""The most that is read of a receiver's answer. Less is shown."""
SHOWN: Final = 200
"""Characters of an answer, or of a mail's subject."""


@dataclass(eq=False)
class NotificationFailed(VReplicaError):
    template = "cannot notify receiver {receiver}: {reason}"
    remedy = (
        "Correct [notify.{receiver}] in the job file, or the receiver; then try it with"
        " `vreplica-sync notify test {receiver}`."
    )
    receiver: str
    reason: str


@dataclass(eq=False)
class ReceiverAway(NotificationFailed):
    """The same may succeed later."""

    retryable = True


class Receiver(Protocol):
    """Sends events to somebody. `batch`: the most events of one call."""

    @property
    def name(self) -> str: ...
    @property
    def batch(self) -> int: ...
    def send(self, events: Sequence[ServiceEvent]) -> str:
        """Returns the receiver's answer, for people. Raises NotificationFailed, ReceiverAway."""


def as_json(value: Any) -> bytes:
    """UTF-8; values that JSON does not have are written as text."""
    return printable_json(json.dumps(value, ensure_ascii=False, default=str)).encode()


def tls_context(receiver: str, ca_file: Path | None) -> ssl.SSLContext:
    """Trusts the system's authorities and those of `ca_file`; host names are checked."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            reason = f"cannot use its ca_file {ca_file}: {error.strerror or error}"
            raise NotificationFailed(receiver, reason) from None
    return context


def connection_error(receiver: str, error: Exception) -> NotificationFailed:
    """The error for a server that cannot be reached, or is not trusted."""
    reason = getattr(error, "reason", None)
    cause = reason if isinstance(reason, Exception) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"its certificate is not trusted: {cause.verify_message}"
        return NotificationFailed(receiver, text)
    if isinstance(cause, TimeoutError):
        return ReceiverAway(receiver, "it did not answer in time")
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return ReceiverAway(receiver, answer_text(text))


def answer_text(result: str, answer: str = "") -> str:
    """A short printable line of a result and an answer, without any secret."""
    whole = f"{result}: {answer}" if answer.strip() else result
    line = one_line(hide(whole))
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 3]}..."
