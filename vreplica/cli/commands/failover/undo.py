"""`undo JOB`: puts both sides back after a failover."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.commands.failover.carry_out import carry_out
from vreplica.cli.commands.failover.choose import choose_target
from vreplica.cli.commands.failover.confirm import confirm_option, confirmed, name_to_type
from vreplica.cli.commands.failover.options import by_service_option, target_argument
from vreplica.cli.options import Duration, command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.failover.machine.choices import UndoChoices
    from vreplica.failover.target import FailoverTarget


IN_SERVICE: Final = frozenset({"fenced", "booting", "running", "keeping", "stopped"})
"""States in which the VM to which it led may run. `stopped`: the members of a group differ."""


@click.command()
@target_argument
@config_option
@click.option(
    "--even-without-source",
    is_flag=True,
    help="Stop the replica although the source cannot be read; then neither may run.",
)
@click.option(
    "--on-shutdown-timeout",
    type=click.Choice(["abort", "power-off", "wait"]),
    default="abort",
    show_default=True,
    help="What to do when the replica's guest does not shut down, or Tools are not running.",
)
@click.option("--shutdown-timeout", type=Duration(), default="10m", show_default=True)
@click.option(
    "--discard-written", is_flag=True, help="Throw away what was written in service: keep nothing."
)
@click.option("--dry-run", is_flag=True, help="Show what is stopped and what it wrote, and stop.")
@confirm_option
@by_service_option
@command
def undo(
    out: Output,
    target: str,
    config: Config,
    even_without_source: bool,
    on_shutdown_timeout: str,
    shutdown_timeout: float,
    discard_written: bool,
    dry_run: bool,
    confirm: str | None,
    by_service: bool,
) -> int:
    """Replica off and back on its recovery point, source on, JOB on. Not after a commit.

    The source's host is asked first: where it does not answer, nothing is stopped (exit code 3).
    The replica's guest is shut down, and what was written in service is kept as a side branch
    (`points` lists it, `--point un-...` boots it). Confirmed by typing the VM's name.
    """
    from vreplica.failover.machine.choices import OnShutdownTimeout, UndoChoices

    chosen = choose_target(out, config, target, by_service=by_service)
    choices = UndoChoices(
        even_without_source=even_without_source,
        discard_written=discard_written,
        on_shutdown_timeout=OnShutdownTimeout(on_shutdown_timeout),
        shutdown_timeout_s=shutdown_timeout,
    )
    unfinished, name = chosen.unfinished(), name_to_type(config, target)
    decides = by_service or (unfinished is not None and str(unfinished.state) in IN_SERVICE)
    if dry_run or decides:
        text = _shown(out, chosen, choices, name, dry_run=dry_run)
        if dry_run or not confirmed(out, name, text, confirm):
            return exit_codes.OK
    return carry_out(
        out,
        chosen,
        lambda report, on_event: chosen.undo(report, on_event, choices=choices),
        given_up=exit_codes.OK,
    )


def _shown(
    out: Output, chosen: FailoverTarget, choices: UndoChoices, name: str, *, dry_run: bool
) -> str:
    """Shows what the undo stops, and how much that has written. Returns it as one sentence."""
    from vreplica.failover.machine.errors import NoFailover

    try:
        known = chosen.preview_undo(choices)
    except NoFailover:
        if dry_run:
            raise
        # A mover on another machine has its journal.
        return f"undo takes {name} out of service; how much it has written is not known here"
    if dry_run or not out.as_json:
        views = render.failover_views
        out.answer(views.kind_of(known), known.to_dict(), lambda: views.undo_preview(known))
    return render.failover_views.undo_consequence(known)
