"""Describes recovery points, and reads and writes that description at the destination.

A recovery point is a snapshot of the replica VM. Its description is in the VM's extraConfig at the
moment of the snapshot, which freezes it. So a lost catalog can be rebuilt from the destination
alone, and a revert takes the description back together with the disks:

    vreplica.point            {"v": 1, "id": ..., "job": ..., "vm": ..., "time": ..., ...}
    vreplica.point.disk.2000  {"label": ..., "uuid": ..., "capacity": ..., "changeId": ..., ...}
    vreplica.point.disk.2001  ...

One short value for each key: .vmx values are lines, and their maximal length is not documented.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from vreplica.formats import written_by_newer
from vreplica.points.changes import ChangeStats
from vreplica.points.level import Level
from vreplica.points.vm_keys import DISK_KEY, POINT_KEY

FORMAT = 1
"""Format of the description, `v`. A point of a higher format is a NewerPoint."""

_ID_TIME: Final = "%Y%m%dT%H%M%SZ"
_ID_TIME_LENGTH: Final = len("20260101T000000Z")


@dataclass(frozen=True, slots=True)
class NewerPoint:
    """A recovery point that a newer version wrote, in a format that this version cannot read.

    It is never removed, never booted and never the base of a run.
    """

    id: str
    format: int
    job: str | None = None
    """None: it does not say so in a place where this version looks."""
    snapshot: str | None = None
    """moref of the snapshot; None for the description of the VM itself."""

    def to_dict(self) -> dict[str, Any]:
        """The values for `--json`."""
        return {"id": self.id, "format": self.format, "reads_up_to": FORMAT}

    def __str__(self) -> str:
        return f"point {self.id} was {written_by_newer(self.format, FORMAT)}"

    @classmethod
    def from_extra_config(
        cls, values: Mapping[str, str], snapshot: str | None = None, *, name: str = ""
    ) -> NewerPoint | None:
        """The newer point that these values describe, or None. `name`: of the snapshot."""
        try:
            point = json.loads(values[POINT_KEY])
            found = point["v"]
        except (KeyError, ValueError, TypeError):
            return None
        if not isinstance(found, int) or found <= FORMAT:
            return None
        job, id_ = point.get("job"), point.get("id")
        return cls(
            id=id_ if isinstance(id_, str) else name,
            format=found,
            job=job if isinstance(job, str) else None,
            snapshot=snapshot,
        )


def new_id() -> str:
    """A new id for a run and for the point that it makes: unique, sorts by time."""
    return f"{datetime.now(UTC):{_ID_TIME}}-{uuid.uuid4().hex[:6]}"


@dataclass(frozen=True, slots=True)
class DiskPoint:
    """One disk of a recovery point.

    `key`: the source's VirtualDisk.key. `uuid`: its backing UUID. `change_id`: where CBT of the
    source stood; None where CBT gave none. `mode`: how this point was made.
    """

    key: int
    label: str
    uuid: str
    capacity_bytes: int
    change_id: str | None
    mode: str
    written_bytes: int
    """In its run: data, and zeros that had to be written."""
    root: str
    """Root digest of the disk's content, hex; empty when no digest map was kept."""
    stats: ChangeStats | None = None
    """None: in a point that was made before points had them."""
    diverged_since: str | None = None
    """In the kept last state of a VM that was the source before: a changeId of that VM's *own*
    tracking. The point holds what the source held at `change_id`, plus what the VM itself changed
    since this changeId."""


