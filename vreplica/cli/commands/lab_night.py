"""`lab vms|guest|write|power|disconnect|reconnect`: plays a bad night on a lab.

Everything here is done to the lab itself, past its vCenters: as the guest, as somebody at the
console, or as the network.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import click

from vreplica.cli import exit_codes, render
from vreplica.cli.commands.lab_fault import site_option
from vreplica.cli.options import Duration, command, dir_option
from vreplica.cli.render.output import Output

SHUTDOWN: Final = ("works", "hangs")
TOOLS: Final = ("running", "notRunning", "notInstalled")
SECTOR: Final = 512

vm_option = click.option("--vm", "name", default="web01", show_default=True, metavar="NAME")


@click.command(short_help="Show the VMs of all sites.")
@dir_option
@command
def vms(out: Output, folder: Path) -> int:
    """Show the VMs of all sites and their power states, as the lab itself has them."""
    import vreplica.lab

    control = vreplica.lab.LabControl(folder)
    found = [
        _value(site["name"], control.describe_vm(site["name"], vm["moref"]))
        for site in vreplica.lab.status(folder)["sites"]
        for vm in control.do("list_vms", site=site["name"])
    ]
    _answer(out, found)
    return exit_codes.OK


@click.command(short_help="Say how a guest behaves.")
@dir_option
@site_option
@vm_option
@click.option("--shutdown", type=click.Choice(SHUTDOWN), help="The effect of a guest shutdown.")
@click.option("--shutdown-takes", type=Duration(), help="The time that a shutdown takes.")
@click.option("--tools", type=click.Choice(TOOLS), help="State of VMware Tools.")
@command
def guest(
    out: Output,
    folder: Path,
    site: str,
    name: str,
    shutdown: str | None,
    shutdown_takes: float | None,
    tools: str | None,
) -> int:
    """Say how the guest of a VM behaves when it is asked to shut down. The VM may run."""
    from vreplica.lab import LabControl

    control = LabControl(folder)
    given = {"shutdown": shutdown, "shutdown_s": shutdown_takes, "tools": tools}
    control.set_guest(site, name, **{k: v for k, v in given.items() if v is not None})
    _answer(out, [_value(site, control.describe_vm(site, name))])
    return exit_codes.OK


@click.command(short_help="Write to a disk as the guest does.")
@dir_option
@site_option
@vm_option
@click.option("--disk", type=int, default=2000, show_default=True, help="Key of the disk.")
@click.option("--offset-mib", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--text", default="written by hand", show_default=True, help="What is written.")
@click.option("--mib", type=click.IntRange(1, 128), help="Repeat the text for so many MiB.")
@command
def write(
    out: Output,
    folder: Path,
    site: str,
    name: str,
    disk: int,
    offset_mib: int,
    text: str,
    mib: int | None,
) -> int:
    """Write to a disk of a running VM as its guest does, so that change tracking sees it."""
    from vreplica.lab import LabControl
    from vreplica.units import MIB, human_size

    line = (text.encode() or b" ") + b"\n"
    size = mib * MIB if mib else -(-len(line) // SECTOR) * SECTOR
    data = (line * (size // len(line) + 1))[:size] if mib else line.ljust(size, b"\0")
    LabControl(folder).guest_write(site, name, disk, offset_mib * MIB, data)
    value = {
        "site": site,
        "vm": name,
        "disk": disk,
        "offset_bytes": offset_mib * MIB,
        "written_bytes": size,
        "sha256": sha256(data).hexdigest(),
    }
    out.answer("lab-written", value, f"{name} at {site}: wrote {human_size(size)}")
    return exit_codes.OK


@click.command(short_help="Switch a VM on or off at its console.")
@dir_option
@site_option
@vm_option
@click.argument("state", type=click.Choice(["on", "off"]))
@command
def power(out: Output, folder: Path, site: str, name: str, state: str) -> int:
    """Switch a VM on, or off without asking its guest, as somebody at its console does."""
    from vreplica.lab import LabControl

    control = LabControl(folder)
    control.power(site, name, on=state == "on")
    _answer(out, [_value(site, control.describe_vm(site, name))])
    return exit_codes.OK


@click.command(short_help="Cut off a site, or a host from its vCenter.")
@dir_option
@site_option
@click.option("--host", metavar="NAME", help="Only this host: its vCenter loses it.")
@command
def disconnect(out: Output, folder: Path, site: str, host: str | None) -> int:
    """Cut the network to a site: neither its vCenter nor its hosts answer. Its VMs go on.

    With --host the site's vCenter loses the connection to that host. `lab reconnect` ends both.
    """
    return _connect(out, folder, site, host, connected=False)


@click.command(short_help="Connect a site and its hosts again.")
@dir_option
@site_option
@click.option("--host", metavar="NAME", help="Only this host.")
@command
def reconnect(out: Output, folder: Path, site: str, host: str | None) -> int:
    """Connect a site again that was cut off, and its hosts to their vCenter.

    Also after a fault rule with --action host. The rules stay; `lab fault clear` removes them.
    """
    return _connect(out, folder, site, host, connected=True)


def _connect(out: Output, folder: Path, site: str, host: str | None, *, connected: bool) -> int:
    from vreplica.lab import LabControl

    control = LabControl(folder)
    if host is None and not connected:
        control.cut_off(site)
    elif host is None:
        control.reconnect(site)
    if host is not None or connected:
        control.set_host(site, connected=connected, host=host)
    word = "connected" if connected else "disconnected"
    value = {"site": site, "host": host, "connected": connected}
    out.answer("lab-connected", value, f"{host or site}: {word}")
    return exit_codes.OK


def _value(site: str, vm: dict[str, Any]) -> dict[str, Any]:
    guest = vm["guest"]
    settings = {key: guest[key] for key in ("tools", "shutdown", "shutdown_s")}
    return {"site": site, "vm": vm["name"], "power": vm["power"], **settings}


def _answer(out: Output, found: list[dict[str, Any]]) -> None:
    if out.as_json:
        for one in found:
            out.json("lab-vm", one)
        return
    table = render.text.grid("site", "vm", "power", "Tools?", "shutdown?")
    for one in found:
        takes = "hangs" if one["shutdown"] == "hangs" else render.text.duration(one["shutdown_s"])
        table.add_row(one["site"], one["vm"], one["power"], one["tools"], takes)
    out.show(table)
