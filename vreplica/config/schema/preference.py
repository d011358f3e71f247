"""`prefer` of a job: the points that boot in place of the newest.

prefer = { level = "application", max_age = "1h" }
"""

from __future__ import annotations

from typing import Literal

from vreplica.config.schema.base import Model
from vreplica.config.schema.schedule import Duration
from vreplica.points import Level
from vreplica.points.preference import Preference


class PreferTable(Model):
    """The newest point of at least this level boots, unless it is older than `max_age`."""

    level: Literal["crash", "filesystem", "application", "clean-shutdown"] = "crash"
    """The lowest level."""
    max_age: Duration | None = None
    """The highest age; where no point is younger, nothing boots."""

    def preference(self) -> Preference:
        age_s = self.max_age.total_seconds() if self.max_age is not None else None
        return Preference(Level(self.level), age_s)
