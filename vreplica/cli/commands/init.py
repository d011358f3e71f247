"""init: write a first job file from what the sites have, asking for what was not given."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vreplica.cli import exits
from vreplica.cli.commands.thumbprint import parse_server
from vreplica.cli.options import OutputFile, command
from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config.template import StartSite
    from vreplica.vsphere.session import Session


def _site_options(side: str) -> Callable[[Any], Any]:
    def add(callback: Any) -> Any:
        short = "main" if side == "source" else "dr"
        for option in (
            click.option(f"--{side}-sha256", metavar="HEX", help="Its certificate's thumbprint."),
            click.option(
                f"--{side}-password-env",
                metavar="VARIABLE",
                default=f"{short.upper()}_PASSWORD",
                show_default=True,
                help="The variable that holds the password, now and later.",
            ),
            click.option(f"--{side}-user", metavar="USER"),
            click.option(
                f"--{side}",
                metavar="HOST[:PORT]",
                help="vCenter or ESXi host of the VMs."
                if side == "source"
                else "... of the replicas. Default: the same as the source.",
            ),
        ):
            callback = option(callback)
        return callback

    return add


@click.command(short_help="Write a first job file from what the sites have.")
@_site_options("source")
@_site_options("destination")
@click.option("--vm", "vms", multiple=True, metavar="NAME", help="A VM to replicate; repeat it.")
@click.option("--datastore", metavar="NAME", help="Where replicas go.")
@click.option("--host", metavar="NAME", help="The destination's host, where there are several.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="FROM=TO",
    help="A network of the source and the one for it at the destination; repeat it.",
)
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    default=Path("vreplica.toml"),
    show_default=True,
    metavar="FILE",
)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@command
def init(out: Output, output: Path, force: bool, **given: Any) -> int:
    """Write a first job file with comments. Logs in to both sites and lists what they have, reads
    only, and asks for what no option says. Without a terminal every choice must be an option.

    Passwords are never written: the file names the environment variable that holds each.
    """
    if output.exists() and not force:
        raise click.UsageError(f"{output} exists; --force overwrites it, --output names another")
    from vreplica.cli.commands.initchoices import choose
    from vreplica.config.template import text
    from vreplica.vsphere.session import connect

    with ExitStack() as stack:
        source, first = _log_in(out, stack, connect, "source", "main", given)
        if not given["destination"] and sys.stdin.isatty():
            default = given["source"]
            given["destination"] = click.prompt("Destination", default=default, err=True)
        destination, second = source, first
        if given["destination"] not in (None, given["source"]):
            destination, second = _log_in(out, stack, connect, "destination", "dr", given)
        content = text(choose(out, (source, first), (destination, second), given))
    _write(output, content, force)
    out.note(f"{output} written; next: vreplica-sync check --config {output}")
    if out.as_json:
        out.json({"file": str(output)})
    return exits.OK


def _log_in(
    out: Output, stack: ExitStack, connect: Any, side: str, name: str, given: dict[str, Any]
) -> tuple[Session, StartSite]:
    from vreplica.config.template import StartSite
    from vreplica.vsphere.connection.certificate import probe_certificate
    from vreplica.vsphere.model import Endpoint

    given[side] = given[side] or ask(side.capitalize(), f"--{side}")
    host, port = parse_server(given[side])
    user = given[f"{side}_user"] or ask(f"User at {host}", f"--{side}-user")
    sha256 = given[f"{side}_sha256"]
    if not sha256:
        sha256, _ = probe_certificate(host, port)
        _trust(f"The certificate of {host} is {sha256}", f"--{side}-sha256")
    variable = given[f"{side}_password_env"]
    password = os.environ.get(variable) or ask(
        f"Password of {user} (later from {variable})", f"the variable {variable}", hide=True
    )
    session = stack.enter_context(connect(Endpoint(host, user, password, sha256, port)))
    out.step(f"{host}: {session.about.name}")
    return session, StartSite(name, host, port, user, variable, sha256)


def ask(question: str, otherwise: str, *, hide: bool = False, choices: Sequence[str] = ()) -> str:
    """At the terminal; without one, what was not given is a mistake."""
    known = f"; there are {', '.join(choices)}" if choices else ""
    if not sys.stdin.isatty():
        raise click.UsageError(f"give {otherwise}{known}")
    if choices:
        click.echo(f"{question}: {', '.join(choices)}", err=True)
    answer: str = click.prompt(question, hide_input=hide, err=True)
    return answer


def _trust(what: str, option: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{what}: compare it, then give it as {option}")
    if not click.confirm(f"{what}. Is that what its administrator says?", err=True):
        raise click.UsageError("the certificate was not confirmed: no password was sent")


def _write(output: Path, content: str, force: bool) -> None:
    """Whole or not at all, and checked as `load` checks it before the name is taken."""
    from vreplica.config import load

    fresh = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        fresh.write_text(content, encoding="utf-8")
        load(fresh)
        if force:
            fresh.replace(output)
        else:
            os.link(fresh, output)  # fails where somebody has made it meanwhile
    finally:
        fresh.unlink(missing_ok=True)
