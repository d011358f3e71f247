"""Recovery points: what they are, how consistent, how long they are kept."""

from vreplica.points.level import Level
from vreplica.points.model import DiskPoint, RecoveryPoint
from vreplica.points.retention import MAX_POINTS, Retention, Verdict

__all__ = ["MAX_POINTS", "DiskPoint", "Level", "RecoveryPoint", "Retention", "Verdict"]
