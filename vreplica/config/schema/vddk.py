"""`[vddk]`: VMware's disk library."""

from __future__ import annotations

from vreplica.config.schema.base import File, Model, Switch, Text


class VddkTable(Model):
    """See vreplica.vddk.VddkConfig."""

    libdir: File | None = None
    config: File | None = None
    isolation: Switch = True
    transport_modes: Text | None = None
