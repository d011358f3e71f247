"""`seed`: makes a replica from disks that are at the destination already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.guard import guarded
from vreplica.cli.options import command, config_option
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command()
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
def seed(out: Output, job: str, sources: tuple[str, ...], config: Config) -> int:
    """Make the replica of JOB from copies of disks that are at the destination already.

    The destination's host makes the copies; the originals stay as they are. Each copy is read
    once, and the next run writes only what differs from the source.
    """
    from vreplica.cli.render.progress import Watcher
    from vreplica.cli.signals import Cancellation
    from vreplica.sync.replica.seed import seed as make_replica

    with Cancellation(out, "the replica that was begun is removed again") as cancellation:

        def work() -> int:
            found = config[job]
            with Watcher(out, job) as watcher:
                report = make_replica(
                    found, sources, listener=watcher, control=cancellation.control
                )
            out.answer("seed", report.to_dict(), lambda: render.text.seed(report))
            return exit_codes.OK

        code = guarded(out, work, job=job)
    return cancellation.code or code
