"""serve, status, history, schedule pause|resume, catalog rebuild: many jobs, kept in step."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vreplica.cli import exits
from vreplica.cli.catalog_updates import installed, opened, user
from vreplica.cli.commands.run import each_job
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render import text as show
from vreplica.cli.render.output import Output
from vreplica.errors import PreflightError

if TYPE_CHECKING:
    from vreplica.sync.job import Job

LOOK_S = 0.2
"""Between two looks whether the service was asked to stop."""


@dataclass(eq=False)
class NoSchedule(PreflightError):
    template = "job {job} has no schedule: the service does not run it, so there is nothing to {do}"
    remedy = (
        "Give it a `schedule` in the job file; a run that is going on is held by "
        "`vreplica-sync pause {job}`."
    )
    job: str
    do: str


def _mover(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise click.BadParameter("letters, digits, '.', '_' and '-', at most 80; no path")
    return name


@click.command(short_help="Run all jobs by their schedules, as a service.")
@config_option
@click.option(
    "--mover", callback=_mover, metavar="NAME", help="This mover's name. Default: the host's."
)
@command
def serve(out: Output, config: Path | None, mover: str | None) -> int:
    """Run every job that has a schedule, until SIGTERM, SIGHUP or Ctrl-C.

    With a PostgreSQL database in [service] several machines share the work: `serve` on another
    one, with the same file, joins. What runs when the service is stopped is cancelled and leaves
    nothing behind; what was cut off by a crash is put in order when it starts again.
    """
    import vreplica

    with installed():
        from vreplica.service.service import Service
    from vreplica.cli.service_log import log_to_stderr

    log_to_stderr(as_json=out.as_json, verbose=out.verbosity > 1)
    service = Service(vreplica.load(config), mover=mover)
    asked: list[int] = []

    def stop(number: int, _: Any) -> None:
        # No more than this: a lock that the interrupted line holds would never be free again.
        asked.append(number)

    # nohup and shells in the background let a process ignore some; so be it.
    signals = [
        number
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = [signal.signal(number, stop) for number in signals]
    try:
        service.start()
        while not asked and not service.wait(LOOK_S):
            pass
    finally:
        told = service.stop()
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
    if not told:
        # Threads that wait for the database would keep the process, for as long as it is away.
        os._exit(exits.OK)
    return exits.OK


@click.command(short_help="How old is each replica, and what comes next?")
@jobs_argument
@config_option
@command
def status(out: Output, config: Path | None, jobs: tuple[str, ...]) -> int:
    """Tell of each scheduled job how old its newest point is, and when and why it runs next.

    Reads the service's catalog; nothing is changed. Ends with 11 when an RPO is violated.
    """
    import vreplica

    loaded = vreplica.load(config)
    names = loaded.select(jobs)
    with opened(loaded) as catalog:
        from vreplica.service.status import job_status

        found = job_status(catalog, {n: r for n in names if (r := loaded.rule(n))})
    if out.as_json:
        for one in found:
            out.json(one.to_dict())
    else:
        table = show.grid("job", "point", "target?", "state", "next?", "why~")
        for one in found:
            table.add_row(
                one.job,
                _age(one.age),
                _age(one.target) if one.target else "-",
                one.state,
                _moment(one.next_at),
                one.why,
            )
        if found:
            out.show(table)
        for one in found:
            if one.flagged is not None:
                out.warning(
                    f"{one.job}: point {one.flagged} looks like mass encryption; the clean one"
                    f" before it is kept until `vreplica-sync points {one.job} --accept`"
                )
        unplanned = [n for n in names if loaded.rule(n) is None]
        if unplanned:
            out.note(f"without a schedule, so only `run` runs them: {', '.join(unplanned)}")
    return exits.RPO_VIOLATED if any(one.violated for one in found) else exits.OK


@click.command(short_help="What the service did.")
@jobs_argument
@config_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=30, show_default=True)
@command
def history(out: Output, config: Path | None, jobs: tuple[str, ...], limit: int) -> int:
    """List the service's latest runs and failovers, newest first."""
    import vreplica

    loaded = vreplica.load(config)
    names = loaded.select(jobs)
    with opened(loaded) as catalog:
        rows = catalog.history(names, limit)
    if out.as_json:
        for row in rows:
            out.json({k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()})
        return exits.OK
    table = show.grid("begun", "job", "what", "state", "took>?", "mover?", "error~")
    for row in rows:
        took = (row["ended"] - row["began"]).total_seconds() if row["ended"] and row["began"] else 0
        table.add_row(
            _moment(row["began"] or row["queued"]),
            row["job"],
            row["order"]["do"] if row["order"] else row["kind"],
            row["state"],
            show.duration(took) if took else "-",
            row["mover"],
            row["error"] or "",
        )
    if rows:
        out.show(table)
    else:
        out.note("the service has done nothing for these jobs yet; `run` is not listed here")
    return exits.OK


@click.group(short_help="Pause and resume the schedule of jobs.")
def schedule() -> None:
    """Pause and resume the schedule of jobs; a run that is under way goes on."""


@schedule.command("pause")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@config_option
@command
def pause(out: Output, config: Path | None, jobs: tuple[str, ...]) -> int:
    """Begin no more runs of these jobs until they are resumed. `run` works all the same."""
    return _pause(out, config, jobs, paused=True)


@schedule.command("resume")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@config_option
@command
def resume(out: Output, config: Path | None, jobs: tuple[str, ...]) -> int:
    """Plan these jobs again, from now on."""
    return _pause(out, config, jobs, paused=False)


def _pause(out: Output, config: Path | None, jobs: tuple[str, ...], *, paused: bool) -> int:
    import vreplica

    loaded = vreplica.load(config)
    names = loaded.select(jobs)
    with opened(loaded) as catalog:

        def one(name: str) -> int:
            if loaded.rule(name) is None:
                raise NoSchedule(name, "pause" if paused else "resume")
            changed = catalog.pause(name, user(), paused=paused)
            word = "paused" if paused else "planned again"
            text = word if changed else f"was {word} already"
            out.answer({"job": name, "paused": paused, "changed": changed}, f"{name}: {text}")
            return exits.OK

        codes = [exits.guarded(out, partial(one, name), job=name) for name in names]
    return next((code for code in codes if code), exits.OK)


@click.group(short_help="The service's catalog.")
def catalog() -> None:
    """The service's catalog of jobs, runs, points and failovers. It can be lost."""


@catalog.command()
@jobs_argument
@config_option
@command
def rebuild(out: Output, config: Path | None, jobs: tuple[str, ...]) -> int:
    """Read points from the destinations and failovers from their journals into the catalog."""
    import vreplica

    with opened(vreplica.load(config)) as there:
        from vreplica.service.catalog import projection

        def work(job: Job) -> int:
            points = vreplica.recovery_points(job)
            projection.rebuild(there, user(), job, points)
            out.answer(
                {"job": job.name, "points": len(points)},
                f"{job.name}: {show.counted(len(points), 'recovery point')}",
            )
            return exits.OK

        return each_job(out, config, jobs, work)


def _moment(at: datetime | None) -> str:
    return show.moment(at) if at else "-"


def _age(age: timedelta | None) -> str:
    return show.duration(age.total_seconds()) if age is not None else "none yet"
