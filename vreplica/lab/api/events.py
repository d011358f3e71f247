"""The EventManager: the events of a site, for clients and for tests."""

from __future__ import annotations

from collections import deque
from typing import Any

from vreplica.lab.api.history import HistoryCollector, is_below
from vreplica.lab.api.managed import Managed, cached, live
from vreplica.lab.api.vmodl import vim, wsdl_name

EVENTS_KEPT = 2000


class EventManager(Managed, vim.event.EventManager):
    """Keeps the last events in state.db, so they are there after a restart."""

    maxCollector = 32
    count: int

    def post(self, kind: str, **fields: Any) -> Any:
        """Adds an event of the class `vim.event.KIND`; `message` is its text."""
        site = self._site
        with site.changed:
            self.__dict__["count"] = number = (self.__dict__.get("count") or 0) + 1
            fields = {
                "userName": site.current.user or "root",
                "fullFormattedMessage": fields.pop("message", kind),
                **fields,
            }
            event = getattr(vim.event, kind)(
                key=number, chainId=number, createdTime=site.now(), **fields
            )
            self.recent.append(event)
            site.state_db.add_event(number, event)
            self.touch()
        return event

    @property
    def recent(self) -> deque[Any]:
        own = self.__dict__
        if "_recent" not in own:
            own["_recent"] = deque(self._site.state_db.events(self._site, EVENTS_KEPT), EVENTS_KEPT)
        return own["_recent"]  # type: ignore[no-any-return]

    @live
    def latestEvent(self) -> Any:
        return self.recent[-1] if self.recent else None

    @cached
    def description(self) -> Any:
        """The categories, and the kinds of events that occurred."""
        kinds = {type(e) for e in list(self.recent)} | {vim.event.GeneralUserEvent}
        return vim.event.EventDescription(
            category=[
                vim.ElementDescription(key=k, label=k, summary=k)
                for k in ("info", "warning", "error", "user")
            ],
            eventInfo=[
                vim.event.EventDescription.EventDetail(
                    key=kind, description=wsdl_name(kind), category="info"
                )
                for kind in sorted(kinds, key=wsdl_name)
            ],
        )

    def QueryEvents(self, filter: Any, mark: Any = None) -> Any:  # noqa: A002
        return [e for e in list(self.recent) if matches(e, filter)]

    def CreateCollectorForEvents(self, filter: Any) -> Any:  # noqa: A002
        made = EventHistoryCollector(self._site, f"session[{self._site.new_id('eventhistory')}]")
        objects = self._site.current.objects
        made.__dict__.update(filter=filter, _objects=objects, _source=self)
        objects[made._moId] = made
        return made

    def PostEvent(self, eventToPost: Any, taskInfo: Any = None) -> None:
        event = eventToPost
        with self._site.changed:
            self.__dict__["count"] = event.key = (self.__dict__.get("count") or 0) + 1
            event.createdTime = self._site.now()
            self.recent.append(event)
            self._site.state_db.add_event(event.key, event)
            self.touch()

    def LogUserEvent(self, entity: Any, msg: str) -> None:
        self.post("GeneralUserEvent", message=msg)


def matches(event: Any, wanted: Any) -> bool:
    """Whether an event passes an EventFilterSpec."""
    if wanted.time is not None:
        begin, end = wanted.time.beginTime, wanted.time.endTime
        if (begin and event.createdTime < begin) or (end and event.createdTime > end):
            return False
    if wanted.entity is not None and not _about(event, wanted.entity):
        return False
    users = wanted.userName.userList if wanted.userName is not None else None
    if users and event.userName not in users:
        return False
    if wanted.eventChainId is not None and event.chainId != wanted.eventChainId:
        return False
    if wanted.type:
        return isinstance(event, tuple(wanted.type))
    if wanted.eventTypeId:
        names = {b.__name__ for b in type(event).__mro__} | {type(event)._wsdlName}
        return any(t in names for t in wanted.eventTypeId)
    return True


def _about(event: Any, wanted: Any) -> bool:
    entity = wanted.entity
    mine = [
        getattr(argument, name, None)
        for part, name in (
            ("vm", "vm"),
            ("host", "host"),
            ("ds", "datastore"),
            ("datacenter", "datacenter"),
        )
        if (argument := getattr(event, part, None)) is not None
    ]
    if any(item is not None and item._moId == entity._moId for item in mine):
        return True
    if wanted.recursion == "self":
        return False
    return any(is_below(item, entity) for item in mine)


class EventHistoryCollector(HistoryCollector, vim.event.EventHistoryCollector):
    def matching(self) -> list[Any]:
        return [e for e in list(self.__dict__["_source"].recent) if matches(e, self.filter)]

    @live
    def latestPage(self) -> Any:
        return self.latest

    def ReadNextEvents(self, maxCount: int) -> Any:
        return self.next_items(maxCount)

    def ReadPreviousEvents(self, maxCount: int) -> Any:
        return self.previous_items(maxCount)
