"""Makes one document of `--json`: every one has a version and a kind.

    {"version": 1, "result": "run", "job": "web01", ...}

The vocabulary is in the modules beside this one, `registry.py` names all kinds. Loads nothing
of them: a command that prints a result does not pay for its schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

VERSION: Final = 1
"""Grows when a key is removed or gets another meaning. New keys do not change it."""


def document(kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a result. `kind`: its name in `registry.KINDS`."""
    return {"version": VERSION, "result": kind, **value}
