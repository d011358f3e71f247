"""`audit`: shows the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.open_catalog import installed
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vreplica.config import Config


@click.command()
@jobs_argument
@config_option
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@command
def audit(out: Output, jobs: tuple[str, ...], config: Config, limit: int) -> int:
    """Show the latest entries of the audit trail, newest first: of these jobs, or of all.

    An entry says who decided or did something, and when. Reads the service's catalog and changes
    nothing.
    """
    if jobs:
        config.select(jobs)
    with installed():
        from vreplica.service.catalog.reading import consult
    url = config.catalog_url()
    rows = consult(url, lambda catalog: catalog.audit_trail(*jobs, limit=limit)) or ()
    if out.as_json:
        for row in rows:
            out.json("audit", {**row, "time": row["time"].isoformat()})
    elif rows:
        _show(out, rows)
    else:
        out.note("the audit trail has no entry of these jobs; `history` shows what is done by hand")
    return exit_codes.OK


def _show(out: Output, rows: Sequence[dict[str, Any]]) -> None:
    table = render.text.grid("time", "who", "what", "job", "more~?")
    for row in rows:
        data = "; ".join(f"{k}: {v}" for k, v in row["data"].items() if v not in (None, "", []))
        time = render.text.moment(row["time"])
        table.add_row(time, row["who"], row["what"], row["job"] or "-", data)
    out.show(table)
