"""`undo JOB`: puts both sides back after a failover."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes
from vreplica.cli.commands.failover.carry_out import carry_out
from vreplica.cli.commands.failover.choose import choose_target
from vreplica.cli.commands.failover.options import by_service_option, target_argument
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command()
@target_argument
@config_option
@by_service_option
@command
def undo(out: Output, target: str, config: Config, by_service: bool) -> int:
    """Replica off and back on its recovery point, source on, JOB on. Not after a commit."""
    chosen = choose_target(out, config, target, by_service=by_service)
    return carry_out(out, chosen, chosen.undo, given_up=exit_codes.OK)
