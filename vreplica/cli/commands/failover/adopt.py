"""`failover adopt JOB`: continues here the failover of a mover that is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.commands.failover.choose import choose_target
from vreplica.cli.commands.failover.confirm import confirm_option, confirmed, name_to_type
from vreplica.cli.commands.failover.options import target_argument
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command()
@target_argument
@config_option
@confirm_option
@command
def adopt(out: Output, target: str, config: Config, confirm: str | None) -> int:
    """Continue JOB's failover on this machine, from what the replica's own marks tell.

    For a mover or a state directory that is lost, at every state: half way, in service, committed.
    The mover that had the failover can do nothing with it any more. A replica that somebody has
    started by hand is adopted as in service. Neither VM is started or stopped. Confirmed by typing
    the VM's name. Then `failover resume`, `undo`, `commit` or `failback` work as before.
    """
    chosen = choose_target(out, config, target)
    seen = chosen.adoptable()
    if not all(one.here and not one.stale for one in seen):
        text = "; ".join(render.adopt_text.consequence(one.to_dict()) for one in seen)
        if not confirmed(out, name_to_type(config, target), text, confirm):
            return exit_codes.OK
    adopted = chosen.adopt(seen, out.note)
    out.answer(
        "failover-adopted",
        (value := adopted.to_dict()),
        lambda: render.adopt_text.adopted(value),
    )
    return exit_codes.OK
