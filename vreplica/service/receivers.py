"""Makes the receivers of a job file, with their secrets, and tests them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vreplica.config import Config
from vreplica.config.schema.base import Secret
from vreplica.config.schema.notify import PORTS
from vreplica.config.secrets import SecretUnavailable
from vreplica.notify.events import TEST, ServiceEvent
from vreplica.notify.hook import HookReceiver
from vreplica.notify.mail import MailReceiver
from vreplica.notify.receiver import Receiver
from vreplica.notify.webhook import WebhookReceiver


def missing_secrets(config: Config) -> list[SecretUnavailable]:
    """The secrets of receivers that cannot be read now."""
    found = []
    for name in config.notify:
        for read in _secrets(config, name).values():
            try:
                read()
            except SecretUnavailable as error:
                found.append(error)
    return found


def make_receiver(config: Config, name: str) -> Receiver:
    """A receiver of the job file. It reads its secrets each time that it sends."""
    table = config.notify[name]
    secrets = _secrets(config, name)
    if web := table.webhook:
        ca_file = web.ca_file and config.resolve(web.ca_file)
        return WebhookReceiver(name, secrets["url"], secrets.get("sign"), ca_file, web.timeout_s)
    if mail := table.mail:
        return MailReceiver(
            name=name,
            host=mail.host,
            port=mail.port or PORTS[mail.security],
            security=mail.security,
            user=mail.user,
            password=secrets.get("password"),
            sender=mail.sender,
            to=mail.to,
            ca_file=mail.ca_file and config.resolve(mail.ca_file),
            timeout_s=mail.timeout_s,
        )
    assert table.hook is not None
    program, *arguments = table.hook.command
    if "/" in program:
        program = str(config.resolve(Path(program)))
    return HookReceiver(
        name,
        (program, *arguments),
        folder=config.resolve(Path()),
        without=config.secret_variables(),
        timeout_s=table.hook.timeout_s,
    )


def send_test(config: Config, name: str, mover: str) -> str:
    """Sends one test event, once, and returns the answer. Raises NotificationFailed."""
    data = {"text": "a test, sent by `vreplica-sync notify test`; nothing has happened"}
    return make_receiver(config, name).send([ServiceEvent(TEST, "", mover, data)])


def _secrets(config: Config, name: str) -> dict[str, Callable[[], str]]:
    """Functions that read the secrets of a receiver, by their key in its table."""
    table = config.notify[name]
    places = list[tuple[str, Secret | None, str, str]]()
    if web := table.webhook:
        places += [("url", web.url, "URL", name), ("sign", web.sign, "signing key", name)]
    if mail := table.mail:
        places.append(("password", mail.password, "password", mail.user or name))
    return {
        key: config.secret(place, f"the {what} of notify.{name}", user)
        for key, place, what, user in places
        if place is not None
    }
