"""`check`: tries everything that the jobs need, and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.each_job import each_job, named
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.errors import VReplicaError
    from vreplica.sync.job import Job


@click.command()
@jobs_argument
@config_option
@command
def check(out: Output, jobs: tuple[str, ...], config: Config) -> int:
    """Try everything that each JOB needs, and change nothing.

    Tries passwords, certificates, logins and privileges, the VM, the datastore, host and networks
    of the replica, the connection to its hosts, and everything that `plan` looks at. Without a
    JOB it also tries the secrets of the receivers of notifications.

    Ends with 3 when there is a problem.
    """
    from vreplica.service.receivers import missing_secrets
    from vreplica.sync.plan.readiness import check_readiness
    from vreplica.sync.sites import SiteSessions

    codes = [_report(out, error) for error in missing_secrets(config)] if not jobs else []
    same: list[str] = []
    with SiteSessions(one_look=True) as sessions:

        def work(job: Job) -> int:
            report = check_readiness(job, sessions)
            if report.only_said_before and not out.as_json:
                same.append(job.name)
            else:
                out.answer(
                    "check", report.to_dict(), lambda: render.text.check(report, job.require)
                )
            return exit_codes.PREFLIGHT if report.problems else exit_codes.OK

        codes.append(each_job(out, config, jobs, work))
    if same:
        out.failure(f"not checked, since a site of theirs failed above: {named(same)}")
    return exit_codes.first_failure(codes)


def _report(out: Output, error: VReplicaError) -> int:
    out.error(error)
    return error.exit_code
