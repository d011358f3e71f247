"""The options that `failover`, `failback`, `undo` and `commit` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from vreplica.cli.commands.failover.confirm import confirm_option
from vreplica.cli.commands.failover.point_options import PointOptions, point_options
from vreplica.cli.options import Duration

if TYPE_CHECKING:
    from vreplica.failover.machine.choices import FailoverChoices

Decorator = Callable[[Any], Any]

target_argument = click.argument("target", metavar="JOB|group:NAME")

on_error_option = click.option(
    "--on-error",
    type=click.Choice(["stop", "continue"]),
    help="Of a group: what to do when a member fails. Default: as the job file says.",
)

by_service_option = click.option(
    "--by-service",
    is_flag=True,
    help="Ask the service to do it and wait for the end. The service continues whatever becomes"
    " of this process. Without it: from this process, service or not.",
)


@dataclass(frozen=True, slots=True)
class BeginOptions:
    """The options of `failover` and `failback`, by the names that click gives them."""

    final_sync: str | None
    on_shutdown_timeout: str
    shutdown_timeout: float
    heartbeat_timeout: float
    boot: PointOptions
    require: str
    max_downtime: float | None
    disconnect_source_nics: bool
    source_lost: bool
    dry_run: bool
    confirm: str | None
    commit: bool
    on_error: str | None
    by_service: bool

    def check(self, answer: str | None) -> None:
        """Raises UsageError where this answer and the other options contradict each other."""
        named = self.boot.names_a_point
        if named is not None and answer == "yes" and not self.source_lost:
            raise click.UsageError(
                f"{named} is for --final-sync no: yes boots what it synchronises"
            )

    def choices(self, answer: str) -> FailoverChoices:
        """The operator's decisions, with `yes` or `no` for the final sync."""
        from vreplica.failover.machine.choices import FailoverChoices, FinalSync, OnShutdownTimeout
        from vreplica.points.level import Level

        self.check(answer)
        return FailoverChoices(
            final_sync=FinalSync(answer),
            on_shutdown_timeout=OnShutdownTimeout(self.on_shutdown_timeout),
            shutdown_timeout_s=self.shutdown_timeout,
            heartbeat_timeout_s=self.heartbeat_timeout,
            boot=self.boot.choice(),
            require=Level(self.require),
            source_lost=self.source_lost,
            max_downtime_s=self.max_downtime,
            disconnect_source_nics=self.disconnect_source_nics,
        )


_BEGIN: tuple[Decorator, ...] = (
    click.option(
        "--final-sync",
        type=click.Choice(["yes", "no", "cancel"]),
        help="yes, planned: shut the guest down, synchronise once more, boot that. no, emergency:"
        " power the source off, hard, and boot an earlier point. Without it you are asked.",
    ),
    click.option(
        "--on-shutdown-timeout",
        type=click.Choice(["abort", "use-quiesced", "power-off", "wait"]),
        default="abort",
        show_default=True,
        help="What to do when the guest does not shut down, or Tools are not running.",
    ),
    click.option("--shutdown-timeout", type=Duration(), default="10m", show_default=True),
    click.option("--heartbeat-timeout", type=Duration(), default="5m", show_default=True),
    point_options,
    click.option(
        "--require",
        type=click.Choice(["crash", "filesystem", "application", "clean-shutdown"]),
        default="crash",
        show_default=True,
        help="Boot nothing below this level.",
    ),
    click.option(
        "--max-downtime",
        type=Duration(),
        help="While the source runs, repeat the pass until one takes no longer (five at most).",
    ),
    click.option(
        "--disconnect-source-nics",
        is_flag=True,
        help="Once the source is off, disconnect its network cards; `undo` connects them.",
    ),
    click.option("--source-lost", is_flag=True, help="The source is lost: do not contact it."),
    click.option("--dry-run", is_flag=True, help="Show what is known and stop."),
    confirm_option,
    click.option("--commit", is_flag=True, help="Commit once the replica answers; 9 if not."),
    on_error_option,
    by_service_option,
)


def begin_options(callback: Any) -> Any:
    """Adds the options whose values make a `BeginOptions`."""
    for option in reversed(_BEGIN):
        callback = option(callback)
    return callback
