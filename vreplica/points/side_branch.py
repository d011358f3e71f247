"""Describes side branches: what a replica wrote in service, kept by the undo of its failover.

    P ──────► next points of the job            the chain of recovery points
    └── un-20261130T161200Z-abc123              a snapshot of what was written in service from P on

A side branch is no recovery point: it is never the newest, never the base of a run, and boots only
where its id is named. The point that it stands on stays while it exists. Its description is frozen
in its snapshot:

    vreplica.side     {"v": 1, "id": ..., "job": ..., "of": failover, "point": P, "level": ...,
                       "time": ..., "written": bytes or null}
    vreplica.point    {"v": 2, ...}: a version that does not know side branches takes it for a
                      point of a newer version, and leaves it alone
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from vreplica.points.level import Level
from vreplica.points.model import RecoveryPoint
from vreplica.points.vm_keys import LEAF_KEY, POINT_KEY, SIDE_KEY
from vreplica.stored import Damaged, Id, Layout, Moment, Size, Text

ID_PREFIX: Final = "un-"
SEEN_AS_FORMAT: Final = 2
"""The format of vreplica.point in a side branch: one above those that older versions read."""


class _Stored(Layout):
    v: int
    id: Id
    job: Text
    of: Id
    point: Id
    level: Level
    time: Moment
    written: Size | None = None


@dataclass(frozen=True, slots=True)
class SideBranch:
    """What one replica wrote in service, kept in a snapshot of it."""

    id: str
    """`un-...`"""
    job: str
    failover: str
    """The failover that was undone."""
    point: str
    """The recovery point that it stands on."""
    level: Level
    time: datetime
    """When it was kept, by the mover's clock, UTC."""
    written_bytes: int | None
    """What changed since `point`, by change tracking; None: not known."""
    snapshot: str | None = None
    """moref of the snapshot; known once it exists."""

    def to_extra_config(self) -> dict[str, str]:
        """The keys and values to set on the replica right before the snapshot."""
        value = {
            "v": 1,
            "id": self.id,
            "job": self.job,
            "of": self.failover,
            "point": self.point,
            "level": self.level.value,
            "time": self.time.isoformat(),
            "written": self.written_bytes,
        }
        seen = {"v": SEEN_AS_FORMAT, "id": self.id, "job": self.job}
        # Without the mark of a failover: from the snapshot on nothing is written to its disks.
        return {SIDE_KEY: json.dumps(value), POINT_KEY: json.dumps(seen), LEAF_KEY: ""}

    @classmethod
    def from_extra_config(
        cls, values: Mapping[str, str], snapshot: str | None = None
    ) -> SideBranch | None:
        """The side branch that these values describe; None where they describe none."""
        try:
            found = _Stored.parse(values.get(SIDE_KEY, ""))
        except Damaged:
            return None
        return cls(
            id=found.id,
            job=found.job,
            failover=found.of,
            point=found.point,
            level=found.level,
            time=found.time,
            written_bytes=found.written,
            snapshot=snapshot,
        )

    def as_point(self, base: RecoveryPoint) -> RecoveryPoint:
        """As a point that can boot. `base`: the recovery point that it stands on."""
        return RecoveryPoint(
            id=self.id,
            job=self.job,
            source_vm=base.source_vm,
            source_name=base.source_name,
            time=self.time,
            level=self.level,
            requested=self.level,
            disks=(),
            notes=(f"written in service during {self.failover}, from {self.point} on",),
            snapshot=self.snapshot,
        )

    def to_dict(self) -> dict[str, Any]:
        """The values for `--json`."""
        return {
            "id": self.id,
            "failover": self.failover,
            "point": self.point,
            "level": self.level.value,
            "time": self.time.isoformat(),
            "written_bytes": self.written_bytes,
            "snapshot": self.snapshot,
        }
