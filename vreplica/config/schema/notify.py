"""The tables of a job file that say who is told what.

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
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from vreplica.config.schema.base import File, Model, Secret, Text, Whole, problem
from vreplica.notify.events import DEFAULT_EVENTS, EventName

PORTS = {"starttls": 587, "tls": 465, "none": 25}


def _address(value: str) -> str:
    if not re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", value):
        raise problem("is not an e-mail address", 'Write the address alone: "ops@example.com".')
    return value


Address = Annotated[Text, AfterValidator(_address)]
Seconds = Annotated[Whole, Field(ge=1, le=600)]


class WebhookTable(Model):
    """A JSON document by HTTP POST. The URL is a secret, since whoever knows it may post."""

    url: Secret
    sign: Secret | None = None
    """A key for HMAC-SHA256."""
    ca_file: File | None = None
    timeout_s: Seconds = 10


class MailTable(Model):
    """One message for all events that wait."""

    host: Text
    port: Annotated[Whole, Field(ge=1, le=65535)] | None = None
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: Text | None = None
    password: Secret | None = None
    sender: Address
    to: tuple[Address, ...] = Field(min_length=1)
    ca_file: File | None = None
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
    """A program; each event as JSON on its standard input."""

    command: tuple[Text, ...] = Field(min_length=1)
    timeout_s: Seconds = 60


class NotifyTable(Model):
    """One receiver, of exactly one kind."""

    on: frozenset[EventName] = Field(default=DEFAULT_EVENTS, min_length=1)
    webhook: WebhookTable | None = None
    mail: MailTable | None = None
    hook: HookTable | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> NotifyTable:
        kinds = (self.webhook, self.mail, self.hook)
        if sum(kind is not None for kind in kinds) != 1:
            raise problem("needs exactly one receiver", "Give one of webhook, mail and hook.")
        return self
