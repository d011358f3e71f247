"""Cursors over the lists of events and of tasks, as vCenter's history collectors are."""

from __future__ import annotations

from typing import Any

from vreplica.lab.api.managed import Managed
from vreplica.lab.api.vmodl import invalid_argument, vim

PAGE_SIZE_MAX = 1000


def is_below(item: Any, above: Any) -> bool:
    """Whether an object is below another one in the inventory.

    A reference to an object that was removed has no parent; it is below the root only.
    """
    at = getattr(item, "above", None)
    while at is not None:
        if at._moId == above._moId:
            return True
        at = at.above
    removed = getattr(item, "_site", None) is None
    return removed and above.parent is None


class HistoryCollector(Managed, vim.HistoryCollector):
    """A cursor over a list. `latest` is the newest page; calls read on and back.

    A new cursor stands before the oldest item (vSphere API, HistoryCollector).
    """

    _persistent = False
    filter: Any

    def __init__(self, site: Any, moid: str) -> None:
        super().__init__(site, moid)
        self.__dict__["_at"] = 0

    def matching(self) -> list[Any]:
        """The items that the filter accepts, oldest first."""
        return []

    def SetCollectorPageSize(self, maxCount: int) -> None:
        if not 1 <= maxCount <= PAGE_SIZE_MAX:
            raise invalid_argument("maxCount")
        self.__dict__["_page"] = maxCount
        self.touch()

    def ResetCollector(self) -> None:
        """Moves the cursor to just before the newest page."""
        self.__dict__["_at"] = max(0, len(self.matching()) - self.__dict__.get("_page", 10))

    def RewindCollector(self) -> None:
        self.__dict__["_at"] = 0

    def DestroyCollector(self) -> None:
        self.__dict__["_objects"].pop(self._moId, None)

    @property
    def latest(self) -> list[Any]:
        return list(reversed(self.matching()[-self.__dict__.get("_page", 10) :]))

    def next_items(self, count: int) -> list[Any]:
        if count <= 0:
            raise invalid_argument("maxCount")
        at = self.__dict__["_at"]
        found = self.matching()[at : at + count]
        self.__dict__["_at"] = at + len(found)
        return found

    def previous_items(self, count: int) -> list[Any]:
        if count <= 0:
            raise invalid_argument("maxCount")
        at = self.__dict__["_at"]
        found = self.matching()[max(0, at - count) : at]
        self.__dict__["_at"] = at - len(found)
        return list(reversed(found))
