"""`resume`: continues a run that was paused."""

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
def resume(out: Output, job: str, config: Config) -> int:
    """Continue the run of JOB that `pause` paused."""
    from vreplica.sync.pause import resume_run

    pid = resume_run(config[job])
    out.answer(
        "asked",
        {"job": job, "process": pid, "asked": "resume"},
        f"{job}: the run of process {pid} continues",
    )
    return exit_codes.OK
