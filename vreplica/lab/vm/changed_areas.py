"""QueryChangedDiskAreas: the areas of a disk that changed since a changeId, in pages.

    areas   |--|   |----|      |-|  |---------|
    asked   startOffset ...............
    answer  [startOffset, startOffset + length): at most page_size areas; nothing is said about
            bytes after that; the last page ends with the disk

Writes after the snapshot are never in the answer, since the map of its link was frozen with it.
"""

from __future__ import annotations

from typing import Any

from vreplica.extents import Extents
from vreplica.lab import hardware
from vreplica.lab.api.vmodl import fault, invalid_argument, vim
from vreplica.lab.storage.change_map import ChangeId
from vreplica.units import KIB


def areas_page(changed: Extents, start: int, capacity: int, size: int) -> Any:
    """One answer, from the absolute offset `start` on, with at most `size` areas."""
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


def with_defect(answer: Any, bug: str, capacity: int) -> Any:
    """The same answer with a defect that real servers have had.

    drop         every tenth area is missing (KB 2136854 and others)
    past-end     the last area ends after the disk
    empty-page   pages after the first cover nothing
    """
    areas = answer.changedArea
    if bug == "drop":
        answer.changedArea = [a for n, a in enumerate(areas) if n % 10 != 9]
    elif bug == "past-end" and answer.startOffset + answer.length == capacity and areas:
        areas[-1].length = capacity + 64 * KIB - areas[-1].start
    elif bug == "empty-page" and answer.startOffset:
        answer.length = 0
    return answer


class ChangedAreasMethods:
    """The methods of a VirtualMachine about changed areas."""

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
        answer = areas_page(changed, startOffset, capacity, settings.page_size)
        return with_defect(answer, settings.cbt_bug, capacity)

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
        """The fault of ESXi where tracking is off, or has another uuid than the changeId."""
        return fault(vim.fault.FileFault, f"Error caused by file {path}", file=path)
