"""Compares the room at the destination with what a run writes.

    disk of the replica             in the plan, before anything is changed        before the copy
    ------------------------------------------------------------------------------------------
    new, or a first copy            its size, at most what the source takes        the same
    delta, source off               what CBT names now                             what CBT names
    delta, source on                expected: the median of recent deltas          what CBT names
    rescan                          possible: its size, at most what the source    -
                                    takes; it writes differences only

Too little room for what is certain is a problem, for what is expected or possible a warning. Each
disk counts at the datastore that it is on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from vreplica.delta.copy.modes import CopyMode
from vreplica.errors import VSphereError
from vreplica.sync.copy.resume import progress_of
from vreplica.sync.copy.task import DiskTask
from vreplica.sync.disk_plan import DiskPlan
from vreplica.sync.errors import DestinationTooSmall
from vreplica.sync.job_state import JobState
from vreplica.sync.replica.shape import Shape
from vreplica.sync.replica.state import ReplicaState
from vreplica.sync.run_context import RunContext
from vreplica.units import MIB, human_size
from vreplica.vsphere.model import DatastoreInfo, VmDisk, VmInfo

MARGIN: Final = 64 * MIB
"""For descriptors, grain tables and snapshot files."""

RECENT: Final = 8
"""How many of the newest points the expected size of a delta is from."""


@dataclass(slots=True)
class RoomFindings:
    """What is said of the room, as sentences."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find_room(
    state: JobState, shape: Shape, disks: Sequence[DiskPlan], planned: DatastoreInfo | None
) -> RoomFindings:
    """Compares before a run. `planned`: the datastore of a replica that does not exist yet."""
    if state.replica is None:
        return _room_of_new(state.source, planned)
    needs = _Needs(state, state.replica, shape)
    for disk in disks:
        needs.add(disk)
    return needs.findings()


def _room_of_new(source: VmInfo, planned: DatastoreInfo | None) -> RoomFindings:
    found = RoomFindings()
    needed = source.storage_committed_bytes + MARGIN
    if planned is not None and planned.free_bytes < needed:
        found.problems.append(
            f"datastore {planned.name} has {human_size(planned.free_bytes)} free and a replica of "
            f"{source.ref.name} takes up to {human_size(needed)}: free space there or choose "
            "another one"
        )
    return found


class _Needs:
    """Bytes that a run may write to each datastore of the replica, by moref."""

    def __init__(self, state: JobState, replica: ReplicaState, shape: Shape) -> None:
        self._state, self._replica = state, replica
        self._new = {d.disk.key: d.disk for d in shape.disks if d.new}
        self._on = {d.key: d for d in replica.vm.disks}
        committed = state.source.storage_committed_bytes
        self._most = committed or sum(d.capacity_bytes for d in state.source.disks)
        self._certain: Counter[str] = Counter()
        self._expected: Counter[str] = Counter()
        self._possible: Counter[str] = Counter()

    def add(self, disk: DiskPlan) -> None:
        store = store_of(self._replica.vm, self._on.get(disk.key))
        self._certain[store] += 0
        if disk.key in self._new:
            self._certain[store] += min(disk.capacity_bytes, self._most)
        elif disk.mode is CopyMode.DELTA:
            known = self._changed_bytes(disk)
            if known is not None:
                self._certain[store] += known
            else:
                self._expected[store] += self._recent_bytes(disk.key)
        else:
            self._possible[store] += min(disk.capacity_bytes, self._most)

    def _changed_bytes(self, disk: DiskPlan) -> int | None:
        """What CBT names as changed; None where the source is on, or cannot be asked now."""
        source, latest = self._state.source, self._replica.latest
        base = latest.disk(disk.key) if latest else None
        if source.power_state != "poweredOff" or base is None or base.change_id is None:
            return None
        # What else is in the way is said by the rest of the preflight, in one report.
        with suppress(VSphereError):
            session, size = self._state.sites.source, disk.capacity_bytes
            return session.changed_extents(source.ref, None, disk.key, base.change_id, size).total
        return None

    def _recent_bytes(self, key: int) -> int:
        found = (point.disk(key) for point in self._replica.points[-RECENT:])
        sizes = [d.written_bytes for d in found if d and d.mode == CopyMode.DELTA.value]
        return int(median(sizes)) if sizes else 0

    def findings(self) -> RoomFindings:
        found, name = RoomFindings(), self._replica.vm.ref.name
        for store in self._state.sites.destination.datastores():
            if store.moref not in self._certain:
                continue
            has = f"datastore {store.name} has {human_size(store.free_bytes)} free and the next run"
            needed = self._certain[store.moref] + MARGIN
            likely = needed + self._expected[store.moref]
            most = likely + self._possible[store.moref]
            if store.free_bytes < needed:
                found.problems.append(
                    f"{has} of {name} needs {human_size(needed)}: free space there"
                )
            elif store.free_bytes < likely:
                found.warnings.append(
                    f"{has} of {name} is expected to need {human_size(likely)}, as recent runs did"
                )
            elif store.free_bytes < most:
                found.warnings.append(
                    f"{has} of {name} reads disks anew: it writes what differs, at most "
                    f"{human_size(most)}"
                )
        return found


def store_of(vm: VmInfo, disk: VmDisk | None) -> str:
    """Returns the moref of the datastore of a VM's disk, or of the VM; "" where it is not known."""
    name = disk.datastore if disk is not None else vm.home_datastore
    return vm.datastore_morefs.get(name, "")


# -- before the copy --------------------------------------------------------------------------


def check_space(context: RunContext, replica: VmInfo, tasks: Sequence[DiskTask]) -> None:
    """Raise DestinationTooSmall where the worst case of this run does not fit."""
    needs: Counter[str] = Counter()
    on = {disk.key: disk for disk in replica.disks}
    for task in tasks:
        needs[store_of(replica, on.get(task.source.key))] += _may_write_bytes(context, task)
    for store in context.sites.destination.datastores():
        needed = needs[store.moref] + MARGIN
        if store.moref in needs and store.free_bytes < needed:
            raise DestinationTooSmall(
                datastore=store.name, free=human_size(store.free_bytes), needed=human_size(needed)
            )


def _may_write_bytes(context: RunContext, task: DiskTask) -> int:
    """The most that a delta has still to write; preflight has judged full copies and rescans."""
    changed = task.plan.changed
    if changed is None:
        return 0
    if task.resumes is not None:
        found = progress_of(context.job, context.run_id, task.source.key)
        if found is not None:
            done = task.source.capacity_bytes if found.sealed else found.position
            changed = changed.clip(done, task.source.capacity_bytes)
    return changed.total
