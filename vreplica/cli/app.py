"""The command group of `vreplica-sync`, with the table of its commands."""

from __future__ import annotations

from typing import Final

import click

import vreplica
from vreplica.cli.exit_codes import TABLE
from vreplica.cli.lazy_group import Lazy, LazyGroup

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

COMMANDS: Final = {
    "demo": Lazy("demo.command:demo", "Try everything on an embedded lab."),
    "init": Lazy("init:init", "Write a first job file from what the sites have."),
    "check": Lazy("check:check", "Try everything that the jobs need; change nothing."),
    "jobs": Lazy("jobs:jobs", "List the jobs of the job file."),
    "plan": Lazy("plan:plan", "Show what the next runs will do, and why."),
    "run": Lazy("run:run", "Bring replicas up to date."),
    "pause": Lazy("pause:pause", "Pause the current run of a job."),
    "resume": Lazy("resume:resume", "Continue a run that was paused."),
    "points": Lazy("points:points", "List recovery points."),
    "seed": Lazy("seed:seed", "Make a replica from disks that are at the destination."),
    "verify": Lazy("verify:verify", "Compare recovery points with their sources."),
    "verify-report": Lazy("verify_report:verify_report", "Check a signed verification report."),
    "failover": Lazy("failover.failover:failover", "Bring a replica into service."),
    "failback": Lazy("failover.failback:failback", "Bring a failed-over VM back."),
    "undo": Lazy("failover.undo:undo", "Put both sides back after a failover."),
    "commit": Lazy("failover.commit:commit", "Make a failover permanent."),
    "failovers": Lazy("failover.failovers:failovers", "List the failovers of all jobs."),
    "serve": Lazy("service.serve:serve", "Run all jobs by their schedules, as a service."),
    "status": Lazy(
        "service.status:status", "Show where each VM is, its newest point, its next run."
    ),
    "history": Lazy("service.history:history", "List the latest runs and failovers."),
    "audit": Lazy("service.audit:audit", "Show the audit trail."),
    "schedule": Lazy("service.schedule:schedule", "Pause and resume the schedule of jobs."),
    "notify": Lazy("service.notify:notify", "Test the receivers of notifications."),
    "catalog": Lazy("service.catalog:catalog", "Rebuild or migrate the catalog of the service."),
    "test-failover": Lazy(
        "failover.test_failover:test_failover", "Try a recovery point apart from production."
    ),
    "thumbprint": Lazy("thumbprint:thumbprint", "Print a server's certificate thumbprint."),
    "schema": Lazy("schema:schema", "Print the job file's JSON schema, for editors."),
    "lab": Lazy("lab:lab", "Start two vCenters on this machine, to try things out."),
}
"""Every command, in the order in which people need them."""


@click.group(cls=LazyGroup, table=COMMANDS, context_settings=CONTEXT, epilog=TABLE)
@click.version_option(vreplica.__version__, prog_name="vreplica-sync")
def app() -> None:
    """Block-level replication of VMware VMs for disaster recovery.

    \b
    vreplica-sync demo                 try everything on an embedded lab
    vreplica-sync init                 write a first job file
    vreplica-sync check                check everything that the jobs need
    vreplica-sync plan                 show what the next runs will do, and why
    vreplica-sync run web01 db01       bring these replicas up to date
    vreplica-sync verify web01         compare a replica with its source
    vreplica-sync failover web01       bring the replica into service
    vreplica-sync failback web01       bring it back, after the failover is committed
    """
