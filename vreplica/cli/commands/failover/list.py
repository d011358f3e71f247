"""`failover list JOB`: lists a job's or a group's failovers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.commands.failover.choose import choose_target
from vreplica.cli.commands.failover.options import target_argument
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command("list")
@target_argument
@config_option
@command
def list_(out: Output, target: str, config: Config) -> int:
    """List JOB's failovers, oldest first."""
    found = choose_target(out, config, target).history()
    out.answer(
        render.failover_views.kind_of(found),
        found.to_dict(),
        lambda: render.failover_views.history(target, found),
    )
    return exit_codes.OK