@dataclass(frozen=True, slots=True)
class RecoveryPoint:
    """One state that the replica can be reverted to."""

    id: str
    job: str
    source_vm: str
    """Instance UUID of the source VM."""
    source_name: str
    time: datetime
    """When the source's snapshot was taken, UTC."""
    level: Level
    requested: Level
    disks: tuple[DiskPoint, ...]
    excluded: tuple[str, ...] = ()
    """Labels of disks of the source that are not replicated."""
    notes: tuple[str, ...] = ()
    suspicions: tuple[str, ...] = ()
    """Reasons why the change of its run looks like mass encryption; empty: it does not."""
    overhead_s: float | None = None
    """Time of its run up to this description, without its disks, each of which has its own
    `stats.seconds`. None: in a point that was made before points had it."""
    accepted: bool = field(default=False, compare=False)
    """An operator has accepted `suspicions`. Kept in the job's folder, not in the point."""
    snapshot: str | None = field(default=None, compare=False)
    """moref of the replica's snapshot; known once the point exists."""

    @property
    def taken(self) -> datetime:
        """The time when the run that made the point began, by the clock of its mover.

        Ages are counted from here: the data is no older, and the mover that asks has the same
        clock or one that is kept in step with it. The source's clock (`time`) may be wrong.
        Points whose id tells no time give `time`.
        """
        try:
            return datetime.strptime(self.id[:_ID_TIME_LENGTH], _ID_TIME).replace(tzinfo=UTC)
        except ValueError:
            return self.time

    @property
    def flagged(self) -> bool:
        """Suspicious, and not accepted yet."""
        return bool(self.suspicions) and not self.accepted

    def disk(self, key: int) -> DiskPoint | None:
        return next((d for d in self.disks if d.key == key), None)

    def to_extra_config(self) -> dict[str, str]:
        """The keys and values to set on the replica right before its snapshot."""
        point = {
            "v": FORMAT,
            "id": self.id,
            "job": self.job,
            "vm": self.source_vm,
            "name": self.source_name,
            "time": self.time.isoformat(),
            "level": self.level.value,
            "requested": self.requested.value,
            "disks": [d.key for d in self.disks],
            "excluded": list(self.excluded),
            "notes": list(self.notes),
            **({"suspicions": list(self.suspicions)} if self.suspicions else {}),
            **({"overhead": self.overhead_s} if self.overhead_s is not None else {}),
        }
        values = {POINT_KEY: _dump(point)}
        for d in self.disks:
            values[f"{DISK_KEY}{d.key}"] = _dump(
                {
                    "label": d.label,
                    "uuid": d.uuid,
                    "capacity": d.capacity_bytes,
                    "changeId": d.change_id,
                    "mode": d.mode,
                    "shipped": d.written_bytes,
                    "root": d.root,
                    **({"stats": d.stats.to_values()} if d.stats is not None else {}),
                    **({"diverged": d.diverged_since} if d.diverged_since else {}),
                }
            )
        return values

    @classmethod
    def from_extra_config(
        cls, values: Mapping[str, str], snapshot: str | None = None
    ) -> RecoveryPoint | None:
        """The point that these values describe; None where they describe none, or not wholly."""
        try:
            point: dict[str, Any] = json.loads(values[POINT_KEY])
            if point["v"] != FORMAT:
                return None
            disks = tuple(
                _disk(key, json.loads(values[f"{DISK_KEY}{key}"])) for key in point["disks"]
            )
            return cls(
                id=point["id"],
                job=point["job"],
                source_vm=point["vm"],
                source_name=point["name"],
                time=datetime.fromisoformat(point["time"]),
                level=Level(point["level"]),
                requested=Level(point["requested"]),
                disks=disks,
                excluded=tuple(point["excluded"]),
                notes=tuple(point["notes"]),
                suspicions=tuple(point.get("suspicions", ())),
                overhead_s=float(point["overhead"]) if "overhead" in point else None,
                snapshot=snapshot,
            )
        except (KeyError, ValueError, TypeError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """The values for `--json`."""
        return {
            "id": self.id,
            "job": self.job,
            "source_vm": self.source_vm,
            "source_name": self.source_name,
            "time": self.time.isoformat(),
            "taken": self.taken.isoformat(),
            "level": self.level.value,
            "requested": self.requested.value,
            "snapshot": self.snapshot,
            "excluded": list(self.excluded),
            "notes": list(self.notes),
            "suspicions": list(self.suspicions),
            "flagged": self.flagged,
            "overhead_s": self.overhead_s,
            "disks": [
                {
                    "key": d.key,
                    "label": d.label,
                    "uuid": d.uuid,
                    "capacity_bytes": d.capacity_bytes,
                    "change_id": d.change_id,
                    "mode": d.mode,
                    "written_bytes": d.written_bytes,
                    "root": d.root,
                    "stats": d.stats.to_dict() if d.stats is not None else None,
                }
                for d in self.disks
            ],
        }


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _disk(key: int, value: dict[str, Any]) -> DiskPoint:
    return DiskPoint(
        key=int(key),
        label=value["label"],
        uuid=value["uuid"],
        capacity_bytes=value["capacity"],
        change_id=value["changeId"],
        mode=value["mode"],
        written_bytes=value["shipped"],
        root=value["root"],
        stats=ChangeStats.from_values(value["stats"]) if "stats" in value else None,
        diverged_since=value.get("diverged"),
    )
