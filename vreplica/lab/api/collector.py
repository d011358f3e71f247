"""The PropertyCollector, through which vSphere clients read properties and wait for changes.

    PropertyFilterSpec --select_objects()--> objects with their paths --> ObjectContent,
                                                                          ObjectUpdate

Each session has its own collector behind the well-known id, since filters and their version
belong to the client that made them. A client may create more. Filters end with their session:
after a restart of the server and a new login, a client gets ManagedObjectNotFound for a filter
and InvalidCollectorVersion for a version.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from vreplica.lab.api.managed import Managed
from vreplica.lab.api.privileges import require_property_privilege
from vreplica.lab.api.properties import (
    change_xml,
    invalid_property,
    parse_path,
    property_names,
    property_xml,
    read_property,
    value_xml,
)
from vreplica.lab.api.soap import RawXml
from vreplica.lab.api.vmodl import NEWEST, fault, invalid_argument, vim, vmodl

query: Any = vmodl.query.PropertyCollector

WAKE_S = 1.0
"""How often a waiting call checks that its session and the site still exist."""

PAGE = 100
"""Objects in one answer of RetrievePropertiesEx, where the caller gives no number: the server may
choose any (vSphere API, RetrieveOptions)."""


def _named(selections: Any, found: dict[str, Any]) -> dict[str, Any]:
    for selection in selections or ():
        if isinstance(selection, query.TraversalSpec):
            if selection.name:
                found[selection.name] = selection
            _named(selection.selectSet, found)
    return found


def _specs_of(item: Any, prop_set: Any) -> list[Any]:
    """The PropertySpecs for an object: all whose type it has.

    "The set of properties applicable to a given managed object type is the union of the properties
    implied by the PropertySpec objects" (vSphere API, PropertySpec).
    """
    return [s for s in prop_set if isinstance(item, s.type)]


def _require_known_paths(prop_set: Any) -> None:
    """Raises InvalidProperty for a path that the type of its PropertySpec does not have.

    Also where an object would have it: `runtime.powerState` is no property of a ManagedEntity.
    """
    for spec in prop_set:
        for path in spec.pathSet or ():
            try:
                spec.type._GetPropertyInfo(parse_path(path)[0][0])
            except AttributeError:
                raise invalid_property(path) from None


def select_objects(spec: Any) -> list[tuple[Any, list[str]]]:
    """The objects of a filter with their paths, in the order of the traversal."""
    _require_known_paths(spec.propSet)
    found: dict[str, tuple[Any, list[str]]] = {}
    for start in spec.objectSet:
        named = _named(start.selectSet, {})
        visited: set[tuple[str, int]] = set()
        queue = deque([(start.obj, start.selectSet, bool(start.skip))])
        while queue:
            item, selections, skip = queue.popleft()
            if not skip and item._moId not in found:
                specs = _specs_of(item, spec.propSet)
                if specs:
                    found[item._moId] = (item, _paths(item, specs))
            for selection in selections or ():
                traversal = selection
                if not isinstance(selection, query.TraversalSpec):
                    if selection.name not in named:
                        raise invalid_argument("selectSet.name")
                    traversal = named[selection.name]
                mark = (item._moId, id(traversal))
                if mark in visited or not isinstance(item, traversal.type):
                    continue
                visited.add(mark)
                value, _ = read_property(item, traversal.path)
                for target in value if isinstance(value, list) else [value]:
                    if isinstance(target, Managed):
                        queue.append((target, traversal.selectSet, bool(traversal.skip)))
    return list(found.values())


def _paths(item: Any, specs: list[Any]) -> list[str]:
    paths: dict[str, None] = {}
    for spec in specs:
        paths.update(dict.fromkeys(property_names(item) if spec.all else spec.pathSet or ()))
    return list(paths)


class PropertyFilter(Managed, vmodl.query.PropertyCollector.Filter):
    """A filter of one collector, with what its client has seen already."""

    _persistent = False
    spec: Any
    partialUpdates: Any

    def attach(self, collector: PropertyCollector, spec: Any, partial: bool) -> None:
        own = self.__dict__
        own.update(spec=spec, partialUpdates=partial, _collector=collector)
        own["_seen"] = {}
        own["_revision"] = -1

    def forget(self) -> None:
        """Reports everything anew at the next `diff`."""
        self.__dict__.update(_seen={}, _revision=-1)

    def diff(self) -> list[Any]:
        """The changes since the last diff, as ObjectUpdates."""
        revision = self._site.revision
        if revision == self.__dict__["_revision"]:
            return []
        seen: dict[str, Any] = self.__dict__["_seen"]
        updates, now_seen = [], {}
        for item, paths in select_objects(self.spec):
            moid = item._moId
            before = seen.get(moid)
            if before is not None and before[0] == item._rev:
                now_seen[moid] = before
                continue
            item_revision = item._rev
            values = {p: value_xml(item, p, NEWEST) for p in paths}
            marks = {p: hash(v) for p, v in values.items()}
            now_seen[moid] = (item_revision, marks, item)
            old = before[1] if before else {}
            changes = [
                change_xml(p, v)
                for p, v in values.items()
                if marks[p] != old.get(p) and (v is not None or before is not None)
            ]
            if before is None or changes:
                kind = "modify" if before else "enter"
                updates.append(_update(kind, item, changes))
        updates += [
            _update("leave", entry[2], []) for moid, entry in seen.items() if moid not in now_seen
        ]
        self.__dict__.update(_seen=now_seen, _revision=revision)
        return updates

    def DestroyPropertyFilter(self) -> None:
        collector = self.__dict__["_collector"]
        collector.filter = [f for f in collector.filter if f is not self]
        collector.session_objects.pop(self._moId, None)


def _update(kind: str, item: Any, changes: list[RawXml]) -> Any:
    update = query.ObjectUpdate(kind=kind, obj=item)
    object.__setattr__(update, "changeSet", changes)
    return update


class PropertyCollector(Managed, vmodl.query.PropertyCollector):
    """A collector of one session. Its filters are in `session_objects`, by id."""

    _persistent = False
    filter: Any

    def attach(self, session_objects: dict[str, Any]) -> PropertyCollector:
        own = self.__dict__
        own.update(session_objects=session_objects, filter=[], _version=0, _cancelled=0)
        own.update(_pending=[], _last=None, _tokens={}, _token=0)
        return self

    # -- reading ----------------------------------------------------------------------------

    def RetrieveProperties(self, specSet: Any) -> Any:
        return [c for spec in specSet for c in self._contents(spec)]

    def RetrievePropertiesEx(self, specSet: Any, options: Any) -> Any:
        size = PAGE if options.maxObjects is None else options.maxObjects
        return self._page(self.RetrieveProperties(specSet), size)

    def ContinueRetrievePropertiesEx(self, token: str) -> Any:
        rest = self.__dict__["_tokens"].pop(token, None)
        if rest is None:
            raise fault(
                vmodl.fault.InvalidArgument, "The token is not valid", invalidProperty="token"
            )
        return self._page(*rest)

    def CancelRetrievePropertiesEx(self, token: str) -> None:
        if self.__dict__["_tokens"].pop(token, None) is None:
            raise invalid_argument("token")

    def _page(self, contents: list[Any], size: int) -> Any:
        if size <= 0:
            raise invalid_argument("options.maxObjects")
        if not contents:
            return None
        found = query.RetrieveResult(objects=contents[:size])
        if len(contents) > size:
            own = self.__dict__
            own["_token"] += 1
            found.token = f"{self._moId}-{own['_token']}"
            own["_tokens"][found.token] = (contents[size:], size)
        return found

    def _contents(self, spec: Any) -> list[Any]:
        version = self._site.current.version
        out = []
        for item, paths in select_objects(spec):
            content = query.ObjectContent(obj=item)
            properties, missing = [], []
            for path in paths:
                try:
                    require_property_privilege(self._site, self._site.current.user, item, path)
                    text = value_xml(item, path, version)
                except vim.fault.NoPermission as error:
                    missing.append(query.MissingProperty(path=path, fault=error))
                    continue
                if text is not None:
                    properties.append(property_xml("propSet", path, text))
            object.__setattr__(content, "propSet", properties)
            content.missingSet = missing
            out.append(content)
        return out

    # -- filters ----------------------------------------------------------------------------

    def CreatePropertyCollector(self) -> Any:
        made = PropertyCollector(self._site, self._site.new_id("session-propcollector"))
        self.session_objects[made._moId] = made
        return made.attach(self.session_objects)

    def DestroyPropertyCollector(self) -> None:
        if self._moId == "propertyCollector":
            raise fault(vmodl.fault.NotSupported)
        self.CancelWaitForUpdates()
        for entry in list(self.filter):
            entry.DestroyPropertyFilter()
        self.session_objects.pop(self._moId, None)

    def CreateFilter(self, spec: Any, partialUpdates: bool) -> Any:
        for item, paths in select_objects(spec):
            for path in paths:
                read_property(item, path)
        made = PropertyFilter(self._site, self._site.new_id("filter"))
        made.attach(self, spec, partialUpdates)
        self.session_objects[made._moId] = made
        self.filter = [*self.filter, made]
        return made

    def CancelWaitForUpdates(self) -> None:
        with self._site.changed:
            self.__dict__["_cancelled"] += 1
            self._site.changed.notify_all()

    def CheckForUpdates(self, version: str | None = None) -> Any:
        return self._wait(version, 0, None)

    def WaitForUpdates(self, version: str | None = None) -> Any:
        return self._wait(version, None, None)

    def WaitForUpdatesEx(self, version: str | None = None, options: Any = None) -> Any:
        return self._wait(
            version,
            options.maxWaitSeconds if options else None,
            options.maxObjectUpdates if options else None,
        )

    def _wait(self, version: str | None, limit_s: int | None, most: int | None) -> Any:
        own = self.__dict__
        if not version:
            for entry in self.filter:
                entry.forget()
            own.update(_pending=[], _last=None)
        elif own["_last"] is not None and version == own["_last"][0]:
            # The client did not get the last answer, and asks for it again.
            return own["_last"][1]
        elif version != str(own["_version"]):
            raise fault(vmodl.query.InvalidCollectorVersion, "The version is not valid")
        deadline = None if limit_s is None else time.monotonic() + limit_s
        cancelled, site = own["_cancelled"], self._site
        while True:
            revision = site.revision
            if not own["_pending"]:
                own["_pending"] = [(f, u) for f in list(self.filter) for u in f.diff()]
            if own["_pending"]:
                return self._answer(version or "", most)
            with site.changed:
                if own["_cancelled"] != cancelled or site.stopping:
                    raise fault(vmodl.fault.RequestCanceled, "The request was canceled by a user")
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                if site.revision == revision:
                    site.changed.wait(WAKE_S if left is None else min(WAKE_S, left))
            site.current.require_session()

    def _answer(self, version: str, most: int | None) -> Any:
        own = self.__dict__
        now, own["_pending"] = (
            own["_pending"][:most],
            own["_pending"][most or len(own["_pending"]) :],
        )
        by_filter: dict[Any, list[Any]] = {}
        for entry, update in now:
            by_filter.setdefault(entry, []).append(update)
        own["_version"] += 1
        answer = query.UpdateSet(
            version=str(own["_version"]),
            filterSet=[
                query.FilterUpdate(filter=entry, objectSet=updates)
                for entry, updates in by_filter.items()
            ],
            truncated=bool(own["_pending"]),
        )
        own["_last"] = (version, answer)
        return answer
