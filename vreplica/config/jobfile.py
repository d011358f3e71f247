"""Reads a job file (TOML) and makes jobs of it.

    config = vreplica.load("vreplica.toml")
    report = vreplica.run(config["web01"])

The whole file is checked when it is loaded, and one error has all its problems. Passwords are read
when a job is made, so that a job runs although the password of another one cannot be read.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from vreplica.config import secrets
from vreplica.config.cross_checks import broken_rules
from vreplica.config.errors import (
    JobFileInvalid,
    JobFileUnreadable,
    NoJobFile,
    NoJobs,
    NoReceivers,
    Problem,
    UnknownGroup,
    UnknownJob,
    UnknownName,
    UnknownReceiver,
)
from vreplica.config.problems import from_validation, suggestion
from vreplica.config.schema.base import Secret
from vreplica.config.schema.guest import GuestRulesTable, GuestTable
from vreplica.config.schema.jobfile import JobFile
from vreplica.config.schema.notify import NotifyTable
from vreplica.config.schema.service import ServiceTable
from vreplica.config.toml_positions import KeyPath, locate
from vreplica.failover.machine.choices import OnError
from vreplica.failover.machine.group_order import Group, Member
from vreplica.nfc.config import HostLimits, NfcConfig
from vreplica.points import Level
from vreplica.scheduling.schedule import ScheduleRule
from vreplica.sync.job import (
    Customize,
    Guest,
    Job,
    Limits,
    OnCbtLoss,
    OnReplicaChange,
    Placement,
    QuiescePolicy,
)
from vreplica.units import MIB
from vreplica.vddk.config import VddkConfig
from vreplica.vsphere.model import Endpoint, GuestCustomization, KeepIdentity, NicRule

FILE_NAME = "vreplica.toml"
ENV_CONFIG = "VREPLICA_CONFIG"


class Config(Mapping[str, Job]):
    """The jobs of one file by name, in the file's order."""

    def __init__(self, path: Path, file: JobFile) -> None:
        self.path = path
        self._file = file
        self._base = path.absolute().parent
        """The folder at which relative paths of the file start."""

    def __getitem__(self, name: str) -> Job:
        """Raises UnknownJob, and SecretUnavailable where a password cannot be read."""
        self.select([name])
        table = self._file.jobs[name]
        to = table.destination
        there = self._file.sites[to.site]
        return Job(
            name=name,
            source=self.endpoint(table.source.site),
            source_vm=table.source.vm,
            destination=self.endpoint(to.site),
            placement=Placement(
                datastore=to.datastore,
                name=to.name,
                host=to.host,
                resource_pool=to.resource_pool or there.resource_pool,
                folder=to.folder or there.folder,
                networks={**there.networks, **to.networks},
                test_network=to.test_network or there.test_network,
                new_vtpm=to.new_vtpm,
                storage_policy=to.storage_policy,
                keep=KeepIdentity(bios_uuid=to.keep_bios_uuid, mac=to.keep_mac),
            ),
            state_dir=self.state_dir,
            transport=table.transport,
            vddk=self._vddk(),
            nfc=self._nfc(),
            quiesce=QuiescePolicy(table.quiesce),
            quiesce_timeout_min=table.quiesce_timeout_min,
            quiesce_attempts=table.quiesce_attempts,
            require=Level(table.require),
            on_cbt_loss=OnCbtLoss(table.on_cbt_loss),
            on_replica_change=OnReplicaChange(table.on_replica_change),
            exclude_disks=table.exclude_disks,
            require_complete=table.require_complete,
            allow_plain_replica=table.allow_plain_replica,
            retention=table.retention(),
            parallel_disks=table.parallel_disks,
            guest=self._guest(name, table.guest),
            limits=table.limits.limits() if table.limits else Limits(),
            audit_share=table.audit_percent / 100,
            keep_undone_days=table.keep_undone_days,
            prefer=table.prefer.preference() if table.prefer else None,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.jobs)

    def __len__(self) -> int:
        return len(self._file.jobs)

    def __contains__(self, name: object) -> bool:
        return name in self._file.jobs

    def __repr__(self) -> str:
        return f"Config({str(self.path)!r}, jobs={list(self)})"

    def select(self, names: Sequence[str] = ()) -> list[str]:
        """The named jobs, each once, or all where none is named. Raises UnknownJob, NoJobs."""
        self._check(names, self, UnknownJob, "Jobs")
        if not self:
            raise NoJobs(str(self.path))
        return list(dict.fromkeys(names)) or list(self)

    def vm_name(self, job: str) -> str:
        """The name of a job's VM, as people know it: of its source; of its replica where the file
        names the source by an id. Raises UnknownJob."""
        self.select([job])
        table = self._file.jobs[job]
        name = table.source.vm.rstrip("/").rpartition("/")[2]
        by_id = re.fullmatch(r"vm-\d+|[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}", name)
        return table.destination.name if by_id else name

    @property
    def groups(self) -> list[str]:
        """The names of the file's groups, in its order."""
        return list(self._file.groups)

    def group(self, name: str) -> Group:
        """Raises UnknownGroup."""
        self._check([name], self.groups, UnknownGroup, "Groups")
        table = self._file.groups[name]
        members = tuple(
            Member(job, m.after, float(m.delay_s), m.heartbeat) for job, m in table.members.items()
        )
        return Group(name, members, table.parallel, OnError(table.on_error))

    @property
    def state_dir(self) -> Path:
        """The folder for digest maps and locks: of the file, or else of XDG."""
        if self._file.state_dir is not None:
            return self._base / self._file.state_dir.expanduser()
        return _xdg("XDG_STATE_HOME", ".local/state") / "vreplica"

    def rule(self, name: str) -> ScheduleRule | None:
        """The schedule of a job; None where it is run by hand. Raises UnknownJob."""
        self.select([name])
        table = self._file.jobs[name].schedule
        return table.rule() if table else None

    @property
    def service(self) -> ServiceTable:
        """The table of the service: its database and its limits."""
        return self._file.service

    @property
    def notify(self) -> Mapping[str, NotifyTable]:
        """The tables of the receivers of notifications, by name."""
        return self._file.notify

    def select_receivers(self, names: Sequence[str] = ()) -> list[str]:
        """The named receivers, each once, or all. Raises UnknownReceiver, NoReceivers."""
        self._check(names, self.notify, UnknownReceiver, "Receivers")
        if not self.notify:
            raise NoReceivers(str(self.path))
        return list(dict.fromkeys(names)) or list(self.notify)

    def secret(self, place: Secret, what: str, user: str) -> Callable[[], str]:
        """A function that reads a secret each time; it raises SecretUnavailable."""
        return partial(secrets.read, place, what, user, self._base)

    def resolve(self, path: Path) -> Path:
        """The path with which this process can open a path of the file."""
        return self._base / path.expanduser()

    def secret_variables(self) -> frozenset[str]:
        """The environment variables that contain secrets. Other programs must not inherit them."""
        return frozenset(_variables(self._file))

    def catalog_url(self) -> str:
        """The URL of the catalog's database. Raises SecretUnavailable."""
        place = self._file.service.database
        if place is None:
            return f"sqlite:///{self.state_dir / 'catalog.sqlite'}"
        return secrets.read(place, "the database URL of [service]", "database", self._base)

    @property
    def has_catalog(self) -> bool:
        """True where there is a catalog to keep up to date: a file, or a database that is set."""
        there = self._file.service.database is not None
        return there or (self.state_dir / "catalog.sqlite").exists()

    def sites(self) -> list[str]:
        """The names of the sites that jobs use, each once."""
        return list(dict.fromkeys(s for name in self for s in self.sites_of(name)))

    def sites_of(self, name: str) -> tuple[str, str]:
        """The names of a job's source and destination site."""
        table = self._file.jobs[name]
        return table.source.site, table.destination.site

    def vms_of(self, name: str) -> tuple[str, str]:
        """A job's source VM, and the name of its replica."""
        table = self._file.jobs[name]
        return table.source.vm, table.destination.name

    def groups_of(self, name: str) -> list[str]:
        """The names of the groups that a job is a member of."""
        return [group for group, table in self._file.groups.items() if name in table.members]

    def endpoint(self, site: str) -> Endpoint:
        """Address and login of a site. Raises SecretUnavailable."""
        table = self._file.sites[site]
        return Endpoint(
            host=table.host,
            user=table.user,
            password=secrets.read(
                table.password, f"the password of site {site}", table.user, self._base
            ),
            sha256=table.sha256,
            port=table.port,
            site=site,
        )

    def _check(
        self, names: Sequence[str], known: Collection[str], unknown: type[UnknownName], noun: str
    ) -> None:
        for name in names:
            if name not in known:
                hint = suggestion(name, known, f"{noun} in this file")
                raise unknown(str(self.path), name, hint)

    def _guest(self, job: str, table: GuestTable | None) -> Guest:
        if table is None:
            return Guest()
        password = None
        if table.password is not None and table.user is not None:
            what = f"the password of the guest of job {job}"
            password = partial(secrets.read, table.password, what, table.user, self._base)
        login = Guest(table.user, password)
        failback = _guest_rules(login, table.failback) if table.failback is not None else None
        return replace(_guest_rules(login, table), failback=failback)

    def _nfc(self) -> NfcConfig:
        table = self._file.nfc
        limits = HostLimits(table.in_flight_mib * MIB, table.open_disks)
        return NfcConfig(
            mode=table.mode,
            depth=table.depth,
            limits=limits,
            pinned_sha256=dict(table.sha256),
            legacy_tls=frozenset(table.legacy_tls),
        )

    def _vddk(self) -> VddkConfig:
        table = self._file.vddk
        return VddkConfig(
            libdir=table.libdir and self._base / table.libdir.expanduser(),
            config_file=table.config and self._base / table.config.expanduser(),
            isolation=table.isolation,
            transport_modes=table.transport_modes,
        )


