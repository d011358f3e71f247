"""Describes recovery points, and reads and writes that description at the destination.

A recovery point is a snapshot of the replica VM. Its description is in the VM's extraConfig at the
moment of the snapshot, which freezes it. So a lost catalog can be rebuilt from the destination
alone, and a revert takes the description back together with the disks:

    vreplica.point            {"v": 1, "id": ..., "job": ..., "vm": ..., "time": ..., ...}
    vreplica.point.disk.2000  {"label": ..., "uuid": ..., "capacity": ..., "changeId": ..., ...}
    vreplica.point.disk.2001  ...

One short value for each key: .vmx values are lines, and their maximal length is not documented.
The first value ends with a checksum of all of them; points of the first version have none. One
digit of a changeId would make the next point a wrong one, and its form does not show it. So without
a checksum changeIds are not believed: the next run compares both sides, and its point has one.

Whoever may edit the VM may write these values, so they are checked like input. A description that
cannot be believed is a DamagedPoint: it is reported and left out, and stops nothing else.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, StringConstraints

from vreplica.formats import written_by_newer
from vreplica.points.changes import ChangeStats, StatsLayout
from vreplica.points.level import Level
from vreplica.points.vm_keys import DISK_KEY, POINT_KEY
from vreplica.stored import (
    Damaged,
    Id,
    Key,
    Layout,
    Moment,
    Seconds,
    Size,
    Text,
    check_json,
    has_sum,
    in_range,
    parse_data,
    seal_json,
)

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
    advice: ClassVar[str] = "Upgrade vreplica on this machine; do not remove that point"

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
            point = parse_data(values.get(POINT_KEY, ""))
            _check_sum(values, point.get("disks"))
        except Damaged:
            return None
        found = point.get("v")
        if not isinstance(found, int) or found <= FORMAT:
            return None
        job, id_ = point.get("job"), point.get("id")
        return cls(
            id=id_ if isinstance(id_, str) else name,
            format=found,
            job=job if isinstance(job, str) else None,
            snapshot=snapshot,
        )


@dataclass(frozen=True, slots=True)
class DamagedPoint:
    """A recovery point whose description cannot be believed.

    It is never removed, never booted and never the base of a run. Its snapshot may be good.
    """

    id: str
    """Name of its snapshot: snapshots are named like their points."""
    reason: str
    snapshot: str | None = None
    """moref of the snapshot."""
    advice: ClassVar[str] = (
        "Its disks may be good: clone its snapshot in vCenter to look at them; remove the snapshot "
        "there once it is of no use"
    )

    def to_dict(self) -> dict[str, Any]:
        """The values for `--json`."""
        return {"id": self.id, "reason": self.reason}

    def __str__(self) -> str:
        return f"the description of point {self.id} is damaged ({self.reason}); it is left out"

    @classmethod
    def from_extra_config(
        cls, values: Mapping[str, str], snapshot: str | None = None, *, name: str
    ) -> DamagedPoint | None:
        """The damaged point that these values describe; None for good, newer and no points.

        `name`: of the snapshot.
        """
        if not values.get(POINT_KEY) or NewerPoint.from_extra_config(values) is not None:
            return None
        try:
            _read(values)
        except Damaged as error:
            return cls(name, str(error), snapshot)
        return None


LeftOut = NewerPoint | DamagedPoint
"""A recovery point that this version cannot use."""


def new_id() -> str:
    """A new id for a run and for the point that it makes: unique, sorts by time."""
    return f"{datetime.now(UTC):{_ID_TIME}}-{uuid.uuid4().hex[:6]}"


@dataclass(frozen=True, slots=True)
class DiskPoint:
    """One disk of a recovery point.

    `key`: the source's VirtualDisk.key. `uuid`: its backing UUID. `change_id`: where CBT of the
    source stood; None where CBT gave none, or it cannot be believed. `mode`: how this point was
    made.
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
    nvram: str = ""
    """SHA-256 of the firmware's variables that it is started with; "": of a new VM."""
    not_carried: tuple[str, ...] = ()
    """Devices and settings that the source had then, and the replica did not get."""
    suspicions: tuple[str, ...] = ()
    """Reasons why the change of its run looks like mass encryption; empty: it does not."""
    overhead_s: float | None = None
    """Time of its run up to this description, without its disks, each of which has its own
    `stats.seconds`. None: in a point that was made before points had it."""
    accepted: bool = field(default=False, compare=False)
    """An operator has accepted `suspicions`. Kept in the job's folder, not in the point."""
    sealed: bool = field(default=True, compare=False)
    """False: a point of the first version, without a checksum; its disks have no changeIds here."""
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
            begun = datetime.strptime(self.id[:_ID_TIME_LENGTH], _ID_TIME).replace(tzinfo=UTC)
            return in_range(begun)
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
            **({"nvram": self.nvram} if self.nvram else {}),
            **({"missing": list(self.not_carried)} if self.not_carried else {}),
            **({"suspicions": list(self.suspicions)} if self.suspicions else {}),
            **({"overhead": self.overhead_s} if self.overhead_s is not None else {}),
        }
        disks = {
            f"{DISK_KEY}{d.key}": _dump(
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
            for d in self.disks
        }
        return {POINT_KEY: seal_json(_dump(point), *disks.values()), **disks}

    @classmethod
    def from_extra_config(
        cls, values: Mapping[str, str], snapshot: str | None = None
    ) -> RecoveryPoint | None:
        """The point that these values describe; None where they describe none, or not wholly."""
        try:
            point, disks = _read(values)
        except Damaged:
            return None
        sealed = has_sum(values[POINT_KEY])
        return cls(
            id=point.id,
            job=point.job,
            source_vm=point.vm,
            source_name=point.name,
            time=point.time,
            level=point.level,
            requested=point.requested,
            disks=tuple(_disk(key, disk, sealed=sealed) for key, disk in disks.items()),
            excluded=point.excluded,
            notes=point.notes,
            nvram=point.nvram,
            not_carried=point.missing,
            suspicions=point.suspicions,
            overhead_s=point.overhead,
            sealed=sealed,
            snapshot=snapshot,
        )

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
            "nvram": self.nvram or None,
            "not_carried": list(self.not_carried),
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


# -- the stored layout ------------------------------------------------------------------------


class _PointLayout(Layout):
    v: int
    id: Id
    job: Text
    vm: Text
    name: Text
    time: Moment
    level: Level
    requested: Level
    disks: tuple[Key, ...]
    excluded: tuple[Text, ...]
    notes: tuple[Text, ...]
    missing: tuple[Text, ...] = ()
    nvram: Annotated[str, StringConstraints(pattern=r"\A([0-9a-f]{64})?\z")] = ""
    suspicions: tuple[Text, ...] = ()
    overhead: Seconds | None = None


class _DiskLayout(Layout):
    label: Text
    uuid: Text
    capacity: Size
    change_id: Text | None = Field(alias="changeId")
    mode: Text
    shipped: Size
    root: Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{0,64}\z")]
    stats: StatsLayout | None = None
    diverged: Text | None = None


def _read(values: Mapping[str, str]) -> tuple[_PointLayout, dict[int, _DiskLayout]]:
    """Reads and checks a description of this format. Raises Damaged."""
    point = _PointLayout.parse(values.get(POINT_KEY, ""))
    _check_sum(values, point.disks)
    if point.v != FORMAT:
        raise Damaged(f"it has format {point.v}")
    disks = {}
    for key in point.disks:
        if key in disks or (disk := values.get(f"{DISK_KEY}{key}")) is None:
            raise Damaged(f"disk {key} is described {'twice' if key in disks else 'nowhere'}")
        disks[key] = _DiskLayout.parse(disk)
    return point, disks


def _check_sum(values: Mapping[str, str], keys: object) -> None:
    """Raises Damaged where there is a checksum that does not fit. `keys`: of the point's disks.

    Descriptions of disks that an earlier point had may still be there; they do not count.
    """
    disks = (f"{DISK_KEY}{key}" for key in (keys if isinstance(keys, list | tuple) else ()))
    check_json(values.get(POINT_KEY, ""), *(values.get(key, "") for key in disks))


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _disk(key: int, value: _DiskLayout, *, sealed: bool) -> DiskPoint:
    return DiskPoint(
        key=key,
        label=value.label,
        uuid=value.uuid,
        capacity_bytes=value.capacity,
        change_id=value.change_id if sealed else None,
        mode=value.mode,
        written_bytes=value.shipped,
        root=value.root,
        stats=ChangeStats.from_layout(value.stats) if value.stats is not None else None,
        diverged_since=value.diverged if sealed else None,
    )
