"""Receiver `mail`: sends one message with a line for each event."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import ClassVar

from vreplica.notify.events import ServiceEvent
from vreplica.notify.receiver import (
    SHOWN,
    NotificationFailed,
    ReceiverAway,
    answer_text,
    connection_error,
    tls_context,
)
from vreplica.notify.smtp import Dialogue


@dataclass(frozen=True, slots=True)
class MailReceiver:
    """`password` reads its secret each time."""

    name: str
    host: str
    port: int
    security: str
    """starttls | tls | none"""
    user: str | None
    password: Callable[[], str] | None
    sender: str
    to: tuple[str, ...]
    ca_file: Path | None
    timeout_s: float
    """For the whole of one mail, from the connection to the last answer."""
    batch: ClassVar[int] = 200

    def send(self, events: Sequence[ServiceEvent]) -> str:
        message = self._message(events)
        context = tls_context(self.name, self.ca_file)
        try:
            with closing(self._connected(context)) as server:
                if self.security == "starttls":
                    server.starttls(context=context)
                if self.user is not None and self.password is not None:
                    server.login(self.user, self.password())
                refused = server.send_message(message)
                with suppress(OSError, ValueError):  # it has the mail: do not send it again
                    server.quit()
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            kind = ReceiverAway if all(code < 500 for code in codes) else NotificationFailed
            raise kind(self.name, f"nobody is accepted: {_refusals(error.recipients)}") from None
        except smtplib.SMTPResponseException as error:
            text = answer_text(f"SMTP {error.smtp_code}", _decoded(error.smtp_error))
            kind = ReceiverAway if error.smtp_code < 500 else NotificationFailed
            raise kind(self.name, text) from None
        except smtplib.SMTPNotSupportedError as error:
            raise NotificationFailed(self.name, answer_text(str(error))) from None
        except UnicodeError:
            raise NotificationFailed(self.name, "user and password have to be ASCII") from None
        except OSError as error:  # also every other SMTPException
            raise connection_error(self.name, error) from None
        except ValueError as error:  # answers without an end, a challenge that cannot be read
            raise NotificationFailed(self.name, answer_text(f"its answers: {error}")) from None
        accepted = f"accepted for {len(self.to) - len(refused)} of {len(self.to)}"
        return f"{accepted}; refused: {_refusals(refused)}" if refused else accepted

    def _connected(self, context: ssl.SSLContext) -> Dialogue:
        tls = context if self.security == "tls" else None
        return Dialogue(self.host, self.port, timeout_s=self.timeout_s, tls=tls)

    def _message(self, events: Sequence[ServiceEvent]) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = f"[vreplica] {_subject(events)[:SHOWN]}"
        message["From"] = self.sender
        message["To"] = ", ".join(self.to)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self.sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        lines = [f"{e.time:%Y-%m-%d %H:%M:%S} UTC  {e.text}  (mover {e.mover})" for e in events]
        message.set_content("\n".join([*lines, ""]))
        return message


def _subject(events: Sequence[ServiceEvent]) -> str:
    more = len(events) - 1
    return f"{events[0].text}{f' (and {more} more)' if more else ''}"


def _refusals(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{who} ({code} {_decoded(text)})" for who, (code, text) in refused.items())


def _decoded(text: bytes | str) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
