"""`[sites.NAME]`: a vCenter or an ESXi host."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from vreplica.config.schema.base import Model, Secret, Text, Thumbprint, Whole, problem


def _host(value: str) -> str:
    """The host alone, also of a URL as vCenter shows it: https://vcenter.example/sdk."""
    if url := re.fullmatch(r"https?://([^/?#]+)(?:[/?#].*)?", value, re.IGNORECASE):
        value = url[1]
    if "/" in value or "@" in value:
        raise problem("is not a host", "Give its name or address, e.g. vcenter.example.")
    # A lone colon is a port; an IPv6 address has several, and brackets where a port follows.
    if value.count(":") == 1 or "]:" in value:
        raise problem("has a port in it", "Give the port by itself: port = 443.")
    return value.strip("[]")


Host = Annotated[Text, AfterValidator(_host)]


class SiteTable(Model):
    """A vCenter or a single ESXi host.

    Jobs with their destination here take resource_pool, folder, networks and test_network from
    this table, unless they set them.
    """

    host: Host
    """Name or address."""
    port: Whole = Field(default=443, ge=1, le=65535)
    user: Text
    password: Secret
    sha256: Thumbprint
    """Thumbprint of the server's certificate; `vreplica-sync thumbprint HOST` prints it."""
    resource_pool: Text | None = None
    folder: Text | None = None
    networks: dict[str, str] = {}
    """Networks of the source, each with the network of the destination to use for it."""
    test_network: Text | None = None
    """The isolated network of test failovers."""
