"""Managed objects: Python classes that are vmodl classes at the same time.

    class Datastore(Managed, vim.Datastore):       the mixin first
        name: Any                                  state: attributes, stored in state.db
        @view
        def summary(self): ...                     computed, kept until the object is touched
        @live
        def browser(self): ...                     computed at every read
        def RefreshDatastore(self): ...            a method, by its name on the wire

Assigning an attribute touches the object: it gets a new revision, its cached properties are
dropped, waiting clients wake, and the next flush writes it. Attributes that begin with `_` are
no state and touch nothing. A change inside a value (`list.append`) is not noticed: assign a new
value, or call `touch`.

A method that a class does not define stays pyVmomi's ManagedMethod, which the dispatcher answers
with NotSupported.

Names of classes and of attributes are in the state.db of every lab: a new name has to read the
old one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

from vreplica.lab.api.vmodl import ManagedObject, is_array, support, vmodl
from vreplica.lab.context import SiteContext


class cached:  # noqa: N801  used like property
    """A property that is computed from state and kept until the object is touched."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        # touch() replaces the cache. A value that was computed before the change then goes into
        # the old cache, which nobody reads.
        cache = instance._cache
        try:
            return cache[self.name]
        except KeyError:
            value = cache[self.name] = _compute(self.compute, instance)
            return value


class live:  # noqa: N801  used like property
    """A property that is computed at every read."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute = compute

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else _compute(self.compute, instance)


def _compute(compute: Callable[[Any], Any], instance: Any) -> Any:
    try:
        return compute(instance)
    except AttributeError as error:
        # Python would treat it as a missing property and call pyVmomi's __getattr__.
        raise RuntimeError(f"{type(instance).__name__}: {error}") from error


def vmodl_class(cls: type) -> Any:
    """The vmodl class that a managed class stands for."""
    for base in cls.__mro__:
        if issubclass(base, ManagedObject) and not issubclass(base, Managed):
            return base
    raise TypeError(f"{cls.__name__} has no vmodl class among its bases")


class Managed:
    """The mixin in front of a vmodl class. Objects with `_persistent` are stored."""

    _persistent: ClassVar[bool] = True
    _by_name: ClassVar[dict[str, type]] = {}

    _moId: str
    _site: SiteContext
    _rev: int
    _cache: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        base = vmodl_class(cls)
        Managed._by_name[cls.__name__] = cls
        for info in base._GetPropertyList():
            inherited = getattr(cls, info.name, None)
            if isinstance(inherited, property) and isinstance(inherited.fget, support.Curry):
                setattr(cls, info.name, info.type() if is_array(info.type) else None)

    def __init__(self, site: SiteContext, moid: str) -> None:
        own = self.__dict__
        own["_moId"] = moid
        own["_stub"] = None
        own["_serverGuid"] = None
        own["_site"] = site
        own["_rev"] = 0
        own["_cache"] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if not name.startswith("_"):
            self.touch()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __copy__(self) -> Managed:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Managed:
        # A copy of a data object refers to the same managed objects.
        return self

    def touch(self) -> None:
        self._site.touched(self)

    def set(self, **values: Any) -> None:
        """Assigns several attributes as one change, with one revision."""
        with self._site.changed:
            for name, value in values.items():
                object.__setattr__(self, name, value)
            self.touch()

    @classmethod
    def _GetPropertyInfo(cls, name: str) -> Any:
        return vmodl_class(cls)._GetPropertyInfo(name)

    @classmethod
    def _GetPropertyList(cls, includeBaseClassProps: bool = True) -> Any:
        return vmodl_class(cls)._GetPropertyList(includeBaseClassProps)

    def stored_state(self) -> dict[str, Any]:
        """The attributes that state.db holds."""
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def loaded(self) -> None:
        """Called once all objects are read from state.db."""


class ObjectRegistry:
    """The objects of a site by id, with the condition on which clients wait for changes."""

    def __init__(self) -> None:
        self.objects: dict[str, Managed] = {}
        self.changed = threading.Condition(threading.RLock())
        self.revision = 0
        self.dirty: set[Managed] = set()
        """Objects that changed since the last flush."""
        self.gone: set[str] = set()
        """Ids of objects that were removed since the last flush."""

    def touched(self, item: Managed) -> None:
        with self.changed:
            self.revision += 1
            own = item.__dict__
            own["_rev"] = self.revision
            own["_cache"] = {}
            if item._persistent and item._moId in self.objects:
                self.dirty.add(item)
            self.changed.notify_all()

    def add(self, item: Any) -> Any:
        with self.changed:
            self.objects[item._moId] = item
            self.touched(item)
        return item

    def remove(self, item: Any) -> None:
        with self.changed:
            if self.objects.pop(item._moId, None) is not None:
                self.dirty.discard(item)
                if item._persistent:
                    self.gone.add(item._moId)
                self.touched(item)

    def lookup(self, moid: str, kind: Any) -> Any:
        """The object with this id. Raises ManagedObjectNotFound, also for another type."""
        found = self.objects.get(moid)
        if found is None or not isinstance(found, kind):
            raise not_found(moid, kind)
        return found


def not_found(moid: str, kind: Any) -> Any:
    made = vmodl.fault.ManagedObjectNotFound(obj=kind(moid))
    made.msg = (
        f"The object '{kind.__name__}:{moid}' has already been deleted or has not been "
        "completely created"
    )
    return made
