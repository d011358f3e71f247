"""`[notify.NAME]`: a receiver of notifications, and the events that it gets.

[notify.chat]
on = ["run failed", "RPO violated"]
webhook = { url = { env = "CHAT_URL" } }

[notify.oncall.mail]
host = "smtp.example"
user = "vreplica"
password = { file = "mail.password" }
sender = "vreplica@example.com"
to = ["oncall@example.com"]

[notify.pager]
hook = { command = ["/usr/local/bin/page", "--urgent"] }
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from vreplica.config.schema.base import File, Model, Secret, Text, Whole, problem
from vreplica.notify.events import DEFAULT_EVENTS, EventName

PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}


def _address(value: str) -> str:
    if not re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", value):
        raise problem("is not an e-mail address", 'Write the address alone: "ops@example.com".')
    return value


Address = Annotated[Text, AfterValidator(_address)]
Seconds = Annotated[Whole, Field(ge=1, le=600)]


class WebhookTable(Model):
    """Posts events as JSON. The URL is a secret: anyone who knows it may post."""

    url: Secret
    sign: Secret | None = None
    """A key; with it the body is signed by HMAC-SHA256."""
    ca_file: File | None = None
    """PEM file of further authorities for the server's certificate."""
    timeout_s: Seconds = 10


class MailTable(Model):
    """Sends one message for all events that wait."""

    host: Text
    """The mail server."""
    port: Annotated[Whole, Field(ge=1, le=65535)] | None = None
    """Default: 587, 465 or 25, by security."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: Text | None = None
    password: Secret | None = None
    sender: Address
    to: tuple[Address, ...] = Field(min_length=1)
    ca_file: File | None = None
    """PEM file of further authorities for the server's certificate."""
    timeout_s: Seconds = 30

    @model_validator(mode="after")
    def _login(self) -> MailTable:
        if (self.user is None) != (self.password is None):
            raise problem("has half a login", "Give both user and password, or neither.")
        if self.user is not None and self.security == "none":
            raise problem(
                "would send its password in the clear",
                'Set security = "starttls" or "tls", or leave out user and password.',
            )
        return self


class HookTable(Model):
    """Runs a program for each event, with the event as JSON on its standard input."""

    command: tuple[Text, ...] = Field(min_length=1)
    """The program and its arguments. Exit code 75 asks to be run again."""
    timeout_s: Seconds = 60


class NotifyTable(Model):
    """A receiver of notifications: exactly one of webhook, mail and hook."""

    on: frozenset[EventName] = Field(default=DEFAULT_EVENTS, min_length=1)
    """The events that it gets."""
    webhook: WebhookTable | None = None
    mail: MailTable | None = None
    hook: HookTable | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> NotifyTable:
        kinds = (self.webhook, self.mail, self.hook)
        if sum(kind is not None for kind in kinds) != 1:
            raise problem("needs exactly one receiver", "Give one of webhook, mail and hook.")
        return self
