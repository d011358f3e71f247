"""`[nfc]`: the hosts' own protocol for disks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vreplica.config.schema.base import Model, Text, Thumbprint, Whole


class NfcTable(Model):
    """The hosts' own protocol for disks, without VMware's disk library."""

    mode: Literal["nbdssl", "nbd"] = "nbdssl"
    """nbdssl: encrypted; nbd: the disks' content is sent in the clear."""
    depth: Whole = Field(default=8, ge=1, le=64)
    """Requests of 1 MiB that one disk has in flight."""
    in_flight_mib: Whole = Field(default=32, ge=1, le=96)
    """MiB in flight at one ESXi host, of all replications of this machine together."""
    # At least two: a copy inside one host opens both of its disks there.
    open_disks: Whole = Field(default=32, ge=2, le=50)
    """Disks open at one ESXi host, of all replications of this machine together."""
    legacy_tls: list[Text] = []
    """ESXi hosts whose TLS may have keys of 1024 bits (6.5, 6.7.0), by name or address."""
    sha256: dict[Text, Thumbprint] = {}
    """Thumbprints of ESXi hosts' certificates, by the name or address in vCenter's tickets."""
