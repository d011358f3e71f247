"""Hides the secrets that were read, in everything that is logged or shown.

A server may repeat a password in its answer, and a library may put a URL into its message.
"""

from __future__ import annotations

import json
import re
from typing import Final
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


def remember(value: str) -> None:
    """Adds a secret: as it is, and as it looks in a URL, in JSON and in a repr.

    Of a URL the password and the tokens are added as well.
    """
    parts = {value}
    if "://" in value:
        rest = value.partition("://")[2]
        password = rest.rpartition("@")[0].partition(":")[2]
        tokens = re.findall(rf"[^/?&=#@:]{{{_TOKEN},}}", rest)
        parts |= {password, unquote(password), *tokens}
    for part in list(parts):
        parts |= {quote(part, safe=""), json.dumps(part)[1:-1], repr(part)[1:-1]}
    _secrets.update(part for part in parts if len(part) >= _SHORTEST)
