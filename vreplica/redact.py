"""Hides the secrets that were read, in everything that is logged or shown.

A server may repeat a password in its answer, and a library may put a URL into its message. So a
fault is cleaned where it is read (`vsphere.connection.faults`), and all text once more where it is
shown or stored: on standard error, in JSON, logs, events, the catalog and journals.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from typing import Any, Final
from urllib.parse import quote, unquote

_SHORTEST: Final = 6
"""Shorter secrets are not hidden: they are words of any log. vCenter and ESXi accept none."""
_TOKEN: Final = 16
"""A part of a URL's path or query with this length, or more, may be what grants access."""
_secrets: set[str] = set()


def hide(text: str) -> str:
    """The text with `***` in place of every secret that was read so far."""
    for value in sorted(_secrets, key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def hide_in(value: Any) -> Any:
    """A JSON value with secrets hidden in all its texts. Keys are ours and stay."""
    match value:
        case str():
            return hide(value)
        case Mapping():
            return {key: hide_in(inner) for key, inner in value.items()}
        case list() | tuple():
            return [hide_in(inner) for inner in value]
    return value


def remember(value: str) -> None:
    """Adds a secret: as it is, and as it looks in a URL, in JSON, in a repr, in XML and HTML.

    Of a URL the password and the tokens are added as well.
    """
    parts = {value}
    if "://" in value:
        rest = value.partition("://")[2]
        password = rest.rpartition("@")[0].partition(":")[2]
        tokens = re.findall(rf"[^/?&=#@:]{{{_TOKEN},}}", rest)
        parts |= {password, unquote(password), *tokens}
    for part in list(parts):
        parts |= {quote(part, safe=""), json.dumps(part)[1:-1], repr(part)[1:-1], escape(part)}
    _secrets.update(part for part in parts if len(part) >= _SHORTEST)