def _guest_rules(login: Guest, table: GuestRulesTable) -> Guest:
    customize = table.customize or ("spec" if table.spec else None)
    nics = tuple(NicRule(nic.ip, nic.gateway, nic.dns) for nic in table.nics)
    return replace(
        login,
        customize=Customize(customize) if customize else None,
        spec=table.spec,
        customization=GuestCustomization(table.hostname, table.domain, nics),
    )


def load(path: str | os.PathLike[str] | None = None) -> Config:
    """Reads and checks a job file; without a path, the one that `find` finds.

    Raises JobFileInvalid with all problems of the file, JobFileUnreadable, NoJobFile.
    """
    file = Path(path) if path is not None else find()
    text = _text(file)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise JobFileInvalid(str(file), (_syntax_problem(text, str(error)),)) from None
    problems: list[Problem] = []
    merged, inherited_from = _inherit(raw)
    try:
        parsed = JobFile.model_validate(merged)
    except ValidationError as error:
        problems += from_validation(error, raw, locate(text), inherited_from)
    else:
        problems += broken_rules(parsed, locate(text))
        if not problems:
            return Config(file, parsed)
    raise JobFileInvalid(str(file), tuple(sorted(problems, key=lambda p: p.line))) from None


def find() -> Path:
    """The path of the job file when none is named. Raises NoJobFile."""
    if named := os.environ.get(ENV_CONFIG):
        return Path(named)
    candidates = (Path(FILE_NAME), _xdg("XDG_CONFIG_HOME", ".config") / "vreplica" / FILE_NAME)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise NoJobFile(", ".join(str(c if c.is_absolute() else f"./{c}") for c in candidates))


