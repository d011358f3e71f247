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

from typing import Any

from vreplica.config.schema.base import File, Model
from vreplica.config.schema.defaults import DefaultsTable
from vreplica.config.schema.groups import GroupTable
from vreplica.config.schema.jobs import JobTable
from vreplica.config.schema.nfc import NfcTable
from vreplica.config.schema.notify import NotifyTable
from vreplica.config.schema.service import ServiceTable
from vreplica.config.schema.sites import SiteTable
from vreplica.config.schema.vddk import VddkTable


class JobFile(Model):
    state_dir: File | None = None
    sites: dict[str, SiteTable] = {}
    vddk: VddkTable = VddkTable()
    nfc: NfcTable = NfcTable()
    service: ServiceTable = ServiceTable()
    notify: dict[str, NotifyTable] = {}
    defaults: DefaultsTable = DefaultsTable()
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
