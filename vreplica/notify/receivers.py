"""The three kinds of receivers: what is sent, and what came back.

    webhook   POST {"text": "...", "events": [{...}, ...]}        2xx: done
    mail      one message, a line for each event                  accepted for somebody: done
    hook      a program, one event as JSON on its standard input  exit code 0: done

Each `send` raises NotificationFailed; ReceiverAway where the same may work in a while. No URL, key
or password is in a message.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import re
import signal
import smtplib
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol
from urllib.parse import urlsplit

from vreplica.errors import VReplicaError
from vreplica.notify.events import Event
from vreplica.redact import hide

SIGNATURE: Final = "X-VReplica-Signature-256"
"""`sha256=` and the HMAC of the body in hex, as several well-known services send it."""
ANSWER_BYTES: Final = 2000
"""Read of what a receiver says; shown is less."""
_SHOWN: Final = 200
_TEMPORARY: Final = 75
"""EX_TEMPFAIL of sysexits.h: a hook that wants to be run again."""
_TRY_LATER: Final = frozenset({408, 425, 429})


@dataclass(eq=False)
class NotificationFailed(VReplicaError):
    template = "receiver {receiver} was not told: {reason}"
    remedy = "Correct [notify.{receiver}], or the receiver; `vreplica-sync notify test` tries it."
    receiver: str
    reason: str


@dataclass(eq=False)
class ReceiverAway(NotificationFailed):
    retryable = True


class Receiver(Protocol):
    """`batch`: how many events it takes at a time."""

    @property
    def name(self) -> str: ...
    @property
    def batch(self) -> int: ...
    def send(self, events: Sequence[Event]) -> str:
        """Returns what came back, for people."""


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=str).encode()


def summary(events: Sequence[Event]) -> str:
    more = len(events) - 1
    return f"{events[0].text}{f' (and {more} more)' if more else ''}"


# -- webhook --------------------------------------------------------------------------------------


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected would go on as a GET, without the event."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Webhook:
    name: str
    url: Callable[[], str]
    key: Callable[[], str] | None
    ca_file: Path | None
    timeout_s: float
    batch: ClassVar[int] = 50

    def send(self, events: Sequence[Event]) -> str:
        text = "\n".join(event.text for event in events)
        body = as_json({"text": text, "events": [event.to_dict() for event in events]})
        headers = {"Content-Type": "application/json", "User-Agent": "vreplica"}
        if self.key is not None:
            digest = hmac.new(self.key().encode(), body, hashlib.sha256).hexdigest()
            headers[SIGNATURE] = f"sha256={digest}"
        url = self._checked_url()
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310
        context = _tls(self.name, self.ca_file)
        opener = urllib.request.build_opener(
            _NoRedirect, urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(request, timeout=self.timeout_s) as response:
                return self._said(response.status, response.read(ANSWER_BYTES), url)
        except urllib.error.HTTPError as error:
            with error, suppress(OSError, http.client.HTTPException):
                said = self._said(error.code, error.read(ANSWER_BYTES), url)
                again = error.code >= 500 or error.code in _TRY_LATER
                raise (ReceiverAway if again else NotificationFailed)(self.name, said) from None
            raise ReceiverAway(self.name, f"HTTP {error.code}") from None
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.name, error) from None

    def _checked_url(self) -> str:
        """Such as its parts can be told of without it: the library's own messages repeat it."""
        url = self.url()
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if not good or re.search(r"[\x00-\x20\x7f]", url) or not url.isascii():
            raise NotificationFailed(self.name, "its URL is not one of http:// or https://")
        if "@" in parts.netloc:
            raise NotificationFailed(self.name, "its URL has a user in it, which is not supported")
        return url

    def _said(self, code: int, body: bytes, url: str) -> str:
        parts = urlsplit(url)
        text = body.decode("utf-8", "replace")
        for secret in (url, parts.path, parts.query):
            # Many servers name the path that they do not know.
            text = text.replace(secret, "***") if len(secret) > 1 else text
        phrase = next((s.phrase for s in HTTPStatus if s == code), "")
        return _joined(f"HTTP {code} {phrase}".strip(), text)


