"""`lab fault add|nfc|list|clear|load`: makes a lab fail on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.options import command, dir_option
from vreplica.cli.render.output import Output

ACTIONS = ("fault", "delay", "hang", "drop", "lost-reply", "session", "host", "restart", "locked")
KINDS = ("slow", "hang", "drop", "truncate", "garbage", "corrupt", "error", "status")
OPERATIONS = ("login", "open", "read", "write", "allocated", "ddb", "close", "any")

site_option = click.option("--site", required=True, metavar="NAME", help="site-a or site-b.")


@click.group(short_help="Make a lab fail on demand.")
def fault() -> None:
    """Make a lab fail on demand, by rules: which call, on which object, when, and how.

    \b
    vreplica-sync lab fault add --dir LAB --site site-a \\
        --method 'CreateSnapshot*' --object web01 --fault ApplicationQuiesceFault
    """


@fault.command(short_help="Add a rule.")
@dir_option
@site_option
@click.option("--method", default="*", show_default=True, help="Pattern of the method's name.")
@click.option("--object", "on", metavar="PATTERN", help="Name or id of the object that is called.")
@click.option("--action", type=click.Choice(ACTIONS), default="fault", show_default=True)
@click.option("--fault", "kind", default="SystemError", show_default=True, help="vSphere fault.")
@click.option("--where", type=click.Choice(["call", "task"]), default="call", show_default=True)
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--always", is_flag=True, help="Instead of --count: until the rule is cleared.")
@click.option("--skip", type=click.IntRange(min=0), default=0, help="Calls that pass first.")
@click.option("--probability", type=click.FloatRange(0, 1), default=1.0, show_default=True)
@click.option("--delay", "delay_s", type=click.FloatRange(min=0), default=0.0, help="Seconds.")
@command
def add(
    out: Output,
    folder: Path,
    site: str,
    method: str,
    on: str | None,
    action: str,
    kind: str,
    where: str,
    count: int,
    always: bool,
    skip: int,
    probability: float,
    delay_s: float,
) -> int:
    """Add a rule. It strikes --count times (default: once)."""
    from vreplica.lab import LabControl

    number = LabControl(folder).add_fault(
        site,
        method=method,
        object=on,
        action=action,
        fault=kind,
        where=where,
        count=None if always else count,
        skip=skip,
        probability=probability,
        delay_s=delay_s,
    )
    out.answer("lab-rule", {"site": site, "rule": number}, f"rule {number} of {site}")
    return exit_codes.OK


@fault.command("nfc", short_help="Add a rule of the hosts' NFC servers.")
@dir_option
@site_option
@click.option("--host", metavar="NAME", help="Only this host's.")
@click.option("--kind", type=click.Choice(KINDS), required=True)
@click.option("--operation", type=click.Choice(OPERATIONS), default="any", show_default=True)
@click.option("--code", type=int, default=7, show_default=True, help="Of error, status: VIX code.")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--always", is_flag=True, help="Instead of --count: until the rules are cleared.")
@click.option("--skip", type=click.IntRange(min=0), default=0, help="Requests that pass first.")
@click.option("--probability", type=click.FloatRange(0, 1), default=1.0, show_default=True)
@click.option("--delay", "delay_s", type=click.FloatRange(min=0), default=0.0, help="Seconds.")
@command
def nfc(
    out: Output, folder: Path, site: str, host: str | None, always: bool, count: int, **rule: Any
) -> int:
    """Add a rule of the hosts' NFC servers; it strikes --count requests (default: one)."""
    from vreplica.lab import LabControl

    rule["count"] = None if always else count
    LabControl(folder).add_nfc_fault(site, host, **rule)
    out.answer("lab-nfc-rule", {"site": site, "host": host, **rule}, f"{site}: nfc {rule['kind']}")
    return exit_codes.OK


@fault.command("list")
@dir_option
@site_option
@command
def list_(out: Output, folder: Path, site: str) -> int:
    """List the rules of a site and of its hosts' NFC servers, and how often each met and struck."""
    from vreplica.lab import LabControl

    control = LabControl(folder)
    rules, nfc = control.list_faults(site), control.list_nfc_faults(site)
    if out.as_json:
        out.json("lab-rules", {"site": site, "rules": rules, "nfc": nfc})
    elif not rules and not nfc:
        out.show(f"{site}: no rules")
    else:
        table = render.text.grid("rule>", "method", "object", "action", "fault~", "met>", "struck>")
        for rule in rules:
            table.add_row(
                str(rule["id"]),
                rule["method"],
                rule["object"] or "*",
                rule["action"],
                rule["fault"] if rule["action"] == "fault" else "",
                str(rule["seen"]),
                str(rule["struck"]),
            )
        for rule in nfc:
            met, struck = str(rule["seen"]), str(rule["struck"])
            what = (f"nfc {rule['operation']}", rule["host"], rule["kind"], "")
            table.add_row("", *what, met, struck)
        out.show(table)
    return exit_codes.OK


@fault.command()
@dir_option
@site_option
@click.option("--rule", type=int, metavar="NUMBER", help="Only this one.")
@command
def clear(out: Output, folder: Path, site: str, rule: int | None) -> int:
    """Remove the rules of a site, or one of them. Without --rule also those of NFC."""
    from vreplica.lab import LabControl

    LabControl(folder).clear_faults(site, rule)
    out.answer("lab-cleared", {"site": site, "cleared": rule}, f"{site}: cleared")
    return exit_codes.OK


@fault.command()
@dir_option
@click.argument("scenario", type=click.Path(path_type=Path))
@command
def load(out: Output, folder: Path, scenario: Path) -> int:
    """Add the rules of a scenario file (TOML, see docs/lab.md)."""
    from vreplica.lab import LabControl

    LabControl(folder).load_scenario(scenario)
    out.answer("lab-scenario", {"scenario": str(scenario)}, f"{scenario}: loaded")
    return exit_codes.OK
