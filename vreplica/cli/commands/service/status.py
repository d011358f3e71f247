"""`status`: shows where each VM is, how old its newest point is, and when the job runs next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from vreplica.cli import catalog_updates, exit_codes, render
from vreplica.cli.open_catalog import installed
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vreplica.config import Config
    from vreplica.service.status import JobStatus, ServiceStatus


@click.command()
@jobs_argument
@config_option
@click.option("--live", is_flag=True, help="Read both sites of each job, too.")
@command
def status(out: Output, config: Config, jobs: tuple[str, ...], live: bool) -> int:
    """Show where each job's VM is, how old its newest point is, and when and why it runs next.

    Reads the service's catalog and the records of this machine, says how old they are, and changes
    nothing at the sites. With --live it also reads both VMs of each job and the recovery points, as
    their sites have them now. Ends with 7 when both VMs of a job are on, and with 11 when a job's
    newest point is older than its target.
    """
    from vreplica.service.status import read_status

    with installed():
        found = read_status(config, jobs, live=live)
    if out.as_json:
        for one in found.jobs:
            out.json("status", one.to_dict())
        out.json("status-service", found.to_dict())
    else:
        out.show(*_service(found), _table(found.jobs))
        if live:
            out.show(_sides(found.jobs))
    for one in found.jobs:
        _warn(out, one)
    read = {one.job: one.live for one in found.jobs if one.live is not None}
    if both := {name: one for name, one in read.items() if one.both_on}:
        catalog_updates.both_on_seen(out, config, both)
        return exit_codes.WRONG_STATE
    return exit_codes.RPO_VIOLATED if any(one.violated for one in found.jobs) else exit_codes.OK


def _service(found: ServiceStatus) -> Iterator[str]:
    """The catalog with its age, and the movers."""
    if found.catalog is None:
        yield "no catalog has been made: this shows what this machine has done"
    elif found.as_of is None:
        yield f"catalog {found.catalog}: nothing was written to it yet"
    else:
        age = render.text.duration(max(0.0, (found.now - found.as_of).total_seconds()))
        yield f"catalog {found.catalog}: as of {render.text.moment(found.as_of)}, {age} ago"
    for mover in found.movers:
        version = f" {mover.version}" if mover.version else ""
        runs = f"{mover.active} of {mover.capacity} runs"
        until = render.text.moment(mover.until) if mover.until else "-"
        lease = "lease until" if mover.at_work(found.now) else "gone, its lease ended"
        yield f"mover {mover.id}{version}: {runs}, {lease} {until}"
    if not any(mover.at_work(found.now) for mover in found.movers):
        yield "no service is running: nothing is planned; `vreplica-sync serve` starts one"
    if any(not one.asked for one in found.jobs):
        yield "not everything is known here: `vreplica-sync status --live` asks the sites"


def _table(found: Sequence[JobStatus]) -> RenderableType:
    table = render.text.grid("job", "VM at", "point", "target?", "state", "next?", "why~")
    for one in found:
        table.add_row(
            one.job,
            "off at both" if one.vm_off else one.vm_at or "not known",
            _age(one),
            render.text.duration(one.target.total_seconds()) if one.target else "-",
            one.state,
            render.text.moment(one.next_at) if one.next_at else "-",
            one.why,
        )
    return table


def _sides(found: Sequence[JobStatus]) -> RenderableType:
    """Both VMs of each job, as they were read."""
    table = render.text.grid("job", "source, read now~", "replica, read now~")
    for one in found:
        if one.live is not None:
            table.add_row(one.job, one.live.source.in_words(), one.live.replica.in_words())
    return table


def _warn(out: Output, one: JobStatus) -> None:
    live = one.live
    if live is not None and live.both_on:
        out.warning(
            f"{one.job}: {live.alarm()}; `vreplica-sync failover show {one.job}` shows what was "
            "done"
        )
    elif live is not None and live.booted_by is not None and one.failover is None:
        out.warning(
            f"{one.job}: failover {live.booted_by} has booted {live.replica.vm}, and this machine"
            " has no journal of it. Do not power it off: what was written there is in no point"
        )
    elif live is not None and live.source.power is None and not live.replica.on:
        out.warning(
            f"{one.job}: {live.source.vm} at {live.source.site} cannot be read. If that site is "
            f"lost: `vreplica-sync failover {one.job} --source-lost --dry-run` shows what can "
            "start without it"
        )
    if one.flagged is not None:
        out.warning(
            f"{one.job}: point {one.flagged} looks like mass encryption; the last clean point"
            f" before it is kept until `vreplica-sync points {one.job} --accept {one.flagged}`"
        )


def _age(one: JobStatus) -> str:
    if one.age is not None:
        return f"{render.text.duration(one.age.total_seconds())} old"
    if one.point_ahead:
        return "lies ahead"
    return "none yet" if one.asked else "not known here"
