"""failover JOB, failover resume|show|list JOB, undo JOB, commit JOB.

`failover JOB` shows what is known and asks Yes, No or Cancel; where no terminal is there, or
the answer was given with --final-sync, it never asks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import RenderableType

from vreplica.cli import catalog_updates, exits, via_service
from vreplica.cli.commands import group_failover
from vreplica.cli.options import Duration, OutputFile, command, config_option
from vreplica.cli.render import failover_text
from vreplica.cli.render.output import Output
from vreplica.errors import VReplicaError

if TYPE_CHECKING:
    from vreplica.failover.machine.choices import Choices
    from vreplica.failover.machine.context import Reporter
    from vreplica.failover.machine.record import Outcome
    from vreplica.sync.events import Listener
    from vreplica.sync.job import Job

job_argument = click.argument("job", metavar="JOB|group:NAME")
on_error_option = click.option(
    "--on-error",
    type=click.Choice(["stop", "continue"]),
    help="Of a group: what to do when a member fails. Default: as the job file says.",
)


class JobOrCommand(click.Group):
    """`failover web01` is `failover begin web01`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names = {"-h", "--help", *self.commands}
        if args and not any(a in names for a in args[:1]):
            args = ["begin", *args]
        return super().parse_args(ctx, args)


@click.group(cls=JobOrCommand, short_help="Bring a replica into service.")
def failover() -> None:
    """Bring the replica of a job into service: failover JOB [OPTIONS].

    \b
    failover web01                    shows what is known, asks Yes / No / Cancel
    failover web01 --final-sync yes   guest shutdown, final sync, replica on
    failover group:shop               the same for all jobs of a group, in their order
    failover begin --help             all options

    Until the commit, `vreplica-sync undo JOB` puts both sides back.
    """


@failover.command(short_help="Begin a failover (what `failover JOB` does).")
@job_argument
@config_option
@click.option(
    "--final-sync",
    type=click.Choice(["yes", "no", "cancel"]),
    help="yes: shut the guest down, synchronise once more, boot that. no: power the source off"
    " and boot an earlier point. Without it you are asked.",
)
@click.option(
    "--on-shutdown-timeout",
    type=click.Choice(["abort", "use-quiesced", "power-off", "wait"]),
    default="abort",
    show_default=True,
    help="What to do when the guest does not shut down, or Tools are not running.",
)
@click.option("--shutdown-timeout", type=Duration(), default="10m", show_default=True)
@click.option("--heartbeat-timeout", type=Duration(), default="5m", show_default=True)
@click.option("--point", metavar="ID", help="For no: the recovery point to boot.")
@click.option(
    "--require",
    type=click.Choice(["crash", "filesystem", "application", "clean-shutdown"]),
    default="crash",
    show_default=True,
    help="Boot nothing below this level.",
)
@click.option(
    "--max-downtime",
    type=Duration(),
    help="Repeat the pass while the source runs until one takes no longer (five at most).",
)
@click.option(
    "--disconnect-source-nics",
    is_flag=True,
    help="Once the source is off, keep its network cards disconnected; `undo` connects them.",
)
@click.option("--source-lost", is_flag=True, help="The source is gone: it is not contacted.")
@click.option("--dry-run", is_flag=True, help="Show what is known and stop.")
@click.option(
    "--commit", "commit_too", is_flag=True, help="Commit once the replica answers; 9 if not."
)
@on_error_option
@via_service.by_service_option
@command
def begin(
    out: Output,
    job: str,
    config: Path | None,
    final_sync: str | None,
    on_shutdown_timeout: str,
    shutdown_timeout: float,
    heartbeat_timeout: float,
    point: str | None,
    require: str,
    max_downtime: float | None,
    disconnect_source_nics: bool,
    source_lost: bool,
    dry_run: bool,
    commit_too: bool,
    on_error: str | None,
    by_service: bool,
) -> int:
    """Fail JOB over to its replica, or all jobs of a group."""
    from vreplica.failover import history, operations
    from vreplica.failover.preview import preview

    check_point(final_sync, point, source_lost)
    group = group_failover.Commands(out, job, config) if group_failover.is_group(job) else None
    if group is not None:
        if point is not None:
            raise click.UsageError("--point is of one job: a group's members each boot their best")
        value, shown = group.previews(source_lost=source_lost, max_downtime_s=max_downtime)
    else:
        found = load_job(job, config)
        known = preview(found, source_lost=source_lost)
        known = known.choosing(point) if point is not None else known
        value = known.to_dict(max_downtime)
        shown = failover_text.preview(known, max_downtime)
    answer = decided(out, value, shown, final_sync, dry_run=dry_run)
    if answer is None:
        return exits.OK
    choices = choices_of(
        answer,
        on_shutdown_timeout=on_shutdown_timeout,
        shutdown_timeout=shutdown_timeout,
        heartbeat_timeout=heartbeat_timeout,
        point=point,
        require=require,
        max_downtime=max_downtime,
        disconnect_source_nics=disconnect_source_nics,
        source_lost=source_lost,
    )
    if by_service:
        return via_service.ask(out, config, job, "begin", choices, commit=commit_too)
    if group is not None:
        return group.begin(choices, on_error, commit=commit_too)
    new = history.new_failover_id()
    catalog_updates.reserve(out, config, found, new)
    start = partial(operations.begin, found, choices, id_=new)
    return carry_out(out, config, found, start, commit_too=commit_too, reserved=new)


