"""seed: begin a replica with what is at the destination already."""

from __future__ import annotations

from pathlib import Path

import click

from vreplica.cli import exits
from vreplica.cli.options import command, config_option
from vreplica.cli.render import text
from vreplica.cli.render.output import Output


@click.command(short_help="Begin a replica with what is at the destination.")
@click.argument("job")
@click.option(
    "--from",
    "sources",
    multiple=True,
    required=True,
    metavar="WHAT",
    help="At the destination: a VM (a clone, a restored backup, another job's replica), or"
    " '[datastore] dir/disk.vmdk', once for each disk in their order, or 'Hard disk 2=[...]'.",
)
@config_option
@command
def seed(out: Output, job: str, sources: tuple[str, ...], config: Path | None) -> int:
    """Make the replica of JOB from copies of what is at the destination already.

    The destination's host makes the copies; what they are made from stays as it is. Each copy is
    read once, and the next run ships only what differs from the source.
    """
    import vreplica
    from vreplica.cli.render.progress import Watcher
    from vreplica.cli.signals import Cancellation
    from vreplica.sync.replica.seed import seed as make

    with Cancellation(out, "the replica that was begun is removed again") as cancellation:

        def work() -> int:
            found = vreplica.load(config)[job]
            with Watcher(out, job) as watcher:
                report = make(found, sources, listener=watcher, control=cancellation.control)
            out.answer(report.to_dict(), *text.seed(report))
            return exits.OK

        code = exits.guarded(out, work, job=job)
    return cancellation.code or code
