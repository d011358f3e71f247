"""`schedule pause|resume`: pauses and resumes the schedule of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes
from vreplica.cli.each_job import each
from vreplica.cli.open_catalog import answering, opened, user
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output
from vreplica.errors import PreflightError

if TYPE_CHECKING:
    from vreplica.config import Config


@dataclass(eq=False)
class NoSchedule(PreflightError):
    template = "job {job} has no schedule: the service does not run it, so there is nothing to {do}"
    remedy = (
        "Give it a `schedule` in the job file; `vreplica-sync pause {job}` pauses a run that is"
        " going on."
    )
    job: str
    do: str


@click.group()
def schedule() -> None:
    """Pause and resume the schedule of jobs. A run that is going on is not stopped."""


@schedule.command(short_help="Begin no more runs of these jobs.")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@config_option
@command
def pause(out: Output, config: Config, jobs: tuple[str, ...]) -> int:
    """Begin no more runs of these jobs until they are resumed. `run` works as before."""
    return _set(out, config, jobs, paused=True)


@schedule.command(short_help="Schedule these jobs again.")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@config_option
@command
def resume(out: Output, config: Config, jobs: tuple[str, ...]) -> int:
    """Schedule these jobs again, from now on."""
    return _set(out, config, jobs, paused=False)


def _set(out: Output, config: Config, jobs: tuple[str, ...], *, paused: bool) -> int:
    names = config.select(jobs)
    with opened(config) as catalog:

        def one(name: str) -> int:
            if config.rule(name) is None:
                raise NoSchedule(name, "pause" if paused else "resume")
            with answering(config):
                changed = catalog.pause(name, user(), paused=paused)
            word = "paused" if paused else "planned again"
            text = word if changed else f"was {word} already"
            out.answer(
                "schedule", {"job": name, "paused": paused, "changed": changed}, f"{name}: {text}"
            )
            return exit_codes.OK

        return each(out, names, one)
