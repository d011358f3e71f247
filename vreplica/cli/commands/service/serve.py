"""`serve`: runs all jobs by their schedules, as a service."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any, Final

import click

from vreplica.cli import exit_codes
from vreplica.cli.open_catalog import installed
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config

POLL_S: Final = 0.2
"""Between two looks whether the service was asked to stop."""


def _mover(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise click.BadParameter("letters, digits, '.', '_' and '-', at most 80; no path")
    return name


@click.command()
@config_option
@click.option(
    "--mover", callback=_mover, metavar="NAME", help="This mover's name. Default: the host's."
)
@command
def serve(out: Output, config: Config, mover: str | None) -> int:
    """Run every job that has a schedule, until SIGTERM, SIGHUP or Ctrl-C.

    With a PostgreSQL database in [service] several machines share the work: start `serve` with
    the same file on another one, and it joins. When the service is stopped, its runs are cancelled
    and leave nothing behind. When it starts again after a crash, it repairs the runs that the
    crash cut off.
    """
    with installed():
        from vreplica.service.service import Service
    from vreplica.cli.commands.service.log import log_to_stderr

    log_to_stderr(as_json=out.as_json, verbose=out.verbosity > 1)
    service = Service(config, mover=mover)
    received: list[int] = []

    def stop(number: int, _: Any) -> None:
        # No more than this: a lock that the interrupted line holds would never be free again.
        received.append(number)

    # nohup and shells in the background let a process ignore some signals; that is kept.
    signals = [
        number
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = [signal.signal(number, stop) for number in signals]
    try:
        service.start()
        while not received and not service.wait(POLL_S):
            pass
    finally:
        complete = service.stop()
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
    if not complete:
        # Threads that wait for a lost database would keep the process for as long as it is away.
        os._exit(exit_codes.OK)
    return exit_codes.OK
