"""Receiver `webhook`: posts events as one JSON document to a URL."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from vreplica.limited_http import LimitedResponse
from vreplica.notify.events import ServiceEvent
from vreplica.notify.receiver import (
    ANSWER_BYTES,
    NotificationFailed,
    ReceiverAway,
    answer_text,
    as_json,
    connection_error,
    tls_context,
)

SIGNATURE: Final = "X-VReplica-Signature-256"
"""`sha256=` and the HMAC of the body in hex, as several well-known services send it."""
TIMEOUT_S: Final = 30.0
"""Where the receiver has none of its own."""
_TRY_LATER: Final = frozenset({408, 425, 429})


class _Connection(http.client.HTTPConnection):
    """A connection whose answer is limited in time as a whole, not only between two bytes."""

    def response_class(  # type: ignore[override]
        self, *args: Any, **more: Any
    ) -> http.client.HTTPResponse:
        return LimitedResponse(*args, timeout_s=self.timeout or TIMEOUT_S, **more)


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """The same over TLS."""


class _Open(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, request)


class _OpenSecure(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._tls = context

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, request, context=self._tls)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: urllib would follow with a GET, without the event."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class WebhookReceiver:
    """`url` and `key` read their secrets each time. With a key the body is signed."""

    name: str
    url: Callable[[], str]
    key: Callable[[], str] | None
    ca_file: Path | None
    timeout_s: float
    batch: ClassVar[int] = 50

    def send(self, events: Sequence[ServiceEvent]) -> str:
        text = "\n".join(event.text for event in events)
        body = as_json({"text": text, "events": [event.to_dict() for event in events]})
        headers = {"Content-Type": "application/json", "User-Agent": "vreplica"}
        if self.key is not None:
            digest = hmac.new(self.key().encode(), body, hashlib.sha256).hexdigest()
            headers[SIGNATURE] = f"sha256={digest}"
        url = self._checked_url()
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310
        context = tls_context(self.name, self.ca_file)
        opener = urllib.request.build_opener(_NoRedirect, _Open, _OpenSecure(context))
        try:
            with opener.open(request, timeout=self.timeout_s) as response:
                return _answer(response.status, response.read(ANSWER_BYTES), url)
        except urllib.error.HTTPError as error:
            with error, suppress(OSError, http.client.HTTPException):
                answer = _answer(error.code, error.read(ANSWER_BYTES), url)
                later = error.code >= 500 or error.code in _TRY_LATER
                raise (ReceiverAway if later else NotificationFailed)(self.name, answer) from None
            raise ReceiverAway(self.name, f"HTTP {error.code}") from None
        except (OSError, http.client.HTTPException) as error:
            raise connection_error(self.name, error) from None
        except ValueError as error:  # an answer that is longer, or packed otherwise
            raise NotificationFailed(self.name, answer_text(f"its answer: {error}")) from None

    def _checked_url(self) -> str:
        """The URL, if urllib takes it: urllib's own messages would repeat a wrong one."""
        url = self.url()
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if not good or re.search(r"[\x00-\x20\x7f]", url) or not url.isascii():
            raise NotificationFailed(self.name, "its URL is not one of http:// or https://")
        if "@" in parts.netloc:
            raise NotificationFailed(self.name, "its URL contains a user, which is not supported")
        return url


def _answer(code: int, body: bytes, url: str) -> str:
    parts = urlsplit(url)
    text = body.decode("utf-8", "replace")
    for secret in (url, parts.path, parts.query):
        # Many servers repeat the path that they do not know.
        text = text.replace(secret, "***") if len(secret) > 1 else text
    phrase = next((s.phrase for s in HTTPStatus if s == code), "")
    return answer_text(f"HTTP {code} {phrase}".strip(), text)
