"""Values of the API as JSON, for state.db and .vmsd files.

    reference      {"$ref": moid, "$type": wsdl name}
    data object    {"$d": wsdl name, "v": {field: value}}      fields that are set
    class          {"$class": [namespace, name]}
    date           {"$t": iso}
    bytes          {"$b": base64}
    typed array    {"$list": [item, ...], "of": wsdl name}

Labs on disk hold this form: a change has to read what is there.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from vreplica.lab.api.vmodl import (
    DataObject,
    ManagedObject,
    is_array,
    support,
    wsdl_name,
    wsdl_type,
)


class Ghosts:
    """References that are read back: the object, or a bare reference to one that is gone."""

    def __init__(self, objects: Mapping[str, Any]) -> None:
        self.objects = objects

    def lookup(self, moid: str, kind: Any) -> Any:
        return self.objects.get(moid) or kind(moid)


_FIELDS: dict[Any, dict[str, Any]] = {}


def _fields(kind: Any) -> dict[str, Any]:
    """The fields of a data class with their declared types."""
    if kind not in _FIELDS:
        _FIELDS[kind] = {info.name: info.type for info in kind._GetPropertyList()}
    return _FIELDS[kind]


def _packed(value: Any) -> dict[str, Any]:
    """A data object: its wsdl name and the fields that are set."""
    own = value.__dict__
    set_fields = {n: own[n] for n in _fields(type(value)) if own.get(n) not in (None, [])}
    return {"$d": wsdl_name(type(value)), "v": {n: encode(v) for n, v in set_fields.items()}}


def _unpacked(name: str, values: dict[str, Any], ghosts: Ghosts) -> Any:
    """Without pyVmomi's constructor, which looks every field up again for each object."""
    kind = wsdl_type(name)
    made = kind.__new__(kind)
    own = made.__dict__
    for field, declared in _fields(kind).items():
        if field in values:
            found = decode(values[field], ghosts)
            own[field] = declared(found) if is_array(declared) else found
        else:
            own[field] = declared() if is_array(declared) else None
    return made


def encode(value: Any) -> Any:
    """A value of the state as JSON can hold it. Raises TypeError for what it cannot."""
    if isinstance(value, ManagedObject):
        return {"$ref": value._moId, "$type": wsdl_name(type(value))}
    if isinstance(value, DataObject):
        return _packed(value)
    if isinstance(value, type):
        return {"$class": support.GetQualifiedWsdlName(value)}
    if isinstance(value, datetime):
        return {"$t": value.isoformat()}
    if isinstance(value, bytes):
        return {"$b": base64.b64encode(value).decode()}
    if isinstance(value, support.Array):
        if not value or not hasattr(value.Item, "_wsdlName"):
            return [encode(v) for v in value]
        return {"$list": [encode(v) for v in value], "of": wsdl_name(value.Item)}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    if isinstance(value, dict):
        return {str(k): encode(v) for k, v in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} cannot be kept in the store")


def decode(value: Any, ghosts: Ghosts) -> Any:
    if isinstance(value, list):
        return [decode(v, ghosts) for v in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return ghosts.lookup(value["$ref"], wsdl_type(value["$type"]))
    if "$d" in value:
        return _unpacked(value["$d"], value["v"], ghosts)
    if "$class" in value:
        return support.GetWsdlType(*value["$class"])
    if "$t" in value:
        return datetime.fromisoformat(value["$t"])
    if "$b" in value:
        return base64.b64decode(value["$b"])
    if "$list" in value:
        kind = wsdl_type("ArrayOf" + value["of"]) if value["of"][0].isupper() else None
        items = [decode(v, ghosts) for v in value["$list"]]
        return kind(items) if kind else items
    return {k: decode(v, ghosts) for k, v in value.items()}
