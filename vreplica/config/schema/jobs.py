"""`[jobs.NAME]`: a VM and its replica."""

from __future__ import annotations

from vreplica.config.schema.base import Model, Switch, Text
from vreplica.config.schema.defaults import DefaultsTable
from vreplica.config.schema.guest import GuestTable


class SourceTable(Model):
    """The VM to replicate."""

    site: Text
    vm: Text
    """A name, an inventory path, a moref (vm-12) or an instance UUID."""


class DestinationTable(Model):
    """The replica's site and place there."""

    site: Text
    datastore: Text
    name: Text
    """The name of the replica VM."""
    host: Text | None = None
    resource_pool: Text | None = None
    folder: Text | None = None
    networks: dict[str, str] = {}
    """Networks of the source, each with the network of the destination to use for it."""
    keep_mac: Switch = False
    """Give the replica the MAC addresses of the source."""
    keep_bios_uuid: Switch = True
    """Give the replica the BIOS UUID of the source."""
    test_network: Text | None = None
    """The isolated network of test failovers."""


class JobTable(DefaultsTable):
    """A VM and its replica."""

    source: SourceTable
    destination: DestinationTable
    exclude_disks: frozenset[Text] = frozenset()
    """Labels of disks that are not replicated, such as "Hard disk 2"."""
    guest: GuestTable | None = None
    """The guest's account for scripts, and its addresses at the destination."""