@failover.command(short_help="Go on with a failover that stopped.")
@job_argument
@config_option
@click.option("--source-lost", is_flag=True, help="The source is gone since: go on without it.")
@on_error_option
@via_service.by_service_option
@command
def resume(
    out: Output,
    job: str,
    config: Path | None,
    source_lost: bool,
    on_error: str | None,
    by_service: bool,
) -> int:
    """Go on where JOB's failover stopped. Whoever ran it before can do nothing more."""
    from vreplica.failover import operations

    if source_lost and (by_service or group_failover.is_group(job)):
        raise click.UsageError("--source-lost is of one job, and from here")
    if by_service:
        return via_service.ask(out, config, job, "resume")
    if group_failover.is_group(job):
        return group_failover.Commands(out, job, config).resume(on_error)
    found = load_job(job, config)
    return carry_out(out, config, found, partial(operations.resume, found, source_lost=source_lost))


@failover.command(short_help="Tell what a failover did.")
@job_argument
@config_option
@click.option("--page", type=OutputFile(), metavar="FILE", help="Write it as an HTML page too.")
@click.option(
    "--check", is_flag=True, help="Compare it with vCenter's own tasks and events; 8: they differ."
)
@command
def show(out: Output, job: str, config: Path | None, page: Path | None, check: bool) -> int:
    """Tell where JOB's failover stands and everything that it did, with times."""
    from vreplica.cli.render import failover_html
    from vreplica.failover import history
    from vreplica.failover.crosscheck import compare
    from vreplica.failover.machine.journal import load
    from vreplica.failover.machine.record import record_of

    if group_failover.is_group(job):
        return group_failover.Commands(out, job, config).show(page, check=check)
    found = load_job(job, config)
    folder = history.current(found)
    record = record_of(job, folder.name, load(folder))
    checked = compare(found, record) if check else None
    if page is not None:
        page.write_text(failover_html.single(record, checked), encoding="utf-8")
    entries = [failover_text.entry_dict(e) for e in record.entries]
    value = {**record.to_dict(), "entries": entries}
    if checked is not None:
        value["check"] = checked.to_dict()
    out.answer(value, *failover_text.record(record, checked))
    return exits.DIFFERENT if checked is not None and not checked.equal else exits.OK


@failover.command("list", short_help="List a job's failovers.")
@job_argument
@config_option
@command
def list_(out: Output, job: str, config: Path | None) -> int:
    """List JOB's failovers, oldest first."""
    from vreplica.failover import history

    if group_failover.is_group(job):
        return group_failover.Commands(out, job, config).list()
    found = history.outcomes(load_job(job, config))
    value = {"job": job, "failovers": [outcome.to_dict() for outcome in found]}
    out.answer(value, *failover_text.listing(job, found))
    return exits.OK


@click.command(short_help="Put both sides back after a failover.")
@job_argument
@config_option
@via_service.by_service_option
@command
def undo(out: Output, job: str, config: Path | None, by_service: bool) -> int:
    """Replica off and back on its recovery point, source on, JOB on. Not after a commit."""
    from vreplica.failover import operations

    if by_service:
        return via_service.ask(out, config, job, "undo")
    if group_failover.is_group(job):
        return group_failover.Commands(out, job, config).undo()
    found = load_job(job, config)
    code = carry_out(out, config, found, partial(operations.undo, found))
    # Given up is what was asked for.
    return exits.OK if code == exits.STOPPED else code


@click.command(short_help="Make a failover permanent.")
@job_argument
@config_option
@via_service.by_service_option
@command
def commit(out: Output, job: str, config: Path | None, by_service: bool) -> int:
    """Make JOB's failover permanent: there is no undo afterwards."""
    from vreplica.failover import operations

    if by_service:
        return via_service.ask(out, config, job, "commit")
    if group_failover.is_group(job):
        return group_failover.Commands(out, job, config).commit()
    found = load_job(job, config)
    return carry_out(out, config, found, partial(operations.commit, found))


