"""`notify test`: sends a test event to the receivers of notifications."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes
from vreplica.cli.guard import guarded
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.group()
def notify() -> None:
    """The receivers of notifications, tables [notify.NAME] of the job file."""


@notify.command(short_help="Send a test event.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@config_option
@command
def test(out: Output, config: Config, names: tuple[str, ...]) -> int:
    """Send a test event to these receivers, or to all, and show what each one answered."""
    from vreplica.service import receivers

    codes = []
    for name in config.select_receivers(names):

        def one(name: str = name) -> int:
            said = receivers.send_test(config, name, socket.gethostname())
            out.answer("notify", {"receiver": name, "answer": said}, f"{name}: {said}")
            return exit_codes.OK

        codes.append(guarded(out, one))
        if codes[-1] in exit_codes.FINAL:
            break
    return exit_codes.first_failure(codes)
