"""Converts names between the form that people read and the form that the API has.

    people          API, and what vCenter stores
    team/web01      team%2fweb01
    50% off         50%25 off
    a\\b             a%5cb

Slash, backslash and percent are escaped (vSphere API, ManagedEntity.name). A percent that begins
an escape sequence stays (VirtualMachineConfigSpec.name): so both forms name the same object, and
no name holds the text `%2f` itself.
"""

from __future__ import annotations

import re
from typing import Final

NAME_MAX: Final = 80
"""Characters of a name in vSphere, in the API's form."""

_PLAIN: Final = {"%2f": "/", "%5c": "\\", "%25": "%"}
_ESCAPED: Final = {plain: sequence for sequence, plain in _PLAIN.items()}
_SEQUENCE: Final = re.compile("%(?:2f|5c|25)", re.IGNORECASE)
_TO_ESCAPE: Final = re.compile(r"%(?:2f|5c|25)|[%/\\]", re.IGNORECASE)


def unescape(name: str) -> str:
    """Returns a name as people read it."""
    return _SEQUENCE.sub(lambda found: _PLAIN[found[0].lower()], name)


def escape(name: str) -> str:
    """Returns a name as the API has it. One that is escaped already does not change."""
    return _TO_ESCAPE.sub(lambda found: _ESCAPED.get(found[0], found[0].lower()), name)


def same_name(one: str, other: str) -> bool:
    """True where two names, each in either form, name the same object."""
    return escape(one) == escape(other)


def split_path(path: str) -> tuple[str, str]:
    """Splits a path: `[ds1] web/web.vmdk` -> (`ds1`, `web/web.vmdk`).

    The name of a datastore may have brackets in it.
    """
    datastore, found, rest = path.removeprefix("[").partition("] ")
    return datastore if found else datastore.removesuffix("]"), rest


def is_path_end(end: str, path: str) -> bool:
    """True where a path is `end`, or ends with it after a slash. Slashes around it do not count."""
    return f"/{path}".endswith("/" + unescape(end).strip("/"))
