"""`history`: lists the latest runs and failovers of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.open_catalog import installed
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command()
@jobs_argument
@config_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=30, show_default=True)
@command
def history(out: Output, config: Config, jobs: tuple[str, ...], limit: int) -> int:
    """List the service's latest runs and failovers, newest first.

    Reads the service's catalog and changes nothing.
    """
    names = config.select(jobs)
    with installed():
        from vreplica.service.catalog.reading import consult
    rows = consult(config.catalog_url(), lambda catalog: catalog.history(names, limit)) or ()
    if out.as_json:
        for row in rows:
            out.json("history", _value(row))
    elif rows:
        _show(out, rows)
    else:
        out.note("the service has done nothing for these jobs yet; `run` is not listed here")
    return exit_codes.OK


_NAMES: Final = {"began": "started", "result": "outcome"}
"""Columns of the catalog that results call otherwise."""


def _value(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _NAMES.get(k, k): v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()
    }


def _show(out: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    table = render.text.grid("begun", "job", "what", "state", "took>?", "mover?", "error~")
    for row in rows:
        took = (row["ended"] - row["began"]).total_seconds() if row["ended"] and row["began"] else 0
        begun = row["began"] or row["queued"]
        table.add_row(
            render.text.moment(begun) if begun else "-",
            row["job"],
            row["request"]["do"] if row["request"] else row["kind"],
            row["state"],
            render.text.duration(took) if took else "-",
            row["mover"],
            row["error"] or "",
        )
    out.show(table)
