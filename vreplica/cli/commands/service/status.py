"""`status`: shows how old the newest point of each job is, and when and why it runs next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.open_catalog import installed
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from datetime import timedelta

    from vreplica.config import Config
    from vreplica.service.status import JobStatus


@click.command()
@jobs_argument
@config_option
@command
def status(out: Output, config: Config, jobs: tuple[str, ...]) -> int:
    """Show how old each scheduled job's newest point is, and when and why the job runs next.

    Reads the service's catalog and changes nothing; no site is asked. Ends with 11 when a job's
    newest point is older than its target.
    """
    with installed():
        from vreplica.service.status import status as read_status
    found = read_status(config, jobs)
    if out.as_json:
        for one in found:
            out.json("status", one.to_dict())
    else:
        _show(out, found)
        for name in config.select(jobs):
            if config.rule(name) is None:
                out.note(f"{name}: no schedule (run by hand)")
    return exit_codes.RPO_VIOLATED if any(one.violated for one in found) else exit_codes.OK


def _show(out: Output, found: Sequence[JobStatus]) -> None:
    table = render.text.grid("job", "point", "target?", "state", "next?", "why~")
    for one in found:
        table.add_row(
            one.job,
            "not known" if one.point_ahead else _age(one.age),
            _age(one.target) if one.target else "-",
            one.state,
            render.text.moment(one.next_at) if one.next_at else "-",
            one.why,
        )
    if found:
        out.show(table)
    for one in found:
        if one.flagged is not None:
            out.warning(
                f"{one.job}: point {one.flagged} looks like mass encryption; the last clean point"
                f" before it is kept until `vreplica-sync points {one.job} --accept {one.flagged}`"
            )


def _age(age: timedelta | None) -> str:
    return render.text.duration(age.total_seconds()) if age is not None else "none known"
