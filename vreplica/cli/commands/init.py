"""`init`: writes a first job file from what the sites have, and asks for what no option says."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vreplica.cli import exit_codes
from vreplica.cli.options import OutputFile, command
from vreplica.cli.render.output import Output
from vreplica.cli.render.plain import confirm, print_plain, prompt
from vreplica.cli.server_address import parse_server
from vreplica.units import human_size

if TYPE_CHECKING:
    from vreplica.config.template import FileChoices, JobChoice, SiteChoice
    from vreplica.vsphere.model import VmInfo, VmRef
    from vreplica.vsphere.session import Session

    Side = tuple[Session, SiteChoice]


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
                help="vCenter or ESXi host of the VMs; a URL works too."
                if side == "source"
                else "... of the replicas. Default: the same as the source.",
            ),
        ):
            callback = option(callback)
        return callback

    return add


@click.command()
@_site_options("source")
@_site_options("destination")
@click.option(
    "--vm",
    "vms",
    multiple=True,
    metavar="NAME",
    help="A VM to replicate, or a pattern such as 'web*'; repeat it for several.",
)
@click.option("--datastore", metavar="NAME", help="The datastore of the replicas.")
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
    """Write a first job file with comments.

    Logs in to both sites, reads what they have, and asks for what no option says. Changes nothing
    there. Without a terminal every choice must be an option.

    Passwords are never written: the file names the environment variable that holds each.
    """
    if output.exists() and not force:
        raise click.UsageError(f"{output} exists; --force overwrites it, --output names another")
    from vreplica.config.template import job_file_text

    with ExitStack() as stack:
        source, first = _log_in(out, stack, "source", "main", given)
        if not given["destination"] and sys.stdin.isatty():
            default = given["source"]
            given["destination"] = prompt("Destination", default=default)
        destination, second = source, first
        if given["destination"] not in (None, given["source"]):
            destination, second = _log_in(out, stack, "destination", "dr", given)
        content = job_file_text(_choose(out, (source, first), (destination, second), given))
    _write(output, content, force)
    out.note(f"{output} written; next: vreplica-sync check --config {output}")
    if out.as_json:
        out.json("init", {"file": str(output)})
    return exit_codes.OK


def _log_in(
    out: Output, stack: ExitStack, side: str, name: str, given: dict[str, Any]
) -> tuple[Session, SiteChoice]:
    from vreplica.config.template import SiteChoice
    from vreplica.vsphere.connection.certificate import probe_certificate
    from vreplica.vsphere.model import Endpoint
    from vreplica.vsphere.session import connect

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
    return session, SiteChoice(name, host, port, user, variable, sha256)


def _trust(what: str, option: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{what}: compare it, then give it as {option}")
    if not confirm(f"{what}. Is that what its administrator says?"):
        raise click.UsageError("the certificate was not confirmed: no password was sent")


# -- choices --------------------------------------------------------------------------------


def _choose(out: Output, source: Side, destination: Side, given: dict[str, Any]) -> FileChoices:
    """The VMs, the datastore, the host and the networks. Raises UsageError for an unknown name."""
    from vreplica.config.template import FileChoices

    session, site = source
    refs, jobs = _vms(session, given["vms"])
    found = [session.read_vm(ref) for ref in refs]
    capacity = sum(disk.capacity_bytes for vm in found for disk in vm.disks)
    names = ", ".join(ref.name for ref in refs)
    out.note(f"to replicate: {names}, {human_size(capacity)} of disks")
    there, target = destination
    stores = {
        store.name: f"{human_size(store.free_bytes)} free of {human_size(store.capacity_bytes)}"
        for store in sorted(there.datastores(), key=lambda each: each.name)
        if store.accessible
    }
    datastore = one("datastore", given["datastore"], stores, "--datastore")
    out.note(f"replicas go to: {datastore}, {stores[datastore]}")
    hosts = {h.name: "" for h in there.hosts() if datastore in h.datastores}
    host = one("host", given["host"], hosts, "--host") if given["host"] else None
    return FileChoices(
        source=site,
        destination=target,
        datastore=datastore,
        jobs=jobs,
        networks=_networks(found, there, given["networks"]),
        host=host,
    )


def _vms(session: Session, named: Sequence[str]) -> tuple[list[VmRef], list[JobChoice]]:
    """The VMs of these names and patterns; asks where none is given."""
    from vreplica.config.template import JobChoice
    from vreplica.vsphere.errors import VmNotFound

    found = session.vms()
    names = {ref.name: "" for ref, _ in found}
    refs = _matching(session, names, named)
    while not refs:
        question = "VMs to replicate, names or patterns such as web*, with commas between them"
        answer = ask(question, "--vm", choices=names)
        try:
            wanted = [part.strip() for part in answer.split(",") if part.strip()]
            refs = _matching(session, names, wanted)
        except (VmNotFound, click.UsageError) as error:
            # The answers to the questions before are kept.
            print_plain(error.message)
    paths = {ref.moref: path for ref, path in found}
    unique = [ref.name for ref, _ in found]
    return refs, [
        JobChoice(ref.name if unique.count(ref.name) == 1 else f"/{paths[ref.moref]}", ref.name)
        for ref in refs
    ]


def _matching(session: Session, names: Mapping[str, str], wanted: Sequence[str]) -> list[VmRef]:
    """Each VM once. A name or path is taken as it is, a pattern for all names that match it."""
    found: dict[str, VmRef] = {}
    for each in wanted:
        is_pattern = any(mark in each for mark in "*?[") and each not in names
        matching = [n for n in names if fnmatchcase(n, each)] if is_pattern else [each]
        if not matching:
            raise click.UsageError(f"no VM matches {each}; there are {', '.join(names)}")
        for name in matching:
            ref = session.find_vm(name)
            found[ref.moref] = ref
    return list(found.values())


def _networks(found: Sequence[VmInfo], there: Session, given: Sequence[str]) -> dict[str, str]:
    """Each network of the chosen VMs to one of the destination; the same name needs no word."""
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, target = text.partition("=")
        if not equals:
            raise click.UsageError(f"--network {text} is not FROM=TO")
        pairs[name] = target
    targets = dict.fromkeys(sorted(n.name for n in there.networks()), "")
    for target in pairs.values():
        one("network", target, targets, "--network")
    needed = dict.fromkeys(nic.network for vm in found for nic in vm.nics if nic.network)
    for name in needed:
        if name not in pairs and name not in targets:
            pairs[name] = one(f"network for {name}", None, targets, f"--network {name!r}=NAME")
    return pairs


# -- questions ------------------------------------------------------------------------------


def one(kind: str, given: str | None, choices: Mapping[str, str], option: str) -> str:
    """The given one; without one the only choice, or the answer to a question.

    `choices`: the names, each with a remark or none.
    """
    if not given and len(choices) == 1:
        return next(iter(choices))
    while (chosen := given or ask(kind.capitalize(), option, choices=choices)) not in choices:
        if given:
            known = ", ".join(choices)
            raise click.UsageError(f"there is no {kind} {chosen!r}; there are {known}")
        print_plain(f"there is no {kind} {chosen!r}")
    return chosen


def ask(
    question: str, option: str, *, hide: bool = False, choices: Mapping[str, str] | None = None
) -> str:
    """Asks at the terminal. Without a terminal raises UsageError, which names the option."""
    lines = [f"{name} ({remark})" if remark else name for name, remark in (choices or {}).items()]
    if not sys.stdin.isatty():
        known = f"; there are {', '.join(lines)}" if lines else ""
        raise click.UsageError(f"give {option}{known}")
    for line in lines:
        print_plain(f"  {line}")
    answer: str = prompt(question, hide_input=hide)
    return answer


# -- the file -------------------------------------------------------------------------------


def _write(output: Path, content: str, force: bool) -> None:
    """Writes the file whole or not at all, and only after `load` has taken it."""
    from vreplica.config import load

    fresh = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        fresh.write_text(content, encoding="utf-8")
        load(fresh)
        if force:
            fresh.replace(output)
        else:
            os.link(fresh, output)  # fails where another process has made it meanwhile
    finally:
        fresh.unlink(missing_ok=True)
