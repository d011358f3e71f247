"""The text of a first job file, with comments, from choices that were made. Pure.

What it writes `load` takes: names are quoted, and job names made from VM names that may hold
anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vreplica.config.schema.base import NAME


@dataclass(frozen=True, slots=True)
class StartSite:
    name: str
    host: str
    port: int
    user: str
    password_env: str
    sha256: str


@dataclass(frozen=True, slots=True)
class StartJob:
    vm: str
    """As `source.vm` finds it: a name, or a path where names repeat."""
    title: str
    """The VM's name."""


@dataclass(frozen=True, slots=True)
class Start:
    source: StartSite
    destination: StartSite
    datastore: str
    jobs: Sequence[StartJob]
    networks: Mapping[str, str] = field(default_factory=dict)
    host: str | None = None
    resource_pool: str | None = None


def text(start: Start) -> str:
    """The whole file."""
    return "\n".join(_lines(start)) + "\n"


def job_names(titles: Sequence[str]) -> list[str]:
    """A valid job name for each VM name, none twice."""
    names: list[str] = []
    for title in titles:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-._")[:70] or "vm"
        assert NAME.fullmatch(plain)
        number, name = 2, plain
        while name in names:
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names


def _lines(start: Start) -> Iterator[str]:
    yield "# What vreplica-sync replicates, from where, to where. docs/configuration.md explains"
    yield "# every key. Try it with: vreplica-sync check"
    yield ""
    yield '# state_dir = "/var/lib/vreplica"      # default: the user\'s own state directory'
    for site in dict.fromkeys((start.source, start.destination)):
        yield ""
        yield from _site(site)
    yield ""
    yield "[defaults]"
    yield "keep = 7                  # newest recovery points"
    yield "# keep_daily = 7          # and the newest of each of so many days"
    yield "# keep_weekly = 4"
    yield '# require = "filesystem"  # a run fails below this level; without it every level is'
    yield "#                         # accepted, also one like a disk after a power failure"
    yield '# transport = "auto"      # VDDK where it is named below, else the hosts\' own protocol'
    yield ""
    yield "# [vddk]"
    yield '# libdir = "/opt/vmware-vix-disklib-distrib"'
    for name, job in zip(job_names([j.title for j in start.jobs]), start.jobs, strict=True):
        yield ""
        yield from _job(start, name, job)


def _site(site: StartSite) -> Iterator[str]:
    yield f"[sites.{site.name}]"
    yield f"host = {_quoted(site.host)}"
    if site.port != 443:
        yield f"port = {site.port}"
    yield f"user = {_quoted(site.user)}"
    yield f"password = {{ env = {_quoted(site.password_env)} }}   # or file = ..., keyring = ..."
    yield f"sha256 = {_quoted(site.sha256)}"


def _job(start: Start, name: str, job: StartJob) -> Iterator[str]:
    yield f"[jobs.{_quoted(name) if '.' in name else name}]"
    yield f"source = {{ site = {_quoted(start.source.name)}, vm = {_quoted(job.vm)} }}"
    yield "# exclude_disks = []"
    yield ""
    yield f"[jobs.{_quoted(name) if '.' in name else name}.destination]"
    yield f"site = {_quoted(start.destination.name)}"
    yield f"datastore = {_quoted(start.datastore)}"
    yield f"name = {_quoted(f'{job.title}-replica')}"
    for key, value in (("host", start.host), ("resource_pool", start.resource_pool)):
        if value is not None:
            yield f"{key} = {_quoted(value)}"
    if start.networks:
        pairs = ", ".join(f"{_quoted(a)} = {_quoted(b)}" for a, b in start.networks.items())
        yield f"networks = {{ {pairs} }}"


def _quoted(value: str) -> str:
    # A JSON string is a TOML basic string, but for the one control character that JSON leaves.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
