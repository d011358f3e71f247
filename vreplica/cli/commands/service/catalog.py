"""`catalog`: rebuilds the service's catalog, or brings its schema up to date."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

import vreplica
from vreplica.cli import exit_codes, render
from vreplica.cli.each_job import each_job
from vreplica.cli.open_catalog import installed, opened, user
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
    with opened(config) as there, ExitStack() as stack:
        from vreplica.service.catalog import projection
        from vreplica.sync.sites import SiteSessions

        sessions = stack.enter_context(SiteSessions(one_look=True))

        def work(job: Job) -> int:
            points = vreplica.recovery_points(job, sessions)
            projection.rebuild(there, user(), job, points)
            value = {"job": job.name, "points": len(points)}
            number = render.text.counted(len(points), "recovery point")
            out.answer("catalog-rebuilt", value, f"{job.name}: {number}")
            return exit_codes.OK

        return each_job(out, config, jobs, work)


@catalog.command(short_help="Bring the catalog's schema up to date.")
@config_option
@command
def migrate(out: Output, config: Config) -> int:
    """Bring the schema of the catalog to the one of this version, as `serve` does at its start.

    Movers of older versions then refuse to start: upgrade all of them before.
    """
    with installed():
        from vreplica.service.catalog.database import Catalog
        from vreplica.service.catalog.schema import NEWEST
    there = Catalog.open(config.catalog_url(), migrate=True)
    there.close()
    value = {"catalog": there.place, "from": there.found_schema, "to": NEWEST}
    if there.found_schema == NEWEST:
        text = f"{there.place}: schema {NEWEST} already"
    elif there.found_schema is None:
        text = f"{there.place}: new, schema {NEWEST}"
    else:
        text = f"{there.place}: schema {there.found_schema} -> {NEWEST}"
    out.answer("catalog-migrated", value, text)
    return exit_codes.OK
