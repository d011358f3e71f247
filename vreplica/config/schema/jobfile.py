"""The whole job file as a pydantic model: its tables, each defined in the module of its name.

    state_dir = "..."
    [sites.NAME]     host port user password sha256
    [vddk]           libdir config isolation transport_modes
    [nfc]            mode depth in_flight_mib open_disks legacy_tls sha256
    [service]        database lease runs ... metrics
    [defaults]       keys of jobs, for all jobs that do not set them
    [jobs.NAME]      source = { site, vm }   destination = { site, datastore, name, ... }   ...
    [notify.NAME]    on, and one of webhook, mail and hook
    [groups.NAME]    members = { JOB = { after, delay_s, heartbeat } }   parallel   on_error

config/cross_checks.py checks what needs the rest of the file, such as whether a site exists.
"""

from __future__ import annotations

from typing import Any

from vreplica.config.schema.base import File, Model
from vreplica.config.schema.groups import GroupTable
from vreplica.config.schema.jobs import DefaultsTable, JobTable
from vreplica.config.schema.nfc import NfcTable
from vreplica.config.schema.notify import NotifyTable
from vreplica.config.schema.service import ServiceTable
from vreplica.config.schema.sites import SiteTable
from vreplica.config.schema.vddk import VddkTable


class JobFile(Model):
    """The job file of vreplica-sync."""

    state_dir: File | None = None
    """The folder for digest maps and locks."""
    sites: dict[str, SiteTable] = {}
    vddk: VddkTable = VddkTable()
    nfc: NfcTable = NfcTable()
    service: ServiceTable = ServiceTable()
    notify: dict[str, NotifyTable] = {}
    defaults: DefaultsTable = DefaultsTable()
    jobs: dict[str, JobTable] = {}
    groups: dict[str, GroupTable] = {}


def json_schema() -> dict[str, Any]:
    """The job file's JSON schema, for editors. It has no checks between tables; `load` has."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **JobFile.model_json_schema(),
        "title": "vreplica job file",
        "description": "See docs/configuration.md.",
    }
