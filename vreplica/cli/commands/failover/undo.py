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
@click.option(
    "--even-without-source",
    is_flag=True,
    help="Stop the replica although the source cannot be read; then neither may run.",
)
@by_service_option
@command
def undo(
    out: Output, target: str, config: Config, even_without_source: bool, by_service: bool
) -> int:
    """Replica off and back on its recovery point, source on, JOB on. Not after a commit.

    The source's host is asked first: where it does not answer, nothing is stopped (exit code 3).
    """
    from vreplica.failover.machine.choices import UndoChoices

    chosen = choose_target(out, config, target, by_service=by_service)
    choices = UndoChoices(even_without_source=even_without_source)
    return carry_out(
        out,
        chosen,
        lambda report, on_event: chosen.undo(report, on_event, choices=choices),
        given_up=exit_codes.OK,
    )
