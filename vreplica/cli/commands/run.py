"""`run`: brings replicas up to date."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

import vreplica
from vreplica.cli import catalog_updates, exit_codes, render
from vreplica.cli.each_job import each_job
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.sync.job import Job
    from vreplica.sync.report import RunReport

LEVELS: Final = ("crash", "filesystem", "application")


@click.command()
@jobs_argument
@config_option
@click.option("--verify", is_flag=True, help="Then compare the new point with the source.")
@click.option(
    "--on-cbt-loss",
    type=click.Choice(["ask", "rescan", "fail"]),
    help="What to do when changed block tracking cannot say what changed: ask = rescan where it"
    " was reset, stop where it was switched off. Default: as the job says.",
)
@click.option(
    "--rescan",
    is_flag=True,
    help="Read all of both sides, whatever change tracking and digest maps say: rebuild the digest"
    " maps from the replica, and write what differs from the source.",
)
@click.option(
    "--discard-replica-changes",
    is_flag=True,
    help="Where the replica was changed since its latest point (it was started, its disks were"
    " written to): revert it to that point, once. Default: stop, or as the job says.",
)
@click.option(
    "--require",
    type=click.Choice(LEVELS),
    help="Fail instead of making a point below this level. Default: as the job says.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    metavar="MIB_S",
    help="Read at most this many MiB per second, whatever the job's limits say; 0: no limit.",
)
@click.option(
    "--take-over",
    is_flag=True,
    help="Claim the replica also where another mover has it and may be alive. Use it when you know"
    " that mover to be lost; default: its claim ends 10 minutes after it was last renewed.",
)
@command
def run(
    out: Output,
    jobs: tuple[str, ...],
    config: Config,
    verify: bool,
    on_cbt_loss: str | None,
    rescan: bool,
    discard_replica_changes: bool,
    require: str | None,
    rate: float | None,
    take_over: bool,
) -> int:
    """Bring replicas up to date: one new recovery point for each JOB (default: all jobs).

    The first run copies everything that is allocated, later runs copy what has changed. A run
    that fails or is cancelled leaves the replica on its last recovery point.
    """
    from vreplica.cli.render.progress import Watcher
    from vreplica.cli.signals import Cancellation
    from vreplica.sync.sites import SiteSessions

    changes = _changes(on_cbt_loss, rescan, discard_replica_changes, require, rate)
    then = "the replica goes back to its last recovery point"
    with Cancellation(out, then) as cancellation, SiteSessions() as sessions:

        def work(job: Job) -> int:
            job = replace(job, **changes)
            with catalog_updates.recorded(out, config, job.name, "run") as record:
                with Watcher(out, job.name) as watcher:
                    report = vreplica.run(
                        job,
                        listener=watcher,
                        verify=verify,
                        control=cancellation.control,
                        sessions=sessions,
                        take_over=take_over,
                    )
                record.made(job, report)
            out.answer("run", report.to_dict(), lambda: render.text.run(report, job.require))
            return _exit_code(report)

        code = each_job(out, config, jobs, work, lambda: cancellation.code is not None)
    return cancellation.code or code


def _changes(
    on_cbt_loss: str | None,
    rescan: bool,
    discard_replica_changes: bool,
    require: str | None,
    rate: float | None,
) -> dict[str, Any]:
    """The fields of a job that the options replace."""
    from vreplica.points import Level
    from vreplica.sync.job import Limits, OnCbtLoss, OnReplicaChange
    from vreplica.units import MIB

    changes: dict[str, Any] = {}
    if on_cbt_loss is not None:
        changes["on_cbt_loss"] = OnCbtLoss(on_cbt_loss)
    if rescan:
        changes["rescan"] = True
    if discard_replica_changes:
        changes["on_replica_change"] = OnReplicaChange.DISCARD
    if require is not None:
        changes["require"] = Level(require)
    if rate is not None:
        changes["limits"] = Limits(rate * MIB or None)
    return changes


def _exit_code(report: RunReport) -> int:
    if report.verified is not None and not report.verified.equal:
        return exit_codes.DIFFERENT
    return exit_codes.SUSPICIOUS if report.point.flagged else exit_codes.OK
