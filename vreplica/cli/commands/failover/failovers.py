"""`failovers`: lists the failovers and failbacks of all jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.each_job import each
from vreplica.cli.open_catalog import installed
from vreplica.cli.options import command, config_option, jobs_argument
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config


@click.command()
@jobs_argument
@config_option
@command
def failovers(out: Output, jobs: tuple[str, ...], config: Config) -> int:
    """List the failovers and failbacks of these jobs, or of all, newest first.

    Reads the journals of this machine, and of other machines what the service's catalog has.
    """
    names, found = config.select(jobs), list[dict[str, Any]]()

    def one(name: str) -> int:
        found.extend(_here(config, name))
        return exit_codes.OK

    code = each(out, names, one)
    ours = {(value["job"], value["failover"]) for value in found}
    elsewhere = (v for v in _catalogued(config, names) if (v["job"], v["failover"]) not in ours)
    found = sorted([*found, *elsewhere], key=lambda v: v["started"] or "", reverse=True)
    if out.as_json:
        for value in found:
            out.json("failover-listed", value)
    elif found:
        _show(out, found)
    else:
        out.note("no failover of these jobs is known here")
    return code


def _here(config: Config, name: str) -> list[dict[str, Any]]:
    """By the journals of this machine."""
    from vreplica.failover.history import records_below

    return [
        {
            **_of(config, name, record.id, record.state.value),
            "started": record.began.isoformat(),
            "ended": record.ended.isoformat() if record.ended else None,
            "downtime_s": record.downtime_s,
            "point": record.point,
            "level": record.level,
            "here": True,
            "seen": None,
        }
        for record in records_below(config.state_dir / name, name)
    ]


def _catalogued(config: Config, names: list[str]) -> list[dict[str, Any]]:
    if not config.has_catalog:
        return []
    with installed():
        from vreplica.service.catalog.database import Catalog
        from vreplica.service.catalog.observed import failovers as read
        from vreplica.service.catalog.reading import consult

    def rows(catalog: Catalog) -> list[Any]:
        with catalog.transaction() as c:
            return read(c)

    return [
        {
            **_of(config, row.job, row.id, row.state),
            "started": _time_in(row.id),
            "ended": None,
            "downtime_s": None,
            "point": row.facts.get("point"),
            "level": row.facts.get("level"),
            "here": False,
            "seen": row.seen.isoformat(),
        }
        for row in consult(config.catalog_url(), rows) or ()
        if row.job in names
    ]


def _of(config: Config, job: str, id_: str, state: str) -> dict[str, Any]:
    from vreplica.failover.standing import Standing

    back = Standing(id_, state).back
    sites = config.sites_of(job)
    here, there = reversed(sites) if back else sites
    common = {"job": job, "failover": id_, "back": back, "state": state}
    return {**common, "from_site": here, "to_site": there}


def _time_in(id_: str) -> str | None:
    """The time in the id of a failover."""
    try:
        found = datetime.strptime(id_[3:19], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return found.isoformat()


def _show(out: Output, found: list[dict[str, Any]]) -> None:
    table = render.text.grid("begun", "job", "from", "to", "state", "downtime>?", "point?", "id")
    for value in found:
        begun, downtime = value["started"], value["downtime_s"]
        table.add_row(
            render.text.moment(datetime.fromisoformat(begun)) if begun else "-",
            value["job"],
            value["from_site"],
            value["to_site"],
            value["state"],
            render.text.duration(downtime) if downtime is not None else "-",
            value["point"] or "-",
            value["failover"],
        )
    out.show(table)
