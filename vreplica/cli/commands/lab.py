"""lab: two vCenters with ESXi hosts on this machine, to try things out against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.text import Text

from vreplica.cli import exits
from vreplica.cli.commands.lab_fault import fault
from vreplica.cli.options import command, dir_option
from vreplica.cli.render import text
from vreplica.cli.render.output import Output


@click.group(short_help="Two vCenters on this machine, to try things out against.")
def lab() -> None:
    """Two sites on this machine, each a vCenter with an ESXi host over real VMDK files.

    Any vSphere client can be pointed at them. Everything lies in one folder: the datastores,
    the inventory, and a job file to start from.
    """


@lab.command(short_help="Make the lab where there is none, and start it.")
@dir_option
@click.option(
    "--vm", "with_vm", is_flag=True, help="Also make web01, the VM that the job file replicates."
)
@command
def up(out: Output, folder: Path, with_vm: bool) -> int:
    """Make the lab where there is none, and start it as a process of its own."""
    import vreplica.lab
    from vreplica.cli.commands.demo.vm import VM_NAME, make_vm

    status = vreplica.lab.up(folder)
    if with_vm:
        site, control = status["sites"][0]["name"], vreplica.lab.LabControl(folder)
        if VM_NAME not in [vm["name"] for vm in control.do("list_vms", site=site)]:
            out.note(f"making {VM_NAME} in {site}")
            make_vm(control, site)
    _answer(out, status)
    return exits.OK


@lab.command()
@dir_option
@command
def status(out: Output, folder: Path) -> int:
    """Say where the sites are and how to log in."""
    import vreplica.lab

    _answer(out, vreplica.lab.status(folder))
    return exits.OK


@lab.command()
@dir_option
@command
def down(out: Output, folder: Path) -> int:
    """Stop the lab. What is in the folder stays; `up` goes on from there."""
    import vreplica.lab

    vreplica.lab.status(folder)  # says so where the folder holds no lab
    ran = vreplica.lab.down(folder)
    out.answer({"stopped": ran}, "stopped" if ran else "it was not running")
    return exits.OK


lab.add_command(fault)


def _answer(out: Output, status: dict[str, Any]) -> None:
    running = status["running"]
    if out.as_json:
        out.json({"sites": [{**site, "running": running} for site in status["sites"]]})
        return
    state = ("running", text.GOOD) if running else ("stopped", "yellow")
    head = Text.assemble((f"lab in {status['directory']}", text.HEAD), ": ", state)
    sites = [
        (
            site["name"],
            [
                site["url"],
                f"user {site['user']}, password {site['password']}",
                f"datastores {', '.join(site['datastores'])}",
            ],
        )
        for site in status["sites"]
    ]
    out.show(head, text.facts(*sites, ("job file", [status["jobs"]])))
