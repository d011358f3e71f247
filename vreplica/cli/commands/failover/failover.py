"""The command group `failover`."""

from __future__ import annotations

from typing import Final

import click

from vreplica.cli.lazy_group import Lazy, LazyGroup

COMMANDS: Final = {
    "begin": Lazy("failover.begin:begin", "Begin a failover (what `failover JOB` does)."),
    "resume": Lazy("failover.resume:resume", "Continue a failover that stopped."),
    "adopt": Lazy("failover.adopt:adopt", "Continue a failover of a mover that is lost."),
    "show": Lazy("failover.show:show", "Show what a failover did."),
    "list": Lazy("failover.list:list_", "List a job's failovers."),
}


class JobOrCommand(LazyGroup):
    """`failover web01` is `failover begin web01`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {"-h", "--help", *COMMANDS}:
            args = ["begin", *args]
        return super().parse_args(ctx, args)


@click.group(cls=JobOrCommand, table=COMMANDS)
def failover() -> None:
    """Bring the replica of a job into service: failover JOB [OPTIONS].

    \b
    failover web01                    shows what is known, asks: planned, emergency, cancel
    failover web01 --final-sync yes   planned: guest shutdown, final sync, replica on
    failover web01 --source-lost      the source's site is lost: it is not touched
    failover group:shop               the same for all jobs of a group, in their order
    failover begin --help             all options

    Until the commit, `vreplica-sync undo JOB` goes back.
    """