# -- mail -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mail:
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
    batch: ClassVar[int] = 200

    def send(self, events: Sequence[Event]) -> str:
        message = self._message(events)
        context = _tls(self.name, self.ca_file)
        try:
            with self._connected(context) as server:
                if self.security == "starttls":
                    server.starttls(context=context)
                if self.user is not None and self.password is not None:
                    server.login(self.user, self.password())
                refused = server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            kind = ReceiverAway if all(code < 500 for code in codes) else NotificationFailed
            raise kind(self.name, f"nobody is accepted: {_refusals(error.recipients)}") from None
        except smtplib.SMTPResponseException as error:
            text = _joined(f"SMTP {error.smtp_code}", _decoded(error.smtp_error))
            away = error.smtp_code < 500
            raise (ReceiverAway if away else NotificationFailed)(self.name, text) from None
        except smtplib.SMTPNotSupportedError as error:
            raise NotificationFailed(self.name, _joined(str(error), "")) from None
        except UnicodeError:
            raise NotificationFailed(self.name, "user and password have to be ASCII") from None
        except OSError as error:  # also every other SMTPException
            raise _unreachable(self.name, error) from None
        told = f"accepted for {len(self.to) - len(refused)} of {len(self.to)}"
        return f"{told}; refused: {_refusals(refused)}" if refused else told

    def _connected(self, context: ssl.SSLContext) -> smtplib.SMTP:
        if self.security == "tls":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_s, context=context)
        return smtplib.SMTP(self.host, self.port, timeout=self.timeout_s)

    def _message(self, events: Sequence[Event]) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = f"[vreplica] {summary(events)[:_SHOWN]}"
        message["From"] = self.sender
        message["To"] = ", ".join(self.to)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self.sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        lines = [f"{e.time:%Y-%m-%d %H:%M:%S} UTC  {e.text}  (mover {e.mover})" for e in events]
        message.set_content("\n".join([*lines, ""]))
        return message


def _refusals(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{who} ({code} {_decoded(text)})" for who, (code, text) in refused.items())


def _decoded(text: bytes | str) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


# -- hook -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hook:
    """`without`: variables that the program does not inherit, since they hold passwords."""

    name: str
    command: tuple[str, ...]
    folder: Path
    without: frozenset[str]
    timeout_s: float
    batch: ClassVar[int] = 1

    def send(self, events: Sequence[Event]) -> str:
        said = ""
        for event in events:
            said = self._run(as_json(event.to_dict()))
        return said

    def _run(self, given: bytes) -> str:
        environment = {k: v for k, v in os.environ.items() if k not in self.without}
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                reason = f"{self.command[0]} cannot be run: {error.strerror}"
                raise NotificationFailed(self.name, reason) from None
            with process:
                try:
                    process.communicate(given, timeout=self.timeout_s)
                except subprocess.TimeoutExpired:
                    # With whatever it has started: the group is its own.
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    reason = f"its program did not end within {self.timeout_s:.0f} s"
                    raise NotificationFailed(self.name, reason) from None
            output.seek(max(0, output.seek(0, os.SEEK_END) - ANSWER_BYTES))
            text = output.read().decode("utf-8", "replace")
        said = _joined(f"exit code {process.returncode}", text)
        if process.returncode:
            kind = ReceiverAway if process.returncode == _TEMPORARY else NotificationFailed
            raise kind(self.name, said)
        return said


# -- what all need --------------------------------------------------------------------------------


def _tls(receiver: str, ca_file: Path | None) -> ssl.SSLContext:
    """The system's authorities, and those of `ca_file`; names are checked."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            reason = f"its ca_file {ca_file} cannot be used: {error.strerror or error}"
            raise NotificationFailed(receiver, reason) from None
    return context


def _unreachable(receiver: str, error: Exception) -> NotificationFailed:
    reason = getattr(error, "reason", None)
    cause = reason if isinstance(reason, Exception) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"its certificate is not trusted: {cause.verify_message}"
        return NotificationFailed(receiver, text)
    if isinstance(cause, TimeoutError):
        return ReceiverAway(receiver, "it did not answer in time")
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return ReceiverAway(receiver, _joined(text, ""))


def _joined(said: str, text: str) -> str:
    """In one line of what can be printed, and not for ever; without any secret."""
    whole = f"{said}: {text}" if text.strip() else said
    line = " ".join("".join(c if c.isprintable() else " " for c in hide(whole)).split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
