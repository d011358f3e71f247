"""The receivers of a job file, and whether they can be told anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vreplica.config.jobfile import Config
from vreplica.config.schema.base import Secret
from vreplica.config.schema.notify import PORTS
from vreplica.config.secrets import SecretUnavailable
from vreplica.notify.events import TEST, Event
from vreplica.notify.receivers import Hook, Mail, Receiver, Webhook


def missing(config: Config) -> list[SecretUnavailable]:
    """The secrets of receivers that are not to be had now."""
    found = []
    for name in config.notify:
        for read in _secrets(config, name).values():
            try:
                read()
            except SecretUnavailable as error:
                found.append(error)
    return found


def receiver(config: Config, name: str) -> Receiver:
    """One receiver of the job file. Its secrets are read each time that it is told something."""
    table = config.notify[name]
    secrets = _secrets(config, name)
    if web := table.webhook:
        ca_file = web.ca_file and config.resolve(web.ca_file)
        return Webhook(name, secrets["url"], secrets.get("sign"), ca_file, web.timeout_s)
    if mail := table.mail:
        return Mail(
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
    folder = config.resolve(Path())
    command = (program, *arguments)
    return Hook(name, command, folder, config.secret_variables(), table.hook.timeout_s)


def _secrets(config: Config, name: str) -> dict[str, Callable[[], str]]:
    """What is read when it is told something, by key of its table."""
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


def test(config: Config, name: str, mover: str) -> str:
    """Send one test event, without a second try; what came back. Raises NotificationFailed."""
    data = {"text": "a test, sent by `vreplica-sync notify test`; nothing has happened"}
    return receiver(config, name).send([Event(TEST, "", mover, data)])
