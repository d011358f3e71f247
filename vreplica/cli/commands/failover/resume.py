"""`failover resume JOB`: continues a failover that stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vreplica.cli.commands.failover.carry_out import carry_out
from vreplica.cli.commands.failover.choose import choose_target
from vreplica.cli.commands.failover.options import (
    by_service_option,
    on_error_option,
    target_argument,
)
from vreplica.cli.commands.failover.point_options import PointOptions, point_options
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command()
@target_argument
@config_option
@click.option("--source-lost", is_flag=True, help="The source is lost since: continue without it.")
@point_options
@on_error_option
@by_service_option
@command
def resume(
    out: Output,
    target: str,
    config: Config,
    source_lost: bool,
    boot: PointOptions,
    on_error: str | None,
    by_service: bool,
) -> int:
    """Continue JOB's failover where it stopped. A process that ran it before can do no more."""
    chosen = choose_target(out, config, target, by_service=by_service, on_error=on_error)
    return carry_out(
        out,
        chosen,
        lambda report, on_event: chosen.resume(
            report, on_event, source_lost=source_lost, boot=boot.choice()
        ),
    )
