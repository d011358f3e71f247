"""pyVmomi's registry of vSphere types, as the lab uses it.

The lab has no schema of its own: requests and answers are objects of the classes that pyVmomi
builds from its type tables. These classes are `Any` for mypy, since pyVmomi makes them at run
time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pyVmomi import SoapAdapter as _soap
from pyVmomi import VmomiSupport as _support
from pyVmomi import vim as _vim
from pyVmomi import vmodl as _vmodl

vim: Any = _vim
vmodl: Any = _vmodl
support: Any = _support
soap: Any = _soap

ManagedObject: Any = support.ManagedObject
DataObject: Any = support.DataObject
MethodFault: Any = vmodl.MethodFault

F_OPTIONAL: int = support.F_OPTIONAL
F_LINK: int = support.F_LINK
NAMESPACE = "urn:vim25"
NEWEST: Any = support.newestVersions.Get("vim")
"""The API version of the lab's state. An answer is in the client's version."""

API_VERSION = "8.0.3.0"
"""The version that a site reports unless its settings say another: vSphere 8.0 Update 3."""


def version_ids(newest: str = API_VERSION) -> list[str]:
    """The API versions that a site accepts, newest first: from 5.5 on, digits and dots only."""
    ids = [support.versionIdMap[v] for v in support.GetServiceVersions("vim25")]
    numbered = [i for i in ids if i and i.replace(".", "").isdigit()]
    return numbered[numbered.index(newest) : numbered.index("5.5") + 1]


def version_of(soap_action: str, newest: str = API_VERSION) -> Any:
    """The version of an answer for a SOAPAction such as `"urn:vim25/8.0.3.0"`.

    An unknown version is answered in the lab's own. govmomi sends ids such as `7.0`, which are
    `7.0.0.0` in the registry.
    """
    name = soap_action.strip().strip('"').removeprefix("urn:")
    for candidate in (name, f"{name}.0.0"):
        if candidate in support.versionMap:
            return support.versionMap[candidate]
    return support.versionMap[f"vim25/{newest}"]


def fault(kind: Any, message: str = "", **fields: Any) -> Any:
    """A vmodl fault with a message, to be raised."""
    made = kind(**fields)
    made.msg = message or kind._wsdlName
    return made


def invalid_argument(name: str) -> Any:
    """The fault InvalidArgument, to be raised. As vCenter's, its message names the property."""
    text = f"A specified parameter was not correct: {name}"
    return fault(vmodl.fault.InvalidArgument, text, invalidProperty=name)


def invalid_power_state(existing: str, requested: str) -> Any:
    """The fault InvalidPowerState, to be raised."""
    text = existing.replace("powered", "powered ").capitalize()
    return fault(
        vim.fault.InvalidPowerState,
        f"The attempted operation cannot be performed in the current state ({text}).",
        requestedState=requested,
        existingState=existing,
    )


def wsdl_name(kind: Any) -> str:
    return str(kind._wsdlName)


def wsdl_type(name: str) -> Any:
    """The class of a wsdl name in vim25; arrays as `ArrayOfX`. Raises KeyError."""
    return support.GetWsdlType(NAMESPACE, name)


def is_array(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, list)


def neutral_value(kind: Any) -> Any:
    """A value for a required field that is unset: the first enum value, the epoch, 0 or ""."""
    if is_array(kind) or kind is object:
        return None
    if issubclass(kind, support.Enum):
        return kind.values[0]
    if kind is datetime:
        return datetime.fromtimestamp(0, UTC)
    if issubclass(kind, DataObject):
        return kind()
    if issubclass(kind, bool):
        return False
    if issubclass(kind, int | float | str | bytes):
        return kind()
    return None


def coerce(kind: Any, value: Any) -> Any:
    """`value` as an instance of exactly `kind`, which its xsi:type then names.

    pyVmomi has types of their own for long, short, byte and enums. govmomi panics where the type
    on the wire is not the declared one.
    """
    if value is None or kind is object or kind is datetime or kind is bool:
        return value
    if is_array(kind):
        if isinstance(value, kind):
            return value
        item = kind.Item
        return kind([coerce(item, v) for v in value])
    if isinstance(kind, type) and issubclass(kind, int | float | str) and type(value) is not kind:
        return kind(value)
    return value
