"""`failover adopt JOB`: continues here the failover of a mover that is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.commands.failover.choose import choose_target
from vreplica.cli.commands.failover.confirm import confirm_option, confirmed, name_to_type
from vreplica.cli.commands.failover.options import by_service_option, target_argument
from vreplica.cli.open_catalog import installed
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output
from vreplica.errors import VReplicaError

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.failover.adopt import KnownStates


@click.command()
@target_argument
@config_option
@confirm_option
@by_service_option
@command
def adopt(out: Output, target: str, config: Config, confirm: str | None, by_service: bool) -> int:
    """Continue JOB's failover on this machine, from what the replica's own marks tell.

    For a mover or a state directory that is lost, at every state: half way, in service, committed.
    The mover that had the failover can do nothing with it any more. A replica that somebody has
    started by hand is adopted as in service. Neither VM is started or stopped. Confirmed by typing
    the VM's name. Then `failover resume`, `undo`, `commit` or `failback` work as before. With
    group:NAME: each member that a failover has, and the group's failover.
    """
    chosen = choose_target(out, config, target, by_service=by_service)
    seen = chosen.adoptable(_catalogued(out, config))
    if by_service or not all(one.here and not one.stale for one in seen):
        text = "; ".join(render.adopt_text.consequence(one.to_dict()) for one in seen)
        if not confirmed(out, name_to_type(config, target), text, confirm):
            return exit_codes.OK
    value = chosen.adopt(seen, out.note).to_dict()
    of_group = "members" in value
    kind = "failover-adopted-group" if of_group else "failover-adopted"
    out.answer(kind, value, lambda: render.adopt_text.adopted(value))
    return exit_codes.STOPPED if of_group and value["troubles"] else exit_codes.OK


def _catalogued(out: Output, config: Config) -> KnownStates:
    """The failovers that the catalog knows. One that is away keeps nobody from adopting."""
    if not config.has_catalog:
        return {}
    with installed():
        from vreplica.service.catalog.observed import known_states
        from vreplica.service.catalog.reading import consult
    try:
        return consult(config.catalog_url(), known_states) or {}
    except VReplicaError as error:
        out.warning(f"the catalog was not asked: {error}")
        return {}
