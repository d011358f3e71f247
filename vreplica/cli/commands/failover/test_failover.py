"""`test-failover JOB`: boots a recovery point apart from production, and throws it away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.commands.failover.point_options import PointOptions, point_options
from vreplica.cli.options import Duration, OutputFile, command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command("test-failover")
@click.argument("job")
@config_option
@point_options
@click.option("--network", metavar="NAME", help="Default: the job's test_network, else none.")
@click.option("--force", is_flag=True, help="Also on a network of production.")
@click.option(
    "--script",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Run this file in the guest; the test fails unless it ends with 0.",
)
@click.option("--script-timeout", type=Duration(), default="5m", show_default=True)
@click.option("--heartbeat-timeout", type=Duration(), default="5m", show_default=True)
@click.option("--keep", is_flag=True, help="Leave the test VM running; --clean removes it.")
@click.option("--clean", is_flag=True, help="Only remove the test VM that there is.")
@click.option("--page", type=OutputFile(), metavar="FILE", help="Write the report as HTML too.")
@command
def test_failover(
    out: Output,
    job: str,
    config: Config,
    boot: PointOptions,
    network: str | None,
    force: bool,
    script: Path | None,
    script_timeout: float,
    heartbeat_timeout: float,
    keep: bool,
    clean: bool,
    page: Path | None,
) -> int:
    """Boot a recovery point of JOB as a VM of its own, on an isolated network or on none.

    Waits until the guest answers, runs a script in it where one is given, and removes the VM.
    Neither the replica nor the source is touched, and replication continues. Ends with 9 when the
    guest did not answer or the script did not end with 0.
    """
    from vreplica.failover.testing import run

    found = config[job]
    if clean:
        removed = run.clean(found)
        text = f"removed {removed}" if removed else "no test VM is there"
        out.answer("test-failover-removed", {"job": job, "removed": removed}, f"{job}: {text}")
        return exit_codes.OK
    options = run.TestOptions(
        boot=boot.choice(),
        network=network,
        force=force,
        script=script,
        script_timeout_s=script_timeout,
        heartbeat_timeout_s=heartbeat_timeout,
        keep=keep,
    )
    report = run.run_test(found, options, lambda text: out.note(f"{job}: {text}"))
    if page is not None:
        page.write_text(render.test_report.as_page(report), encoding="utf-8")
    out.answer("test-failover", report.to_dict(), lambda: render.test_report.as_text(report))
    return exit_codes.OK if report.passed else exit_codes.STOPPED
