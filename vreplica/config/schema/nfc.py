"""`[nfc]`: the hosts' own protocol for disks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vreplica.config.schema.base import Model, Text, Thumbprint, Whole


class NfcTable(Model):
    """See vreplica.nfc.NfcConfig."""

    mode: Literal["nbdssl", "nbd"] = "nbdssl"
    depth: Whole = Field(default=8, ge=1, le=64)
    in_flight_mib: Whole = Field(default=32, ge=1, le=96)
    open_disks: Whole = Field(default=32, ge=2, le=50)
    """Two at least: a copy inside one host has both of its disks open there."""
    sha256: dict[Text, Thumbprint] = {}
