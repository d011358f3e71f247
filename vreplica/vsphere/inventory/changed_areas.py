"""Reads the changed areas of one disk, page by page.

QueryChangedDiskAreas answers for a window only, with at most about 2000 areas:

    asked 0 ─────►[ start 0      length 4 GiB  ]
    asked 4 GiB ─►[ start 4 GiB  length 11 GiB ]      next = returned start + returned length,
    asked 15 GiB ►[ start 15 GiB length 5 GiB  ]      never "+= something"
    end = capacity: no further call, one that starts there faults

Taking the first page for all of it, or stopping at an empty one, loses data without any fault;
so every page is checked and a page that does not fit fails the query (vSphere API,
QueryChangedDiskAreas; KB-320557; kubevirt CDI and Bareos had to fix the first-page error).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vreplica.extents import Extents
from vreplica.units import SECTOR
from vreplica.vsphere.change_id import ALL_IN_USE
from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.faults import words
from vreplica.vsphere.connection.tasks import WaitLimits
from vreplica.vsphere.connection.vmomi import vim, vmodl, wire_name
from vreplica.vsphere.errors import (
    CbtCoverage,
    CbtQueryFailed,
    ChangeIdInvalid,
)
from vreplica.vsphere.model import VmRef

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink


@dataclass(frozen=True, slots=True)
class ChangedAreasPage:
    """One answer: the window it speaks for, and (start, length) of its areas. Bytes."""

    start: int
    length: int
    areas: Sequence[tuple[int, int]]


def collect_pages(
    query: Callable[[int], ChangedAreasPage], capacity_bytes: int, *, disk_key: int = 0
) -> Extents:
    """All changed areas of a disk, from as many pages as it takes.

    `query(offset)` answers for a window that starts at `offset`. Areas are clamped to the
    capacity and rounded out to sectors; pages that leave a gap, overlap, make no progress or
    name areas outside their window raise CbtCoverage.
    """
    parts: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    asked = 0
    while asked < capacity_bytes:
        page = query(asked)
        if page.start != asked:
            word = "leaves out" if page.start > asked else "repeats"
            reason = f"asked from byte {asked} on it answers from {page.start} on and {word} a part"
            raise CbtCoverage(disk_key, reason)
        if page.length <= 0:
            reason = f"at byte {asked} of {capacity_bytes} it speaks for {page.length} bytes"
            raise CbtCoverage(disk_key, reason)
        end = page.start + page.length
        rows = np.array(page.areas, dtype=np.int64).reshape(-1, 2)
        if len(rows):
            if rows[:, 1].min() < 0:
                raise CbtCoverage(disk_key, f"an area after byte {asked} has a negative length")
            starts, ends = rows[:, 0], rows[:, 0] + rows[:, 1]
            # Areas past the disk's end are known to happen and are cut off; areas elsewhere
            # outside the window mean that page and question do not belong together.
            inside = np.minimum(ends, capacity_bytes)
            if starts.min() < page.start or inside.max() > max(end, page.start):
                reason = f"areas outside the window of bytes {page.start} to {end}"
                raise CbtCoverage(disk_key, reason)
            parts.append(np.stack((np.minimum(starts, capacity_bytes), inside), axis=1))
        asked = end
    if not parts:
        return Extents.empty()
    return Extents.from_array(np.concatenate(parts)).align(SECTOR, capacity_bytes)


def changed_extents(
    link: ServerLink,
    vm: VmRef,
    snapshot: str | None,
    disk_key: int,
    change_id: str,
    capacity_bytes: int,
    limits: WaitLimits,
) -> Extents:
    """Areas of a disk changed between `change_id` and the snapshot (`*`: in use).

    Without a snapshot the VM has to be off. Raises ChangeIdInvalid, CbtQueryFailed or
    CbtCoverage: after each of them the disk has to be read in full.
    """
    operation = f"asking for changed areas of disk {disk_key}"
    managed = link.managed(vim.VirtualMachine, vm.moref)
    at = link.managed(vim.vm.Snapshot, snapshot) if snapshot else None

    def query(offset: int) -> ChangedAreasPage:
        answer = _ask(offset)
        areas = [(area.start, area.length) for area in answer.changedArea or []]
        return ChangedAreasPage(answer.startOffset, answer.length, areas)

    def _ask(offset: int) -> Any:
        unmapped = (
            vim.fault.FileFault,
            vmodl.fault.InvalidArgument,
            vmodl.fault.NotSupported,
            vmodl.fault.SystemError,
        )
        arguments = (at, disk_key, offset, change_id)
        try:
            method = managed.QueryChangedDiskAreas
            return tasks.ask_when_free(
                link, operation, method, *arguments, vm=vm.name, unmapped=unmapped, limits=limits
            )
        except unmapped as fault:
            raise _refused(fault, disk_key, change_id) from fault

    try:
        return collect_pages(query, capacity_bytes, disk_key=disk_key)
    except CbtCoverage as error:
        raise error.at(vm=vm.name) from None


def _refused(fault: Any, disk_key: int, change_id: str) -> ChangeIdInvalid | CbtQueryFailed:
    """FileFault: tracking is not active or its file does not fit; InvalidArgument: a changeId
    (or a key with a changeId) that this disk does not know. Seen in the field for stale ids."""
    about = getattr(fault, "invalidProperty", None) or "changeId"
    stale = isinstance(fault, vim.fault.FileFault) or (
        isinstance(fault, vmodl.fault.InvalidArgument)
        and about.rpartition(".")[2] in ("changeId", "deviceKey")
    )
    if change_id == ALL_IN_USE or not stale:
        return CbtQueryFailed(disk_key, wire_name(fault), words(fault))
    return ChangeIdInvalid(change_id, f"{wire_name(fault)}: {words(fault)}")
