"""Recovery points: their description, their consistency level, and their retention.

Names are loaded on first use: a copy needs the digest maps of this package only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vreplica.lazy import on_first_use

if TYPE_CHECKING:
    from vreplica.points.level import Level
    from vreplica.points.model import DamagedPoint, DiskPoint, NewerPoint, RecoveryPoint
    from vreplica.points.retention import MAX_POINTS, Retention, Verdict

__all__ = [
    "MAX_POINTS",
    "DamagedPoint",
    "DiskPoint",
    "Level",
    "NewerPoint",
    "RecoveryPoint",
    "Retention",
    "Verdict",
]

__getattr__ = on_first_use(
    __name__,
    {
        "level": ["Level"],
        "model": ["DamagedPoint", "DiskPoint", "NewerPoint", "RecoveryPoint"],
        "retention": ["MAX_POINTS", "Retention", "Verdict"],
    },
)
