"""Writes the text of a first job file, with comments. Pure.

`load` accepts the text, whatever characters the names of VMs contain: names are quoted, and job
names are made from them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vreplica.config.schema.base import NAME


@dataclass(frozen=True, slots=True)
class SiteChoice:
    """A site of the file."""

    name: str
    host: str
    port: int
    user: str
    password_env: str
    sha256: str


@dataclass(frozen=True, slots=True)
class JobChoice:
    """A job of the file."""

    vm: str
    """The value of `source.vm`: a name, or a path where the name is not unique."""
    title: str
    """The VM's name."""


@dataclass(frozen=True, slots=True)
class FileChoices:
    """Everything that the file is written from."""

    source: SiteChoice
    destination: SiteChoice
    datastore: str
    jobs: Sequence[JobChoice]
    networks: Mapping[str, str] = field(default_factory=dict)
    host: str | None = None
    resource_pool: str | None = None


def job_file_text(choices: FileChoices) -> str:
    """The text of the whole file."""
    return "\n".join(_lines(choices)) + "\n"


def job_names(titles: Sequence[str]) -> list[str]:
    """A valid job name for each VM name, all different."""
    names: list[str] = []
    for title in titles:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-._")[:70] or "vm"
        assert NAME.fullmatch(plain)
        number, name = 2, plain
        while name in names:
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names


def _lines(choices: FileChoices) -> Iterator[str]:
    yield "# What vreplica-sync replicates, from where, to where. docs/configuration.md explains"
    yield "# every key. Try it with: vreplica-sync check"
    yield ""
    yield '# state_dir = "/var/lib/vreplica"      # default: the user\'s own state directory'
    for site in dict.fromkeys((choices.source, choices.destination)):
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
    for name, job in zip(job_names([j.title for j in choices.jobs]), choices.jobs, strict=True):
        yield ""
        yield from _job(choices, name, job)


def _site(site: SiteChoice) -> Iterator[str]:
    yield f"[sites.{site.name}]"
    yield f"host = {_quoted(site.host)}"
    if site.port != 443:
        yield f"port = {site.port}"
    yield f"user = {_quoted(site.user)}"
    yield f"password = {{ env = {_quoted(site.password_env)} }}   # or file = ..., keyring = ..."
    yield f"sha256 = {_quoted(site.sha256)}"


def _job(choices: FileChoices, name: str, job: JobChoice) -> Iterator[str]:
    yield f"[jobs.{_quoted(name) if '.' in name else name}]"
    yield f"source = {{ site = {_quoted(choices.source.name)}, vm = {_quoted(job.vm)} }}"
    yield "# exclude_disks = []"
    yield ""
    yield f"[jobs.{_quoted(name) if '.' in name else name}.destination]"
    yield f"site = {_quoted(choices.destination.name)}"
    yield f"datastore = {_quoted(choices.datastore)}"
    yield f"name = {_quoted(f'{job.title}-replica')}"
    for key, value in (("host", choices.host), ("resource_pool", choices.resource_pool)):
        if value is not None:
            yield f"{key} = {_quoted(value)}"
    if choices.networks:
        pairs = ", ".join(f"{_quoted(a)} = {_quoted(b)}" for a, b in choices.networks.items())
        yield f"networks = {{ {pairs} }}"


def _quoted(value: str) -> str:
    # A JSON string is a TOML basic string, except for one control character, which JSON allows.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
