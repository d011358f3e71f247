"""`plan`: shows what the next run of each job will do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import vreplica
from vreplica.cli import exit_codes, render
from vreplica.cli.each_job import each_job
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.sync.job import Job


@click.command()
@jobs_argument
@config_option
@command
def plan(out: Output, jobs: tuple[str, ...], config: Config) -> int:
    """Show what the next run of each JOB will do, and why. Changes nothing.

    Ends with 3 when something keeps the next run from starting.
    """
    from vreplica.sync.sites import SiteSessions

    with SiteSessions(one_look=True) as sessions:

        def work(job: Job) -> int:
            report = vreplica.plan(job, sessions=sessions)
            out.answer("plan", report.to_dict(), lambda: render.text.plan(report, job.require))
            return exit_codes.PREFLIGHT if report.problems else exit_codes.OK

        return each_job(out, config, jobs, work)
