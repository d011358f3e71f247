"""`history`: lists the latest runs and failovers, by the service and by hand."""

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
    """List the latest runs and failovers, by the service and by hand, newest first.

    Reads the service's catalog, and what commands on this machine have recorded that is not in it
    yet. Changes nothing.
    """
    from vreplica.failover.machine.group_order import label_of
    from vreplica.sync import by_hand

    names = config.select(jobs)
    rows: list[dict[str, Any]] = []
    if config.has_catalog:
        with installed():
            from vreplica.service.catalog.reading import consult
        groups = {label_of(group) for name in names for group in config.groups_of(name)}
        wanted = [*names, *sorted(groups)]
        found = consult(config.catalog_url(), lambda catalog: catalog.history(wanted, limit))
        rows += found or ()
    known = {row["id"] for row in rows}
    here = [entry for name in names for entry in by_hand.read(config.state_dir / name)]
    rows += [entry.as_history() for entry in here if entry.id not in known]
    rows = sorted(rows, key=lambda row: row["queued"], reverse=True)[:limit]
    if out.as_json:
        for row in rows:
            out.json("history", _value(row))
    elif rows:
        _show(out, rows)
    else:
        out.note("nothing is recorded of these jobs")
    return exit_codes.OK


_NAMES: Final = {"began": "started", "result": "outcome"}
"""Columns of the catalog that results call otherwise."""


def _value(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _NAMES.get(k, k): v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()
    }


def _show(out: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    table = render.text.grid("begun", "job", "what", "state", "took>?", "by?", "error~")
    for row in rows:
        took = (row["ended"] - row["began"]).total_seconds() if row["ended"] and row["began"] else 0
        begun = row["began"] or row["queued"]
        table.add_row(
            render.text.moment(begun) if begun else "-",
            row["job"],
            row["request"]["do"] if row["request"] else row["kind"],
            row["state"],
            render.text.duration(took) if took else "-",
            row["who"] or row["mover"],
            row["error"] or "",
        )
    out.show(table)
