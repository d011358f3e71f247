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


class ReferenceResolver:
    """Resolves stored references: to the object, or to a bare reference where it is gone."""

    def __init__(self, objects: Mapping[str, Any]) -> None:
        self.objects = objects

    def lookup(self, moid: str, kind: Any) -> Any:
        return self.objects.get(moid) or kind(moid)


_FIELDS: dict[Any, dict[str, Any]] = {}


def _fields(kind: Any) -> dict[str, Any]:
    """The fields of a data class, with their declared types."""
    if kind not in _FIELDS:
        _FIELDS[kind] = {info.name: info.type for info in kind._GetPropertyList()}
    return _FIELDS[kind]


def _encode_object(value: Any) -> dict[str, Any]:
    """A data object as its wsdl name and the fields that are set."""
    own = value.__dict__
    set_fields = {n: own[n] for n in _fields(type(value)) if own.get(n) not in (None, [])}
    return {"$d": wsdl_name(type(value)), "v": {n: encode(v) for n, v in set_fields.items()}}


def _decode_object(name: str, values: dict[str, Any], references: ReferenceResolver) -> Any:
    # pyVmomi's constructor would look up every field again for each object.
    kind = wsdl_type(name)
    made = kind.__new__(kind)
    own = made.__dict__
    for field, declared in _fields(kind).items():
        if field in values:
            found = decode(values[field], references)
            own[field] = declared(found) if is_array(declared) else found
        else:
            own[field] = declared() if is_array(declared) else None
    return made


def encode(value: Any) -> Any:
    """A value as JSON can hold it. Raises TypeError for a type that cannot be stored."""
    if isinstance(value, ManagedObject):
        return {"$ref": value._moId, "$type": wsdl_name(type(value))}
    if isinstance(value, DataObject):
        return _encode_object(value)
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
    raise TypeError(f"{type(value).__name__} cannot be stored")


def decode(value: Any, references: ReferenceResolver) -> Any:
    """The value that `encode` stored."""
    if isinstance(value, list):
        return [decode(v, references) for v in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return references.lookup(value["$ref"], wsdl_type(value["$type"]))
    if "$d" in value:
        return _decode_object(value["$d"], value["v"], references)
    if "$class" in value:
        return support.GetWsdlType(*value["$class"])
    if "$t" in value:
        return datetime.fromisoformat(value["$t"])
    if "$b" in value:
        return base64.b64decode(value["$b"])
    if "$list" in value:
        kind = wsdl_type("ArrayOf" + value["of"]) if value["of"][0].isupper() else None
        items = [decode(v, references) for v in value["$list"]]
        return kind(items) if kind else items
    return {k: decode(v, references) for k, v in value.items()}
