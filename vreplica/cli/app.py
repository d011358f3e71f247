"""The command group."""

from __future__ import annotations

import click

import vreplica
from vreplica.cli import exits
from vreplica.cli.commands import run
from vreplica.cli.commands.check import check
from vreplica.cli.commands.demo.command import demo
from vreplica.cli.commands.failback import failback
from vreplica.cli.commands.failover import commit, failover, undo
from vreplica.cli.commands.init import init
from vreplica.cli.commands.lab import lab
from vreplica.cli.commands.notify import notify
from vreplica.cli.commands.pause import pause, resume
from vreplica.cli.commands.schema import schema
from vreplica.cli.commands.seed import seed
from vreplica.cli.commands.service import catalog, history, schedule, serve, status
from vreplica.cli.commands.test_failover import test_failover
from vreplica.cli.commands.thumbprint import thumbprint
from vreplica.cli.commands.verify import verify, verify_report

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class InOrder(click.Group):
    """Lists its commands in the order in which people need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder, context_settings=CONTEXT, epilog=exits.TABLE)
@click.version_option(vreplica.__version__, prog_name="vreplica-sync")
def app() -> None:
    """Block-level replication of VMware VMs for disaster recovery.

    \b
    vreplica-sync demo                 try everything on an embedded lab
    vreplica-sync init                 write a first job file
    vreplica-sync check                is everything there that the jobs need?
    vreplica-sync plan                 what would the next runs do, and why?
    vreplica-sync run web01 db01       bring these replicas up to date
    vreplica-sync verify web01         compare a replica with its source
    vreplica-sync failover web01       bring the replica into service
    vreplica-sync failback web01       and, once that is committed, back to the original
    """


for each in (
    demo,
    init,
    check,
    run.plan,
    run.run,
    pause,
    resume,
    run.points,
    seed,
    verify,
    verify_report,
    failover,
    failback,
    undo,
    commit,
    serve,
    status,
    history,
    schedule,
    notify,
    catalog,
    test_failover,
    thumbprint,
    schema,
    lab,
):
    app.add_command(each)
