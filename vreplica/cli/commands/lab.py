"""`lab`: starts two vCenters with ESXi hosts on this machine, to try things out against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.commands import lab_night
from vreplica.cli.commands.lab_fault import fault
from vreplica.cli.options import command, dir_option
from vreplica.cli.render.output import Output


@click.group()
def lab() -> None:
    """Two sites on this machine, each a vCenter with an ESXi host over real VMDK files.

    Any vSphere client can connect to them. Everything is in one folder: the datastores, the
    inventory, and a job file to start from.
    """


@lab.command(short_help="Start the lab; create it where there is none.")
@dir_option
@click.option(
    "--vm", "with_vm", is_flag=True, help="Also make web01, the VM that the job file replicates."
)
@command
def up(out: Output, folder: Path, with_vm: bool) -> int:
    """Start the lab as a process of its own, and create it where there is none."""
    import vreplica.lab
    from vreplica.cli.commands.demo.vm import VM_NAME, make_vm

    status = vreplica.lab.up(folder)
    if with_vm:
        site, control = status["sites"][0]["name"], vreplica.lab.LabControl(folder)
        if VM_NAME not in [vm["name"] for vm in control.do("list_vms", site=site)]:
            out.note(f"making {VM_NAME} in {site}")
            make_vm(control, site)
    _answer(out, status)
    return exit_codes.OK


@lab.command()
@dir_option
@command
def status(out: Output, folder: Path) -> int:
    """Show the addresses of the sites and how to log in."""
    import vreplica.lab

    _answer(out, vreplica.lab.status(folder))
    return exit_codes.OK


@lab.command()
@dir_option
@command
def down(out: Output, folder: Path) -> int:
    """Stop the lab. The folder stays; `up` starts from it again."""
    import vreplica.lab

    vreplica.lab.status(folder)  # raises where the folder holds no lab
    ran = vreplica.lab.down(folder)
    out.answer("lab-stopped", {"stopped": ran}, "stopped" if ran else "it was not running")
    return exit_codes.OK


lab.add_command(fault)
for played in (
    lab_night.vms,
    lab_night.guest,
    lab_night.write,
    lab_night.power,
    lab_night.disconnect,
    lab_night.reconnect,
):
    lab.add_command(played)


def _answer(out: Output, status: dict[str, Any]) -> None:
    running = status["running"]
    if out.as_json:
        out.json("lab", {"sites": [{**site, "running": running} for site in status["sites"]]})
        return
    from rich.text import Text

    text = render.text
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
