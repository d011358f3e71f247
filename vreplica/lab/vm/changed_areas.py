"""QueryChangedDiskAreas: what changed on a disk since a changeId, in pages.

    areas   |--|   |----|      |-|  |---------|
    asked   startOffset ...............
    answer  [startOffset, startOffset + length): at most page_size areas, and no byte after
            `length` is told anything about; the last page ends with the disk

Bounded by the snapshot that is asked, since its link's map was frozen with it.
"""

from __future__ import annotations

from typing import Any

from vreplica.extents import Extents
from vreplica.lab import hardware
from vreplica.lab.api.vmodl import fault, invalid_argument, vim
from vreplica.lab.storage.change_map import ChangeId
from vreplica.units import KIB


def page(changed: Extents, start: int, capacity: int, size: int) -> Any:
    """One answer from the absolute offset `start` on."""
    rows = changed.clip(start, capacity).array
    covered = capacity - start
    if len(rows) > size:
        covered = int(rows[size - 1, 1]) - start
        rows = rows[:size]
    info: Any = vim.VirtualMachine.DiskChangeInfo
    return info(
        startOffset=start,
        length=covered,
        changedArea=[info.DiskChangeExtent(start=int(a), length=int(b - a)) for a, b in rows],
    )


def spoil(answer: Any, bug: str, capacity: int) -> Any:
    """The same answer with a defect that has been seen somewhere.

    "drop" loses every tenth area without a word (KB 2136854 and its like), "past-end" lets the
    last area reach past the disk, "empty-page" covers nothing from the second page on.
    """
    areas = answer.changedArea
    if bug == "drop":
        answer.changedArea = [a for n, a in enumerate(areas) if n % 10 != 9]
    elif bug == "past-end" and answer.startOffset + answer.length == capacity and areas:
        areas[-1].length = capacity + 64 * KIB - areas[-1].start
    elif bug == "empty-page" and answer.startOffset:
        answer.length = 0
    return answer


class TrackingMethods:
    """The part of a VirtualMachine that answers about changed blocks."""

    _site: Any
    config: Any
    power: str
    chains: Any

    def QueryChangedDiskAreas(
        self, snapshot: Any, deviceKey: int, startOffset: int, changeId: str
    ) -> Any:
        if snapshot is None:
            if self.power == "poweredOn":
                raise invalid_argument("snapshot")
            config = self.config
        else:
            if snapshot.vm is not self:
                raise invalid_argument("snapshot")
            config = snapshot.config
        disk = hardware.find_device(hardware.disks_of(config), deviceKey)
        if disk is None:
            raise invalid_argument("deviceKey")
        capacity = disk.capacityInBytes
        if not 0 <= startOffset < capacity:
            raise invalid_argument("startOffset")
        changed = self._changed(disk, changeId)
        settings = self._site.settings
        answer = page(changed, startOffset, capacity, settings.page_size)
        return spoil(answer, settings.cbt_bug, capacity)

    def _changed(self, disk: Any, change_id: str) -> Extents:
        path = disk.backing.fileName
        changes = self.chains.change_map(path)
        if changes is None:
            raise self._file_fault(path)
        if change_id == "*":
            found: Extents = self.chains.disks.allocated(path)
            return found
        try:
            since = ChangeId.parse(change_id)
        except ValueError:
            raise invalid_argument("changeId") from None
        if since.generation != changes.generation:
            raise self._file_fault(path)
        if since.epoch > changes.epoch:
            raise invalid_argument("changeId")
        changed: Extents = changes.changed_since(since.epoch)
        return changed

    def _file_fault(self, path: str) -> Any:
        """What ESXi says where there is no tracking, or another one than the changeId names."""
        return fault(vim.fault.FileFault, f"Error caused by file {path}", file=path)
