"""Does the same for one job after the other, whatever becomes of those before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from vreplica.cli import exit_codes
from vreplica.cli.guard import guarded
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.sync.job import Job

NAMED: Final = 20
"""Jobs that a line names."""


def each_job(
    out: Output,
    config: Config,
    names: tuple[str, ...],
    work: Callable[[Job], int],
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Calls `work` with each of these jobs, or with all where none is named.

    `stopped`: true once no further job is to be begun. Returns the exit code of the first job
    that failed.
    """
    # A job is taken out inside `guarded`: its password may be missing, and another one's not.
    return each(out, config.select(names), lambda name: work(config[name]), stopped)


def each(
    out: Output,
    names: Iterable[str],
    work: Callable[[str], int],
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """The same by name, for jobs that need not be taken out of the job file."""
    codes, same = [], []

    def tried(name: str) -> int:
        from vreplica.sync.errors import SiteNotTried

        try:
            return work(name)
        except SiteNotTried as error:
            if out.as_json:
                raise
            same.append(name)
            return error.exit_code

    for name in names:
        codes.append(guarded(out, partial(tried, name), job=name))
        if stopped() or codes[-1] in exit_codes.FINAL:
            break
    if same:
        out.failure(f"not tried, since a site of theirs failed above: {named(same)}")
    return exit_codes.first_failure(codes)


def named(jobs: list[str]) -> str:
    """Names jobs in one line, the first ones where there are many."""
    more = f" and {len(jobs) - NAMED} more" if len(jobs) > NAMED else ""
    return ", ".join(jobs[:NAMED]) + more
