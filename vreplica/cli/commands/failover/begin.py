"""`failover JOB`: brings a replica into service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vreplica.cli import exit_codes
from vreplica.cli.commands.failover.carry_out import carry_out
from vreplica.cli.commands.failover.choose import choose_target
from vreplica.cli.commands.failover.confirm import name_to_type
from vreplica.cli.commands.failover.decision import decide
from vreplica.cli.commands.failover.options import BeginOptions, begin_options, target_argument
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command()
@target_argument
@config_option
@begin_options
@command
def begin(out: Output, target: str, config: Config, **given: Any) -> int:
    """Fail JOB over to its replica, or all jobs of a group."""
    options = BeginOptions(**given)
    options.check(options.final_sync)
    chosen = choose_target(
        out, config, target, by_service=options.by_service, on_error=options.on_error
    )
    known = chosen.preview(source_lost=options.source_lost, boot=options.boot.choice())
    choices = decide(out, known, options, name_to_type(config, target))
    if choices is None:
        return exit_codes.OK
    return carry_out(
        out,
        chosen,
        lambda report, on_event: chosen.begin(choices, report, on_event, commit=options.commit),
        commit=options.commit,
    )