def check_point(answer: str | None, point: str | None, source_lost: bool) -> None:
    """Also before anything is looked at, where the answer was given."""
    if point is not None and answer == "yes" and not source_lost:
        raise click.UsageError("--point is for --final-sync no: yes boots what it synchronises")


def choices_of(
    answer: str,
    *,
    on_shutdown_timeout: str,
    shutdown_timeout: float,
    heartbeat_timeout: float,
    point: str | None,
    require: str,
    max_downtime: float | None,
    disconnect_source_nics: bool,
    source_lost: bool,
    **_: Any,
) -> Choices:
    """The options of `failover` and `failback` as the operator's word."""
    from vreplica.failover.machine.choices import Choices, FinalSync, OnShutdownTimeout
    from vreplica.points import Level

    check_point(answer, point, source_lost)
    return Choices(
        final_sync=FinalSync(answer),
        on_shutdown_timeout=OnShutdownTimeout(on_shutdown_timeout),
        shutdown_timeout_s=shutdown_timeout,
        heartbeat_timeout_s=heartbeat_timeout,
        point=point,
        require=Level(require),
        source_lost=source_lost,
        max_downtime_s=max_downtime,
        disconnect_source_nics=disconnect_source_nics,
    )


def load_job(name: str, config: Path | None) -> Job:
    import vreplica

    loaded = vreplica.load(config)
    (only,) = loaded.select((name,))
    return loaded[only]


def decided(
    out: Output,
    value: dict[str, Any],
    shown: Iterable[RenderableType],
    final_sync: str | None,
    *,
    dry_run: bool,
) -> str | None:
    """Show what is known, and ask where no answer was given. None: nothing is to be done."""
    if dry_run or not out.as_json:
        out.answer(value, *shown)
    if dry_run or final_sync == "cancel":
        return None
    answer = final_sync or _ask(out)
    if answer == "cancel":
        out.note("cancelled: nothing was changed")
        return None
    for text in failover_text.unseen(value, answer) if out.as_json else ():
        out.warning(text)
    return answer


def _ask(out: Output) -> str:
    """The one question. Never asked where nobody can answer, or has seen what it is about."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise click.UsageError("no terminal to ask at: say --final-sync yes, no or cancel")
    if out.as_json:
        raise click.UsageError("--json asks nothing: say --final-sync yes, no or cancel")
    answer: str = click.prompt(
        "Final synchronisation before the replica starts?",
        type=click.Choice(["yes", "no", "cancel"], case_sensitive=False),
        default="cancel",
        err=True,
    )
    return answer


def carry_out(
    out: Output,
    config: Path | None,
    job: Job,
    work: Callable[[Reporter, Listener], Outcome],
    *,
    commit_too: bool = False,
    reserved: str | None = None,
) -> int:
    """Do it, tell how it ended, and tell the catalog.

    `commit_too`: commit where the replica answers; 9 where it came to no commit. `reserved`: the
    id under which the catalog was told of it before it began.
    """
    from vreplica.cli.render.progress import Watcher
    from vreplica.failover import history, operations
    from vreplica.failover.machine.errors import FailoverUnderWay, NotPossibleNow
    from vreplica.failover.machine.states import FailoverState

    try:
        with Watcher(out, job.name) as watcher:
            outcome = work(watcher.say, watcher)
            answered = outcome.state is FailoverState.RUNNING and outcome.facts.get("answered")
            if commit_too and answered:
                outcome = operations.commit(job, watcher.say, watcher)
    except BaseException as error:
        # Also Ctrl-C and a full disk: the job is off, and perhaps both VMs are.
        stopped = history.unfinished(job)
        then = f"`vreplica-sync failover resume {job.name}` goes on with it"
        if stopped is None or isinstance(error, NotPossibleNow | FailoverUnderWay):
            pass
        elif isinstance(error, VReplicaError):
            error.where.next_run = then
        else:
            undo = f"`vreplica-sync undo {job.name}` goes back"
            out.warning(f"{job.name}: {stopped.id} is {stopped.state}: {then}, {undo}")
        raise
    finally:
        catalog_updates.tell_failovers(out, config, job, reserved)
    out.answer(outcome.to_dict(), *failover_text.outcome(job.name, outcome))
    missed = commit_too and outcome.state is not FailoverState.COMMITTED
    return exits.STOPPED if outcome.state is FailoverState.ABORTED or missed else exits.OK
