"""failback JOB|group:NAME: after a committed failover, bring VMs back to where they came from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from vreplica.cli import exits, via_service
from vreplica.cli.commands import group_failover
from vreplica.cli.commands.failover import (
    begin,
    carry_out,
    check_point,
    choices_of,
    decided,
    job_argument,
    load_job,
)
from vreplica.cli.options import command, config_option
from vreplica.cli.render import failover_text
from vreplica.cli.render.output import Output

OWN = {"job", "config", "as_json", "verbose", "quiet", "debug"}
"""Options of `failover` that this command has by itself."""


@click.command(
    short_help="Bring a failed-over VM back to its original.",
    params=[p for p in begin.params if p.name not in OWN],
)
@job_argument
@config_option
@click.option(
    "--new-vm",
    metavar="DATASTORE",
    help="The original VM is lost for good: make a new one in its place on this datastore.",
)
@command
def failback(out: Output, job: str, config: Path | None, new_vm: str | None, **options: Any) -> int:
    """Bring JOB's VM back from its replica to the original VM, with only what differs.

    The same question and the same options as `failover`, the other way round: the VM in service
    is shut down, what differs goes to the original, which is started. The original's last state
    is kept in a recovery point of its own until the commit. After the commit JOB replicates
    forward again. With group:NAME: those of its members that are failed over, in their order.
    """
    from vreplica.failover import operations
    from vreplica.failover.preview import preview_back

    check_point(options["final_sync"], options["point"], options["source_lost"])
    group = group_failover.Commands(out, job, config) if group_failover.is_group(job) else None
    if group is not None:
        if new_vm is not None or options["point"] is not None:
            raise click.UsageError("--new-vm and --point are of one job: fail that member back")
        lost, limit = options["source_lost"], options["max_downtime"]
        value, shown = group.previews(source_lost=lost, max_downtime_s=limit, back=True)
    else:
        found = load_job(job, config)
        known = preview_back(found, source_lost=options["source_lost"], new_vm=new_vm)
        known = known.choosing(options["point"]) if options["point"] is not None else known
        value = known.to_dict(options["max_downtime"])
        shown = failover_text.preview(known, options["max_downtime"])
    answer = decided(out, value, shown, options["final_sync"], dry_run=options["dry_run"])
    if answer is None:
        return exits.OK
    choices = choices_of(answer, **options)
    commit = options["commit_too"]
    if options["by_service"]:
        return via_service.ask(out, config, job, "back", choices, commit=commit, new_vm=new_vm)
    if group is not None:
        return group.begin(choices, options["on_error"], commit=commit, back=True)
    start = partial(operations.begin_back, found, choices, new_vm=new_vm)
    return carry_out(out, config, found, start, commit_too=commit)
