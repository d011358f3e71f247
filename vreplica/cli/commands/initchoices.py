"""What `init` lets choose: VMs, datastore, host, networks, each from what the sites have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from vreplica.cli.commands.init import ask
from vreplica.cli.render.output import Output
from vreplica.units import human_size

if TYPE_CHECKING:
    from vreplica.config.template import Start, StartJob, StartSite
    from vreplica.vsphere.model import VmRef
    from vreplica.vsphere.session import Session

Side = tuple["Session", "StartSite"]


def choose(out: Output, source: Side, destination: Side, given: dict[str, Any]) -> Start:
    """Raises click.UsageError for a name that does not exist, with those that do."""
    from vreplica.config.template import Start

    session, site = source
    refs, jobs = _vms(session, given["vms"])
    there, target = destination
    stores = {d.name: d for d in there.datastores() if d.accessible}
    for store in stores.values():
        out.step(f"datastore {store.name}: {human_size(store.free_bytes)} free")
    datastore = one("datastore", given["datastore"], sorted(stores), "--datastore")
    hosts = [h.name for h in there.hosts() if datastore in h.datastores]
    host = one("host", given["host"], hosts, "--host") if given["host"] else None
    return Start(
        source=site,
        destination=target,
        datastore=datastore,
        jobs=jobs,
        networks=_networks(session, refs, there, given["networks"]),
        host=host,
    )


def one(kind: str, given: str | None, names: Sequence[str], option: str) -> str:
    """The named one; the only one where none is named; else the one that is chosen."""
    if not given and len(names) == 1:
        return names[0]
    while (chosen := given or ask(kind.capitalize(), option, choices=names)) not in names:
        if given:
            raise click.UsageError(f"there is no {kind} {chosen!r}; there are {', '.join(names)}")
        click.echo(f"there is no {kind} {chosen!r}", err=True)
    return chosen


def _vms(session: Session, named: Sequence[str]) -> tuple[list[VmRef], list[StartJob]]:
    from vreplica.config.template import StartJob
    from vreplica.vsphere.errors import VmNotFound

    found = session.vms()
    refs = [session.find_vm(name) for name in dict.fromkeys(named)]
    while not refs:
        names = [ref.name for ref, _ in found]
        answer = ask("VMs to replicate, with commas between them", "--vm", choices=names)
        wanted = [part.strip() for part in answer.split(",") if part.strip()]
        try:
            refs = [session.find_vm(name) for name in dict.fromkeys(wanted)]
        except VmNotFound as error:
            # All that was answered before would be lost.
            click.echo(str(error), err=True)
    paths = {ref.moref: path for ref, path in found}
    unique = [ref.name for ref, _ in found]
    return refs, [
        StartJob(ref.name if unique.count(ref.name) == 1 else f"/{paths[ref.moref]}", ref.name)
        for ref in refs
    ]


def _networks(
    session: Session, refs: Sequence[VmRef], there: Session, given: Sequence[str]
) -> dict[str, str]:
    """Each network of the chosen VMs to one of the destination; the same name needs no word."""
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, target = text.partition("=")
        if not equals:
            raise click.UsageError(f"--network {text} is not FROM=TO")
        pairs[name] = target
    targets = sorted({n.name for n in there.networks()})
    for target in pairs.values():
        one("network", target, targets, "--network")
    needed = dict.fromkeys(
        nic.network for ref in refs for nic in session.read_vm(ref).nics if nic.network
    )
    for name in needed:
        if name not in pairs and name not in targets:
            pairs[name] = one(f"network for {name}", None, targets, f"--network {name!r}=NAME")
    return pairs
