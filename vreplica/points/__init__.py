"""Recovery points: what they are, how consistent, how long they are kept.

Names are loaded on first use: a copy needs the digest maps of this package only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vreplica.points.level import Level
    from vreplica.points.model import DiskPoint, RecoveryPoint
    from vreplica.points.retention import MAX_POINTS, Retention, Verdict

__all__ = ["MAX_POINTS", "DiskPoint", "Level", "RecoveryPoint", "Retention", "Verdict"]

_HOMES = {
    "MAX_POINTS": "retention",
    "DiskPoint": "model",
    "Level": "level",
    "RecoveryPoint": "model",
    "Retention": "retention",
    "Verdict": "retention",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
