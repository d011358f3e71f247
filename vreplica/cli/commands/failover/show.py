"""`failover show JOB`: shows what a failover did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from vreplica.cli import catalog_updates, exit_codes, render
from vreplica.cli.commands.failover.choose import choose_target
from vreplica.cli.commands.failover.options import target_argument
from vreplica.cli.options import OutputFile, command, config_option
from vreplica.cli.render.output import Output
from vreplica.errors import VReplicaError

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.failover.live import LiveJob

LOOK_S: Final = 5.0
"""For connecting to a site: the record is shown although a site is away."""


@click.command()
@target_argument
@config_option
@click.option("--page", type=OutputFile(), metavar="FILE", help="Write it as an HTML page too.")
@click.option(
    "--check", is_flag=True, help="Compare it with vCenter's own tasks and events; 8: they differ."
)
@command
def show(out: Output, target: str, config: Config, page: Path | None, check: bool) -> int:
    """Show the state of JOB's failover and everything that it did, with times.

    Both VMs are read now, where their sites answer. Ends with 7 when both are on.
    """
    chosen = choose_target(out, config, target)
    report = chosen.show()
    checked = chosen.crosscheck() if check else {}
    if page is not None:
        page.write_text(render.failover_views.report_page(report, checked), encoding="utf-8")
    views, live = render.failover_views, _look(config, target)
    out.answer(
        views.kind_of(report),
        {**views.report_value(report, checked), **views.live_value(report, live)},
        lambda: (*views.live(live), *views.report(target, report, checked)),
    )
    if both := {name: one for name, one in live.items() if one.both_on}:
        for name, one in both.items():
            out.warning(f"{name}: {one.alarm()}")
        catalog_updates.both_on_seen(out, config, both)
        return exit_codes.WRONG_STATE
    same = all(comparison.equal for comparison in checked.values())
    return exit_codes.OK if same else exit_codes.DIFFERENT


def _look(config: Config, target: str) -> dict[str, LiveJob]:
    """Both VMs of each job as they are now. A site that does not answer is said."""
    from vreplica.failover.live import not_read, read_live
    from vreplica.failover.machine.group_order import GROUP_PREFIX
    from vreplica.failover.standing import Sides
    from vreplica.sync.sites import SiteSessions

    names = [target]
    if target.startswith(GROUP_PREFIX):
        names = [m.name for m in config.group(target.removeprefix(GROUP_PREFIX)).members]
    found = {}
    with SiteSessions(one_look=True, timeout_s=LOOK_S) as sessions:
        for name in names:
            sides = Sides(*config.sites_of(name))
            try:
                found[name] = read_live(config[name], sides, sessions)
            except VReplicaError as error:  # a password that cannot be read
                found[name] = not_read(config.vms_of(name), sides, error)
    return found
