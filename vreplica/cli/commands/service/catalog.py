"""`catalog rebuild`: fills the service's catalog from the destinations and the journals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import vreplica
from vreplica.cli import exit_codes, render
from vreplica.cli.each_job import each_job
from vreplica.cli.open_catalog import opened, user
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.sync.job import Job


@click.group()
def catalog() -> None:
    """The service's catalog of jobs, runs, points and failovers. It can be lost and rebuilt."""


@catalog.command(short_help="Read points and failovers into the catalog.")
@jobs_argument
@config_option
@command
def rebuild(out: Output, config: Config, jobs: tuple[str, ...]) -> int:
    """Read points from the destinations and failovers from their journals into the catalog."""
    with opened(config) as there:
        from vreplica.service.catalog import projection

        def work(job: Job) -> int:
            points = vreplica.recovery_points(job)
            projection.rebuild(there, user(), job, points)
            value = {"job": job.name, "points": len(points)}
            number = render.text.counted(len(points), "recovery point")
            out.answer(value, f"{job.name}: {number}")
            return exit_codes.OK

        return each_job(out, config, jobs, work)
