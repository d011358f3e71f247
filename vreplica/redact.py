"""Takes the secrets that were read out of whatever is about to be logged or shown.

A server may repeat a password in its answer, a library may put a URL into its message.
"""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import quote, unquote

_SHORTEST: Final = 6
"""Shorter ones are words that stand in any log; vCenter and ESXi take none."""
_TOKEN: Final = 16
"""From this length on a piece of a URL's path or query may be what grants access."""
_given: set[str] = set()


def hide(text: str) -> str:
    """The text, with three asterisks for each secret that was read so far."""
    for value in sorted(_given, key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def remember(value: str) -> None:
    """As it is, and as it looks in a URL, in JSON and in a repr; of a URL also its parts."""
    parts = {value}
    if "://" in value:
        rest = value.partition("://")[2]
        password = rest.rpartition("@")[0].partition(":")[2]
        tokens = re.findall(rf"[^/?&=#@:]{{{_TOKEN},}}", rest)
        parts |= {password, unquote(password), *tokens}
    for part in list(parts):
        parts |= {quote(part, safe=""), json.dumps(part)[1:-1], repr(part)[1:-1]}
    _given.update(part for part in parts if len(part) >= _SHORTEST)
