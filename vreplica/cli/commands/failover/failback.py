"""`failback JOB`: brings a VM back to its original, after a committed failover."""

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
@click.option(
    "--new-vm",
    metavar="DATASTORE",
    help="The original VM is lost for good: make a new one in its place on this datastore.",
)
@command
def failback(out: Output, target: str, config: Config, new_vm: str | None, **given: Any) -> int:
    """Bring JOB's VM back from its replica to the original VM, with only what differs.

    Asks the same question and has the same options as `failover`, in reverse: the VM in service
    is shut down, what differs goes to the original, and the original is started. The original's
    last state is kept in a recovery point of its own until the commit. After the commit JOB
    replicates forward again. With group:NAME: those of its members that are failed over, in their
    order.
    """
    options = BeginOptions(**given)
    options.check(options.final_sync)
    chosen = choose_target(
        out, config, target, by_service=options.by_service, on_error=options.on_error
    )
    known = chosen.preview_back(
        source_lost=options.source_lost, boot=options.boot.choice(), new_vm=new_vm
    )
    choices = decide(out, known, options, name_to_type(config, target))
    if choices is None:
        return exit_codes.OK
    return carry_out(
        out,
        chosen,
        lambda report, on_event: chosen.begin_back(
            choices, report, on_event, commit=options.commit, new_vm=new_vm
        ),
        commit=options.commit,
    )
