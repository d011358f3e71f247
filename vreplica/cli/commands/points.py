"""`points`: lists recovery points, says what retention does with them, accepts flagged ones."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from vreplica.cli import catalog_updates, exit_codes, render
from vreplica.cli.each_job import each_job
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.sync.job import Job
    from vreplica.sync.recovery_points import ReplicaPoints


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
@click.option(
    "--remove-branch",
    metavar="ID",
    help="Remove this side branch (un-...), with what was written in service in it.",
)
@command
def points(
    out: Output,
    jobs: tuple[str, ...],
    config: Config,
    retention: bool,
    accept: tuple[str, ...],
    remove_branch: str | None,
) -> int:
    """List the recovery points of each JOB, as the destination itself has them.

    A point is flagged when the change that led to it looks like mass encryption. Until it is
    accepted, the last clean point before it is kept, whatever retention says. Side branches hold
    what was written in service, kept by an undo; they are no recovery points.
    """
    if (accept or remove_branch) and len(config.select(jobs)) > 1:
        raise click.UsageError("--accept and --remove-branch are for one JOB")

    from vreplica.sync.recovery_points import read_points
    from vreplica.sync.sites import SiteSessions

    with SiteSessions(one_look=True) as sessions:

        def work(job: Job) -> int:
            if remove_branch:
                _remove_branch(out, job, remove_branch)
            read = partial(read_points, job, sessions=sessions)
            found = _accepted(out, config, job, accept) if accept else read()
            show = _show_retention if retention else _show
            show(out, job, found)
            return exit_codes.OK

        return each_job(out, config, jobs, work)


def _remove_branch(out: Output, job: Job, wanted: str) -> None:
    from vreplica.sync.events import ignore
    from vreplica.sync.replica import side_branches

    side_branches.remove_branch(job, wanted, ignore)
    out.note(f"{job.name}: removed side branch {wanted}")


def _accepted(out: Output, config: Config, job: Job, accept: tuple[str, ...]) -> ReplicaPoints:
    """Accepts these points; returns all points of the job."""
    from vreplica.sync import recovery_points

    found = recovery_points.accept(job, accept)
    catalog_updates.points_read(out, config, job, found)
    return recovery_points.ReplicaPoints(found)


def _show(out: Output, job: Job, found: ReplicaPoints) -> None:
    from vreplica.points.clock_problems import clock_problems

    warnings = clock_problems(found.points, datetime.now(UTC))
    warnings += [found.trouble] if found.trouble is not None else []
    value = {
        "job": job.name,
        "points": [point.to_dict() for point in found.points],
        **_left_out(found),
        "side_branches": [branch.to_dict() for branch in found.sides],
        "warnings": warnings,
    }
    out.answer(
        "points",
        value,
        lambda: render.text.points(job.name, found.points, found.left_out, warnings, found.sides),
    )


def _show_retention(out: Output, job: Job, found: ReplicaPoints) -> None:
    verdicts = job.retention.review(found.points)
    kept = [{"id": v.point.id, "stays": v.stays, "reasons": list(v.reasons)} for v in verdicts]
    rule = job.retention.describe()
    value = {"job": job.name, "keep": rule, "points": kept, **_left_out(found)}
    out.answer(
        "retention", value, lambda: render.text.retention(job.name, rule, verdicts, found.left_out)
    )


def _left_out(found: ReplicaPoints) -> dict[str, list[dict[str, Any]]]:
    return {
        "newer": [point.to_dict() for point in found.newer],
        "damaged": [point.to_dict() for point in found.damaged],
    }
