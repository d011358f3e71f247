"""check: is everything there that the next runs need? One report per job, nothing changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import RenderableType
from rich.text import Text

from vreplica.cli import exits
from vreplica.cli.commands.run import each_job
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output
from vreplica.cli.render.text import BAD, GOOD, counted, grid, indented

if TYPE_CHECKING:
    from vreplica.errors import VReplicaError
    from vreplica.sync.job import Job
    from vreplica.sync.plan.readiness import CheckReport

_STYLE = {"good": GOOD, "note": "yellow", "problem": BAD}


@click.command(short_help="Try everything that the jobs need; change nothing.")
@jobs_argument
@config_option
@command
def check(out: Output, jobs: tuple[str, ...], config: Path | None) -> int:
    """Try everything that each JOB needs, and change nothing: passwords, certificates, logins,
    privileges, the VM, datastore, host and networks of the replica, the way to its hosts, and
    all that `plan` looks at; without a JOB also the secrets of those who are to be notified.

    Ends with 3 when there is a problem.
    """
    import vreplica
    from vreplica.service.notifications import missing
    from vreplica.sync.plan.readiness import check as try_all

    def work(job: Job) -> int:
        report = try_all(job)
        out.answer(report.to_dict(), *show(report))
        return exits.PREFLIGHT if report.problems else exits.OK

    loaded = vreplica.load(config)
    codes = [_told(out, error) for error in missing(loaded)] if not jobs else []
    codes.append(each_job(out, config, jobs, work))
    return next((code for code in codes if code), exits.OK)


def _told(out: Output, error: VReplicaError) -> int:
    out.error(error)
    return error.exit_code


def show(report: CheckReport) -> Iterator[RenderableType]:
    number = len(report.problems)
    verdict = (counted(number, "problem"), BAD) if number else ("good", GOOD)
    yield Text.assemble((report.job, "bold"), ": ", verdict)
    table = grid("what", "verdict", "found~")
    for finding in report.findings:
        mark = finding.verdict.value
        text = f"{finding.text}. {finding.remedy}" if finding.remedy else finding.text
        table.add_row(finding.area, Text(mark, _STYLE[mark]), text)
    yield indented(table)
