"""The shape of a job file, as pydantic models: every key, its type, its default, its limits.

    state_dir = "..."
    [sites.NAME]     host port user password sha256
    [vddk]           libdir config isolation transport_modes
    [nfc]            mode depth in_flight_mib open_disks sha256
    [service]        database movers' limits                    (scheduletable)
    [defaults]       what a job says, for all jobs that do not say it themselves
    [jobs.NAME]      source = { site, vm }   destination = { site, datastore, name, ... }   ...
    [notify.NAME]    on, and one of webhook, mail and hook               (notifytable)
    [groups.NAME]    members = { JOB = { after, delay_s, heartbeat } }   parallel   on_error

What needs the rest of the file (does the site exist?) is checked in `rules`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from vreplica.config.schema.base import File, Model, Secret, Switch, Text, Whole, problem
from vreplica.config.schema.guest import GuestTable
from vreplica.config.schema.limits import LimitsTable
from vreplica.config.schema.notify import NotifyTable
from vreplica.config.schema.schedule import ScheduleTable, ServiceTable
from vreplica.points import MAX_POINTS, Retention

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
"""A job's name is also the name of its folder below state_dir."""


def _host(value: str) -> str:
    if "://" in value or "/" in value:
        raise problem(
            "is a URL, not a host", "Give the name or address alone, e.g. vcenter.example."
        )
    # A lone colon is a port; an IPv6 address has several.
    if value.count(":") == 1:
        raise problem("has a port in it", "Give the port by itself: port = 443.")
    return value.strip("[]")


def _thumbprint(value: str) -> str:
    digits = value.replace(":", "").replace(" ", "").upper()
    remedy = "`vreplica-sync thumbprint HOST` prints it."
    if re.fullmatch(r"[0-9A-F]{40}", digits):
        raise problem("is a SHA-1 thumbprint (20 bytes)", f"Give the SHA-256 one; {remedy}")
    if not re.fullmatch(r"[0-9A-F]{64}", digits):
        raise problem("is not a SHA-256 thumbprint (32 bytes in hex)", remedy)
    return ":".join(digits[i : i + 2] for i in range(0, 64, 2))


Host = Annotated[Text, AfterValidator(_host)]
Thumbprint = Annotated[str, AfterValidator(_thumbprint)]


class Site(Model):
    """A vCenter or a single ESXi host."""

    host: Host
    port: Whole = Field(default=443, ge=1, le=65535)
    user: Text
    password: Secret
    sha256: Thumbprint
    resource_pool: Text | None = None
    folder: Text | None = None
    networks: dict[str, str] = {}
    test_network: Text | None = None
    """These four: for jobs with their destination here that do not say it themselves."""


class Vddk(Model):
    """See vreplica.vddk.VddkConfig."""

    libdir: File | None = None
    config: File | None = None
    isolation: Switch = True
    transport_modes: Text | None = None


class Nfc(Model):
    """See vreplica.nfc.NfcConfig."""

    mode: Literal["nbdssl", "nbd"] = "nbdssl"
    depth: Whole = Field(default=8, ge=1, le=64)
    in_flight_mib: Whole = Field(default=32, ge=1, le=96)
    open_disks: Whole = Field(default=32, ge=2, le=50)
    """Two at least: a copy inside one host has both of its disks open there."""
    sha256: dict[Text, Thumbprint] = {}


class Source(Model):
    site: Text
    vm: Text


class Destination(Model):
    site: Text
    datastore: Text
    name: Text
    host: Text | None = None
    resource_pool: Text | None = None
    folder: Text | None = None
    networks: dict[str, str] = {}
    keep_mac: Switch = False
    keep_bios_uuid: Switch = True
    test_network: Text | None = None


class Defaults(Model):
    """What a job may say and, for all jobs, the table `defaults`."""

    transport: Literal["auto", "vddk", "nfc"] = "auto"
    quiesce: Literal["try", "require", "never"] = "try"
    quiesce_timeout_min: Whole = Field(default=10, ge=5, le=240)
    """The limits are those of vSphere's VirtualMachineGuestQuiesceSpec."""
    quiesce_attempts: Whole = Field(default=3, ge=1, le=20)
    require: Literal["crash", "filesystem", "application"] = "crash"
    on_cbt_loss: Literal["ask", "rescan", "fail"] = "ask"
    on_replica_change: Literal["stop", "discard"] = "stop"
    keep: Whole = Field(default=7, ge=1, le=MAX_POINTS)
    keep_hourly: Whole = Field(default=0, ge=0, le=MAX_POINTS)
    keep_daily: Whole = Field(default=0, ge=0, le=MAX_POINTS)
    keep_weekly: Whole = Field(default=0, ge=0, le=MAX_POINTS)
    parallel_disks: Whole = Field(default=2, ge=1, le=16)
    limits: LimitsTable | None = None
    audit_percent: Annotated[float, Field(ge=0, le=100)] = 0.1
    schedule: ScheduleTable | None = None

    @model_validator(mode="after")
    def _level_needs_quiescing(self) -> Defaults:
        if self.quiesce == "never" and self.require != "crash":
            raise problem(
                f'quiesce = "never" cannot reach require = "{self.require}"',
                'Set quiesce = "try" or "require", or require = "crash".',
            )
        return self

    @model_validator(mode="after")
    def _chain_takes_all_points(self) -> Defaults:
        try:
            self.retention()
        except ValueError as error:
            raise problem(
                f"keep, keep_hourly, keep_daily and keep_weekly are too much together: {error}",
                "Keep fewer; where keep is below 3 it counts as 3.",
            ) from None
        return self

    def retention(self) -> Retention:
        return Retention(self.keep, self.keep_hourly, self.keep_daily, self.keep_weekly)


class JobTable(Defaults):
    source: Source
    destination: Destination
    exclude_disks: frozenset[Text] = frozenset()
    guest: GuestTable | None = None


class GroupMember(Model):
    """See vreplica.failover.machine.group_order.Member."""

    after: tuple[Text, ...] = ()
    delay_s: Whole = Field(default=0, ge=0, le=86400)
    heartbeat: Switch = True


class GroupTable(Model):
    """Jobs that fail over together."""

    members: dict[str, GroupMember] = Field(min_length=1)
    parallel: Whole = Field(default=4, ge=1, le=32)
    on_error: Literal["stop", "continue"] = "stop"


class JobFile(Model):
    state_dir: File | None = None
    sites: dict[str, Site] = {}
    vddk: Vddk = Vddk()
    nfc: Nfc = Nfc()
    service: ServiceTable = ServiceTable()
    notify: dict[str, NotifyTable] = {}
    defaults: Defaults = Defaults()
    jobs: dict[str, JobTable] = {}
    groups: dict[str, GroupTable] = {}


def json_schema() -> dict[str, Any]:
    """The file's JSON schema, for editors. What goes across tables is only checked by `load`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **JobFile.model_json_schema(),
        "title": "vreplica job file",
        "description": "See docs/configuration.md.",
    }
