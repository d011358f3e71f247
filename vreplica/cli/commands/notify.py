"""notify test: does each receiver of notifications get what it is sent?"""

from __future__ import annotations

import socket
from pathlib import Path

import click

from vreplica.cli import exits
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output


@click.group(short_help="Who is told what happens to jobs.")
def notify() -> None:
    """The receivers of notifications, tables [notify.NAME] of the job file."""


@notify.command("test")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@config_option
@command
def test(out: Output, config: Path | None, names: tuple[str, ...]) -> int:
    """Send a test event to these receivers, or to all, and say what came back."""
    import vreplica
    from vreplica.service import notifications as sender

    loaded = vreplica.load(config)
    codes = []
    for name in loaded.select_receivers(names):

        def one(name: str = name) -> int:
            said = sender.test(loaded, name, socket.gethostname())
            out.answer({"receiver": name, "answer": said}, f"{name}: {said}")
            return exits.OK

        codes.append(exits.guarded(out, one))
        if codes[-1] in exits.FINAL:
            break
    return next((code for code in codes if code), exits.OK)
