"""`[vddk]`: VMware's disk library."""

from __future__ import annotations

from vreplica.config.schema.base import File, Model, Switch, Text


class VddkTable(Model):
    """VMware's disk library."""

    libdir: File | None = None
    """The folder of VMware's VDDK; default: the library of this package."""
    config: File | None = None
    """The configuration file of the library itself."""
    isolation: Switch = True
    """Run the library in a process of its own for each disk."""
    transport_modes: Text | None = None
    """For example "nbdssl:nbd"; default: the library's own."""