def _variables(value: Any) -> Iterator[str]:
    """The environment variables of all secrets in a table."""
    if isinstance(value, Secret):
        if value.env is not None:
            yield value.env
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _variables(getattr(value, name))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _variables(each)


def _xdg(variable: str, default: str) -> Path:
    # By the XDG specification a relative path is ignored.
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else Path.home() / default


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise JobFileUnreadable(str(file), reason) from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = Problem(line, "", "this is not UTF-8 text", "Save the file as UTF-8.")
        raise JobFileInvalid(str(file), (problem,)) from None


def _syntax_problem(text: str, said: str) -> Problem:
    """The problem of invalid TOML, from the message of the standard parser.

    It ends in `(at line 3, column 5)` or `(at end of document)`.
    """
    message, _, place = said.rpartition(" (at ")
    numbers = re.match(r"line (\d+), column (\d+)", place)
    line = int(numbers[1]) if numbers else text.rstrip().count("\n") + 1
    where = f" at column {numbers[2]}" if numbers else " at the end of the file"
    return Problem(
        line,
        "",
        f"this is not valid TOML{where}: {message[:1].lower()}{message[1:]}",
        "Correct this line; texts are written in quotes, tables as [jobs.NAME].",
    )


def _inherit(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[KeyPath, KeyPath]]:
    """The file with the keys of `defaults` in each job that does not set them.

    Also a map from each such key of a job to the key of `defaults`, for the lines of problems.
    """
    defaults, jobs = raw.get("defaults"), raw.get("jobs")
    if not isinstance(defaults, dict) or not isinstance(jobs, dict):
        return raw, {}
    inherited_from: dict[KeyPath, KeyPath] = {}
    merged: dict[str, Any] = {}
    for name, job in jobs.items():
        if not isinstance(job, dict):
            merged[name] = job
            continue
        inherited = {k: v for k, v in defaults.items() if k not in job}
        inherited_from |= {("jobs", name, key): ("defaults", key) for key in inherited}
        merged[name] = inherited | job
    return {**raw, "jobs": merged}, inherited_from
