"""Cursors over the lists of events and of tasks, as vCenter's history collectors are."""

from __future__ import annotations

from typing import Any

from vreplica.lab.api.managed import Managed
from vreplica.lab.api.vmodl import invalid_argument, vim

PAGE_MAX = 1000


def is_below(item: Any, above: Any) -> bool:
    at = getattr(item, "parent", None)
    while at is not None:
        if at._moId == above._moId:
            return True
        at = at.parent
    return not mine_is_known(item) and above.parent is None


def mine_is_known(item: Any) -> bool:
    """A reference to something that was removed knows no parent; only the root covers it."""
    return getattr(item, "_site", None) is not None


class HistoryCollector(Managed, vim.HistoryCollector):
    """A cursor over a list: the latest page is a property, the rest is read back and forth.

    A new one stands before the oldest (vSphere API, HistoryCollector).
    """

    _persistent = False
    filter: Any

    def __init__(self, site: Any, moid: str) -> None:
        super().__init__(site, moid)
        self.__dict__["_at"] = 0

    def everything(self) -> list[Any]:
        """All that match, oldest first."""
        return []

    def SetCollectorPageSize(self, maxCount: int) -> None:
        if not 1 <= maxCount <= PAGE_MAX:
            raise invalid_argument("maxCount")
        self.__dict__["_page"] = maxCount
        self.touch()

    def ResetCollector(self) -> None:
        """To just before the latest page."""
        self.__dict__["_at"] = max(0, len(self.everything()) - self.__dict__.get("_page", 10))

    def RewindCollector(self) -> None:
        self.__dict__["_at"] = 0

    def DestroyCollector(self) -> None:
        self.__dict__["_objects"].pop(self._moId, None)

    @property
    def latest(self) -> list[Any]:
        return list(reversed(self.everything()[-self.__dict__.get("_page", 10) :]))

    def next_items(self, count: int) -> list[Any]:
        if count <= 0:
            raise invalid_argument("maxCount")
        at = self.__dict__["_at"]
        found = self.everything()[at : at + count]
        self.__dict__["_at"] = at + len(found)
        return found

    def previous_items(self, count: int) -> list[Any]:
        if count <= 0:
            raise invalid_argument("maxCount")
        at = self.__dict__["_at"]
        found = self.everything()[max(0, at - count) : at]
        self.__dict__["_at"] = at - len(found)
        return list(reversed(found))
