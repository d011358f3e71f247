"""Reads properties by path: `name`, `config.hardware.device[2000].backing`, `value["k"]`.

    read_property(vm, "runtime.powerState") -> (value, declared type); value None where unset

A path that no class has is InvalidProperty. Below an unset value, the path is checked against the
declared types. Where the declared type is a base class (the backing of a device), a name that
only a subclass has is accepted, since no value tells which subclass it is.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from vreplica.lab.api.managed import live, vmodl_class
from vreplica.lab.api.soap import RawXml, to_xml
from vreplica.lab.api.vmodl import DataObject, coerce, fault, is_array, soap, support, vmodl

_STEP = re.compile(r'([A-Za-z_]\w*)((?:\[(?:"(?:[^"\\]|\\.)*"|[^\]"]*)\])?)(?:\.|$)')
_VAL = support.Object(name="val", type=object, version=support.BASE_VERSION, flags=0)


def invalid_property(path: str) -> Any:
    """The fault InvalidProperty, to be raised."""
    return fault(vmodl.query.InvalidProperty, f"The property '{path}' is not valid", name=path)


@lru_cache(maxsize=4096)
def parse_path(path: str) -> tuple[tuple[str, str | None], ...]:
    """`a.b[4]["x"]` -> (("a", None), ("b", "4")). Raises InvalidProperty."""
    steps, at = [], 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or match.end() == at:
            raise invalid_property(path)
        key = match[2][1:-1] if match[2] else None
        if key is not None and key.startswith('"'):
            key = re.sub(r"\\(.)", r"\1", key[1:-1])
        steps.append((match[1], key))
        at = match.end()
    if not steps or path.endswith("."):
        raise invalid_property(path)
    return tuple(steps)


def _keyed(items: Any, key: str) -> Any:
    for item in items or ():
        if str(getattr(item, "key", None)) == key:
            return item
    return None


def read_property(item: Any, path: str) -> tuple[Any, Any]:
    """(value, declared type). Raises InvalidProperty."""
    value, kind = item, vmodl_class(type(item))
    for depth, (name, key) in enumerate(parse_path(path)):
        if depth and is_array(kind):
            raise invalid_property(path)
        owner = type(value) if depth and value is not None else kind
        try:
            info = owner._GetPropertyInfo(name)
        except AttributeError:
            if depth and isinstance(owner, type) and issubclass(owner, DataObject):
                # A subclass may have the property: backings, device infos.
                return None, object
            raise invalid_property(path) from None
        kind = info.type
        value = None if value is None else getattr(value, name)
        if key is not None:
            if not is_array(kind):
                raise invalid_property(path)
            kind, value = kind.Item, _keyed(value, key)
    return value, kind


def value_xml(item: Any, path: str, version: Any) -> str | None:
    """`<val xsi:type="...">...</val>`, or None where unset. Cached until the object is touched."""
    top = parse_path(path)[0][0]
    volatile = isinstance(type(item).__dict__.get(top) or _attribute(item, top), live)
    cache, key = item._cache, (path, version)
    if not volatile and key in cache:
        return cache[key]  # type: ignore[no-any-return]
    value, kind = read_property(item, path)
    if isinstance(value, list) and not value:
        # An unset array: absent if the property is optional, empty if it is required.
        value = kind() if is_array(kind) else None
    text = None
    if value is not None:
        shown = item._site.shown_text
        if shown is not None and isinstance(value, str):
            value = shown(parse_path(path)[-1][0], value)
        text = to_xml(coerce(kind, value), _VAL, version, shown)
    if not volatile:
        cache[key] = text
    return text


def _attribute(item: Any, name: str) -> Any:
    for base in type(item).__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return None


def property_names(item: Any) -> list[str]:
    """All properties of an object's class."""
    return [info.name for info in vmodl_class(type(item))._GetPropertyList()]


def property_xml(tag: str, path: str, value: str) -> RawXml:
    """An element of propSet."""
    return RawXml(f"<{tag}><name>{soap.XmlEscape(path)}</name>{value}</{tag}>")


def change_xml(path: str, value: str | None) -> RawXml:
    """An element of changeSet. None: the property is unset now."""
    operation = "assign" if value is not None else "indirectRemove"
    name = soap.XmlEscape(path)
    return RawXml(f"<changeSet><name>{name}</name><op>{operation}</op>{value or ''}</changeSet>")
