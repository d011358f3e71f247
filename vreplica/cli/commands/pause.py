"""pause, resume: a run that is going on holds, and goes on, at another terminal's word."""

from __future__ import annotations

from pathlib import Path

import click

from vreplica.cli import exits
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output


@click.command(short_help="Let a run that is going on hold.")
@click.argument("job")
@config_option
@command
def pause(out: Output, job: str, config: Path | None) -> int:
    """Let the run of JOB that is going on hold at its next batch, until `resume`.

    It keeps its snapshot of the source, which grows meanwhile, and says so. Ends with 3 where no
    run is going on; the schedule is not touched.
    """
    return _do(out, job, config, "pause")


@click.command(short_help="Let a run that was paused go on.")
@click.argument("job")
@config_option
@command
def resume(out: Output, job: str, config: Path | None) -> int:
    """Let the run of JOB that `pause` holds go on."""
    return _do(out, job, config, "resume")


def _do(out: Output, name: str, config: Path | None, what: str) -> int:
    import vreplica
    from vreplica.sync import pause as holding

    job = vreplica.load(config)[name]
    pid = holding.pause(job) if what == "pause" else holding.resume(job)
    then = "holds at its next batch" if what == "pause" else "goes on"
    out.answer(
        {"job": name, "process": pid, "asked": what}, f"{name}: the run of process {pid} {then}"
    )
    return exits.OK
