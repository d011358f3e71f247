"""`[jobs.NAME]`: one VM, and where its replica is."""

from __future__ import annotations

from vreplica.config.schema.base import Model, Switch, Text
from vreplica.config.schema.defaults import DefaultsTable
from vreplica.config.schema.guest import GuestTable


class SourceTable(Model):
    site: Text
    vm: Text


class DestinationTable(Model):
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


class JobTable(DefaultsTable):
    source: SourceTable
    destination: DestinationTable
    exclude_disks: frozenset[Text] = frozenset()
    guest: GuestTable | None = None
