"""`failover show JOB`: shows what a failover did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.commands.failover.choose import choose_target
from vreplica.cli.commands.failover.options import target_argument
from vreplica.cli.options import OutputFile, command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command()
@target_argument
@config_option
@click.option("--page", type=OutputFile(), metavar="FILE", help="Write it as an HTML page too.")
@click.option(
    "--check", is_flag=True, help="Compare it with vCenter's own tasks and events; 8: they differ."
)
@command
def show(out: Output, target: str, config: Config, page: Path | None, check: bool) -> int:
    """Show the state of JOB's failover and everything that it did, with times."""
    chosen = choose_target(out, config, target)
    report = chosen.show()
    checked = chosen.crosscheck() if check else {}
    if page is not None:
        page.write_text(render.failover_views.report_page(report, checked), encoding="utf-8")
    value = render.failover_views.report_value(report, checked)
    out.answer(
        render.failover_views.kind_of(report),
        value,
        lambda: render.failover_views.report(target, report, checked),
    )
    same = all(comparison.equal for comparison in checked.values())
    return exit_codes.OK if same else exit_codes.DIFFERENT
