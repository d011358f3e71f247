"""Reads the changed areas of one disk, page by page.

QueryChangedDiskAreas answers for a window only, with at most about 2000 areas:

    asked 0 ─────►[ start 0      length 4 GiB  ]
    asked 4 GiB ─►[ start 4 GiB  length 11 GiB ]      next = returned start + returned length,
    asked 15 GiB ►[ start 15 GiB length 5 GiB  ]      never "+= something"
    end = capacity: no further call, one that starts there faults

A reader that takes the first page for all of it, or stops at an empty page, loses data without
any fault. So every page is checked, and one that does not fit fails the query (vSphere API,
QueryChangedDiskAreas; KB-320557; kubevirt CDI and Bareos had to fix the first-page error).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vreplica.extents import Extents
from vreplica.units import SECTOR
from vreplica.vsphere.change_id import ALL_IN_USE
from vreplica.vsphere.connection import tasks
from vreplica.vsphere.connection.faults import fault_text
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


ALL_PAGES_S: Final = 3600.0
"""The most that all pages of a disk may take together. 62 TiB in pieces of 64 KiB take minutes."""

FAR: Final = 1 << 62
"""No disk has a byte there. The sum of two such numbers still fits into 64 bits."""


@dataclass(frozen=True, slots=True)
class ChangesQuery:
    """Asks what changed on one disk between `change_id` and a snapshot.

    snapshot: a moref; None asks about now, and the VM has to be off. change_id: `*` asks for the
    areas in use.
    """

    vm: VmRef
    snapshot: str | None
    disk_key: int
    change_id: str
    capacity_bytes: int


@dataclass(frozen=True, slots=True)
class ChangedAreasPage:
    """One answer: the window that it speaks for, and (start, length) of its areas. Bytes."""

    start: int
    length: int
    areas: Sequence[tuple[int, int]]


def changed_extents(link: ServerLink, asked: ChangesQuery, limits: WaitLimits) -> Extents:
    """Reads all changed areas of a disk.

    Raises ChangeIdInvalid, CbtQueryFailed or CbtCoverage: after each of them the disk has to be
    read in full.
    """
    operation = f"asking for changed areas of disk {asked.disk_key}"
    method = link.managed(vim.VirtualMachine, asked.vm.moref).QueryChangedDiskAreas
    at = link.managed(vim.vm.Snapshot, asked.snapshot) if asked.snapshot else None
    unmapped = (
        vim.fault.FileFault,
        vmodl.fault.InvalidArgument,
        vmodl.fault.NotSupported,
        vmodl.fault.SystemError,
    )

    def query(offset: int) -> ChangedAreasPage:
        try:
            answer = tasks.ask_when_free(
                link,
                operation,
                method,
                *(at, asked.disk_key, offset, asked.change_id),
                vm=asked.vm.name,
                unmapped=unmapped,
                limits=limits,
            )
        except unmapped as fault:
            raise _refused(fault, asked) from fault
        areas = [(area.start, area.length) for area in answer.changedArea or []]
        return ChangedAreasPage(answer.startOffset, answer.length, areas)

    try:
        return collect_pages(
            query, asked.capacity_bytes, disk_key=asked.disk_key, timeout_s=ALL_PAGES_S
        )
    except CbtCoverage as error:
        raise error.at(vm=asked.vm.name) from None


def collect_pages(
    query: Callable[[int], ChangedAreasPage],
    capacity_bytes: int,
    *,
    disk_key: int = 0,
    timeout_s: float = ALL_PAGES_S,
) -> Extents:
    """Collects all changed areas of a disk, from as many pages as it takes.

    `query(offset)` answers for a window that starts at `offset`. Areas are cut off at the
    capacity and rounded out to sectors. Raises CbtCoverage for a page that leaves a gap, overlaps
    another, makes no progress or names areas outside its window, for numbers that no disk has, and
    where the pages do not end within `timeout_s`.
    """
    deadline = monotonic() + timeout_s
    parts: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    asked = 0
    while asked < capacity_bytes:
        if monotonic() > deadline:
            reason = f"after {timeout_s:.0f} s of pages it is at byte {asked} of {capacity_bytes}"
            raise CbtCoverage(disk_key, reason)
        page = query(asked)
        if not all(_can_be_a_place(n) for n in _numbers(page)):
            raise CbtCoverage(disk_key, f"the page at byte {asked} names no place on a disk")
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
            # Servers are known to name areas past the disk's end; those are cut off. An area
            # elsewhere outside the window means that page and question do not belong together.
            inside = np.minimum(ends, capacity_bytes)
            if starts.min() < page.start or inside.max() > max(end, page.start):
                reason = f"areas outside the window of bytes {page.start} to {end}"
                raise CbtCoverage(disk_key, reason)
            parts.append(np.stack((np.minimum(starts, capacity_bytes), inside), axis=1))
        asked = end
    if not parts:
        return Extents.empty()
    return Extents.from_array(np.concatenate(parts)).align(SECTOR, capacity_bytes)


def _can_be_a_place(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and abs(number) < FAR


def _numbers(page: ChangedAreasPage) -> Iterator[int]:
    yield page.start
    yield page.length
    for area in page.areas:
        yield from area


def _refused(fault: Any, asked: ChangesQuery) -> ChangeIdInvalid | CbtQueryFailed:
    """Tells an old changeId from another refusal.

    FileFault: tracking is not active, or its file does not fit. InvalidArgument: this disk does
    not know the changeId (or the key with this changeId). Both were seen for old changeIds.
    """
    about = getattr(fault, "invalidProperty", None) or "changeId"
    stale = isinstance(fault, vim.fault.FileFault) or (
        isinstance(fault, vmodl.fault.InvalidArgument)
        and about.rpartition(".")[2] in ("changeId", "deviceKey")
    )
    if asked.change_id == ALL_IN_USE or not stale:
        return CbtQueryFailed(asked.disk_key, wire_name(fault), fault_text(fault))
    return ChangeIdInvalid(asked.change_id, f"{wire_name(fault)}: {fault_text(fault)}")
