"""`pause`: pauses the current run of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command()
@click.argument("job")
@config_option
@command
def pause(out: Output, job: str, config: Config) -> int:
    """Pause JOB's current run at its next batch; `resume` continues it.

    A paused run keeps its snapshot of the source, which grows, and warns about it. Ends with 3
    when no run of JOB is going on. The schedule is not changed.
    """
    from vreplica.sync.pause import pause_run

    pid = pause_run(config[job])
    out.answer(
        "asked",
        {"job": job, "process": pid, "asked": "pause"},
        f"{job}: the run of process {pid} pauses at its next batch",
    )
    return exit_codes.OK
