"""Names in the inventory, as vCenter stores and shows them.

    given by a client    stored and shown     in the datastore
    team/web01           team%2fweb01         team_web01/team_web01.vmx
    team%2fweb01         team%2fweb01         the same name: this is an escape sequence
    50% off              50%25 off            50_ off/50_ off.vmx
    50%25 off            50%25 off            the same name

Slash, backslash and percent are escaped, except a percent that begins one of these three
sequences (vSphere API, ManagedEntity.name and VirtualMachineConfigSpec.name). So no name can hold
the text `%2f` itself, and a client that gives one gets a slash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from vreplica.lab.api.vmodl import fault, vim

NAME_MAX = 80
"""Characters of a name. The API's documentation counts them for folders; which form vCenter counts
is not documented, so the lab counts the longer one: the escaped form."""

_TO_ESCAPE = re.compile(r"%(?:2[fF]|5[cC]|25)|[%/\\]")
_ESCAPES = {"%": "%25", "/": "%2f", "\\": "%5c"}


def escape_name(name: str) -> str:
    """The stored form of a name. An escaped name stays as it is."""
    return _TO_ESCAPE.sub(lambda found: _ESCAPES.get(found[0], found[0].lower()), name)


def plain_name(name: str) -> str:
    """The name that a person reads: `team%2fweb01` -> `team/web01`."""
    return re.sub(
        r"%(2f|5c|25)", lambda found: {"2f": "/", "5c": "\\", "25": "%"}[found[1].lower()], name
    )


def file_name(name: str) -> str:
    """The name as a folder and a file of a datastore have it."""
    return re.sub(r"%(2f|5c|25)", "_", escape_name(name))


def entity_name(name: str | None) -> str:
    """The stored form of a new name. Raises InvalidName for none, and for one that is too long."""
    stored = escape_name(name or "")
    if not stored.strip() or len(stored) > NAME_MAX:
        raise fault(vim.fault.InvalidName, f"The name '{name or ''}' is invalid.", name=name or "")
    return stored


def named(items: Iterable[Any], name: str) -> Any:
    """The first object with this name in either form, or None."""
    wanted = escape_name(name)
    return next((item for item in items if item.name == wanted), None)
