"""`jobs`: lists the jobs of the job file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command("jobs")
@jobs_argument
@config_option
@command
def jobs(out: Output, jobs: tuple[str, ...], config: Config) -> int:
    """List these jobs of the job file, or all: VMs, sites, schedules and groups.

    Reads the job file alone. `status` shows how the jobs are.
    """
    found = [_value(config, name) for name in config.select(jobs)]
    if out.as_json:
        for one in found:
            out.json("job", one)
        return exit_codes.OK
    table = render.text.grid("job", "source", "replica", "schedule~", "groups?~")
    for one in found:
        table.add_row(
            one["job"],
            f"{one['source_vm']} at {one['source_site']}",
            f"{one['replica_vm']} at {one['destination_site']}",
            one["schedule"] or "run by hand",
            ", ".join(one["groups"]) or "-",
        )
    out.show(table)
    return exit_codes.OK


def _value(config: Config, name: str) -> dict[str, Any]:
    rule, (source, destination) = config.rule(name), config.sites_of(name)
    source_vm, replica_vm = config.vms_of(name)
    return {
        "job": name,
        "source_site": source,
        "source_vm": source_vm,
        "destination_site": destination,
        "replica_vm": replica_vm,
        "schedule": str(rule) if rule is not None else None,
        "target_s": rule.target.total_seconds() if rule is not None and rule.target else None,
        "groups": config.groups_of(name),
    }
