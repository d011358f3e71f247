"""run, plan, points: one job after the other, whatever becomes of those before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vreplica.cli import catalog_updates, exits
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render import text
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.sync.job import Job

LEVELS = ("crash", "filesystem", "application")


@click.command(short_help="Bring replicas up to date.")
@jobs_argument
@config_option
@click.option("--verify", is_flag=True, help="Then compare the new point with the source.")
@click.option(
    "--on-cbt-loss",
    type=click.Choice(["ask", "rescan", "fail"]),
    help="What to do when changed block tracking cannot say what changed: ask = rescan where it"
    " was reset, stop where somebody switched it off. Default: as the job says.",
)
@click.option(
    "--discard-replica-changes",
    is_flag=True,
    help="Where somebody has changed the replica since its latest point (started it, written to"
    " its disks): take it back to that point, once. Default: stop, or as the job says.",
)
@click.option(
    "--require",
    type=click.Choice(LEVELS),
    help="Fail rather than make a point below this level. Default: as the job says.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    metavar="MIB_S",
    help="Read at most so many MiB a second, whatever the job's limits say; 0: no limit.",
)
@command
def run(
    out: Output,
    jobs: tuple[str, ...],
    config: Path | None,
    verify: bool,
    on_cbt_loss: str | None,
    discard_replica_changes: bool,
    require: str | None,
    rate: float | None,
) -> int:
    """Bring replicas up to date: one new recovery point for each JOB (default: all jobs).

    The first run copies everything that is allocated, later ones what has changed. A run that
    fails or is cancelled leaves the replica on its last recovery point.
    """
    import vreplica
    from vreplica.cli.render.progress import Watcher
    from vreplica.cli.signals import Cancellation
    from vreplica.points import Level
    from vreplica.sync.job import Limits, OnCbtLoss, OnReplicaChange
    from vreplica.units import MIB

    changes: dict[str, Any] = {}
    if on_cbt_loss is not None:
        changes["on_cbt_loss"] = OnCbtLoss(on_cbt_loss)
    if discard_replica_changes:
        changes["on_replica_change"] = OnReplicaChange.DISCARD
    if require is not None:
        changes["require"] = Level(require)
    if rate is not None:
        changes["limits"] = Limits(rate * MIB or None)

    then = "the replica goes back to its last recovery point"
    with Cancellation(out, then) as cancellation:

        def work(job: Job) -> int:
            with Watcher(out, job.name) as watcher:
                report = vreplica.run(
                    replace(job, **changes),
                    listener=watcher,
                    verify=verify,
                    control=cancellation.control,
                )
            out.answer(report.to_dict(), *text.run(report))
            catalog_updates.tell_run(out, config, job, report)
            unequal = report.verified is not None and not report.verified.equal
            if unequal:
                return exits.DIFFERENT
            return exits.SUSPICIOUS if report.point.flagged else exits.OK

        code = each_job(out, config, jobs, work, lambda: cancellation.code is not None)
    return cancellation.code or code


@click.command(short_help="Say what the next runs would do, and why.")
@jobs_argument
@config_option
@command
def plan(out: Output, jobs: tuple[str, ...], config: Path | None) -> int:
    """Say what the next run of each JOB would do, and why. Changes nothing.

    Ends with 3 when something keeps the next run from starting.
    """
    import vreplica

    def work(job: Job) -> int:
        report = vreplica.plan(job)
        out.answer(report.to_dict(), *text.plan(report))
        return exits.PREFLIGHT if report.problems else exits.OK

    return each_job(out, config, jobs, work)


@click.command(short_help="List recovery points.")
@jobs_argument
@config_option
@click.option(
    "--retention",
    is_flag=True,
    help="Say what keeps each point, and which ones may go.",
)
@click.option(
    "--accept",
    multiple=True,
    metavar="ID",
    help="Take the flag of this point as looked at: what stood before it may go again.",
)
@command
def points(
    out: Output,
    jobs: tuple[str, ...],
    config: Path | None,
    retention: bool,
    accept: tuple[str, ...],
) -> int:
    """List the recovery points of each JOB, as the destination itself has them.

    A point is flagged when the change that led to it looks like mass encryption. Until it is
    accepted, the last clean point before it is kept, whatever retention says.
    """
    import vreplica
    from vreplica.sync import recovery_points

    if accept and len(vreplica.load(config).select(jobs)) > 1:
        raise click.UsageError("--accept is for the points of one JOB")

    def work(job: Job) -> int:
        found = recovery_points.accept(job, accept) if accept else vreplica.recovery_points(job)
        if accept:
            catalog_updates.tell_points(out, config, job, found)
        if retention:
            verdicts = job.retention.review(found)
            kept = [
                {"id": v.point.id, "stays": v.stays, "reasons": list(v.reasons)} for v in verdicts
            ]
            rule = job.retention.describe()
            value = {"job": job.name, "keep": rule, "points": kept}
            out.answer(value, *text.retention(job.name, rule, verdicts))
            return exits.OK
        value = {"job": job.name, "points": [point.to_dict() for point in found]}
        out.answer(value, *text.points(job.name, found))
        return exits.OK

    return each_job(out, config, jobs, work)


def each_job(
    out: Output,
    config: Path | None,
    names: tuple[str, ...],
    work: Callable[[Job], int],
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """The exit code of the first job that failed."""
    import vreplica

    loaded = vreplica.load(config)
    codes = []
    for name in loaded.select(names):
        codes.append(exits.guarded(out, partial(_with_job, work, loaded, name), job=name))
        if stopped() or codes[-1] in exits.FINAL:
            break
    return next((code for code in codes if code), exits.OK)


def _with_job(work: Callable[[Job], int], config: Config, name: str) -> int:
    return work(config[name])
