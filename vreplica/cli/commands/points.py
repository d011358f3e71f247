"""`points`: lists recovery points, says what retention does with them, accepts flagged ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

import vreplica
from vreplica.cli import catalog_updates, exit_codes, render
from vreplica.cli.each_job import each_job
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.points import NewerPoint, RecoveryPoint
    from vreplica.sync.job import Job


@click.command()
@jobs_argument
@config_option
@click.option(
    "--retention",
    is_flag=True,
    help="Show the rule that keeps each point, and which points may expire.",
)
@click.option(
    "--accept",
    multiple=True,
    metavar="ID",
    help="Accept this flagged point; older clean points may expire again.",
)
@command
def points(
    out: Output, jobs: tuple[str, ...], config: Config, retention: bool, accept: tuple[str, ...]
) -> int:
    """List the recovery points of each JOB, as the destination itself has them.

    A point is flagged when the change that led to it looks like mass encryption. Until it is
    accepted, the last clean point before it is kept, whatever retention says.
    """
    if accept and len(config.select(jobs)) > 1:
        raise click.UsageError("--accept is for the points of one JOB")

    def work(job: Job) -> int:
        newer: Sequence[NewerPoint] = ()
        if accept:
            found = _accepted(out, config, job, accept)
        else:
            found, newer = _read(job)
        show = _show_retention if retention else _show
        show(out, job, found, newer)
        return exit_codes.OK

    return each_job(out, config, jobs, work)


def _read(job: Job) -> tuple[Sequence[RecoveryPoint], Sequence[NewerPoint]]:
    """The points, and those that only a newer version can read."""
    from vreplica.sync.errors import PointIsNewer

    try:
        return vreplica.recovery_points(job), ()
    except PointIsNewer:
        from vreplica.sync.recovery_points import read_points

        found = read_points(job)
        return found.points, found.newer


def _accepted(
    out: Output, config: Config, job: Job, accept: tuple[str, ...]
) -> Sequence[RecoveryPoint]:
    """Accepts these points; returns all points of the job."""
    from vreplica.sync import recovery_points

    found = recovery_points.accept(job, accept)
    catalog_updates.points_read(out, config, job, found)
    return found


def _show(
    out: Output, job: Job, found: Sequence[RecoveryPoint], newer: Sequence[NewerPoint]
) -> None:
    value = {
        "job": job.name,
        "points": [point.to_dict() for point in found],
        "newer": [point.to_dict() for point in newer],
    }
    out.answer("points", value, lambda: render.text.points(job.name, found, newer))


def _show_retention(
    out: Output, job: Job, found: Sequence[RecoveryPoint], newer: Sequence[NewerPoint]
) -> None:
    verdicts = job.retention.review(found)
    kept = [{"id": v.point.id, "stays": v.stays, "reasons": list(v.reasons)} for v in verdicts]
    rule = job.retention.describe()
    value = {
        "job": job.name,
        "keep": rule,
        "points": kept,
        "newer": [point.to_dict() for point in newer],
    }
    out.answer("retention", value, lambda: render.text.retention(job.name, rule, verdicts, newer))
