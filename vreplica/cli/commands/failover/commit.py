"""`commit JOB`: makes a failover permanent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from vreplica.cli import exit_codes
from vreplica.cli.commands.failover.carry_out import carry_out
from vreplica.cli.commands.failover.choose import choose_target
from vreplica.cli.commands.failover.confirm import confirm_option, confirmed, name_to_type
from vreplica.cli.commands.failover.options import by_service_option, target_argument
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


IN_SERVICE: Final = frozenset({"running", "keeping", "committing"})
"""States in which a commit is possible."""


@click.command()
@target_argument
@config_option
@confirm_option
@by_service_option
@command
def commit(out: Output, target: str, config: Config, confirm: str | None, by_service: bool) -> int:
    """Make JOB's failover permanent. There is no undo afterwards.

    Confirmed by typing the VM's name.
    """
    chosen = choose_target(out, config, target, by_service=by_service)
    unfinished, name = chosen.unfinished(), name_to_type(config, target)
    if by_service or (unfinished is not None and str(unfinished.state) in IN_SERVICE):
        text = f"commit keeps {name} where it runs now: there is no undo afterwards"
        if unfinished is not None:
            goes_back = unfinished.id.startswith("fb-")
            after = (
                "the job replicates forward again" if goes_back else "`failback` is the way back"
            )
            text += f", and {after}"
        if not confirmed(out, name, text, confirm):
            return exit_codes.OK
    return carry_out(out, chosen, chosen.commit)
