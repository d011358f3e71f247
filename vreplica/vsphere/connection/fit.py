"""Tells whether an answer has the types that the API declares, before anything reads it.

pyVmomi takes whatever type the server names: it compares the plain properties of a data object with
their declaration, but neither the items of a list, nor the whole answer, nor the properties that a
PropertyCollector reads. All of them are compared here. A value that is unset is not a misfit: older
servers leave out what newer ones require.

    stub.InvokeMethod = fit.checked(stub.InvokeMethod)     raises Unreadable, a BadReply of the link
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache, lru_cache
from types import NoneType
from typing import Any

from vreplica.errors import VReplicaError
from vreplica.vsphere.connection.vmomi import support, vmodl

UNFIT = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError)
"""Raised by code that reads an answer which does not have the form of one."""
_BASIC = (int, float, str, bytes)
_PLAIN = (*_BASIC, list, datetime, NoneType)


class Misfit(TypeError):
    """A part of an answer has another type than the API declares."""

    def __init__(self, what: str, wanted: type, found: Any) -> None:
        super().__init__(f"{what} is {type(found).__name__}, not {wanted.__name__}")


class Unreadable(Exception):
    """An answer that pyVmomi's reader cannot read, or that has other types than are declared."""


def checked(invoke: Callable[..., Any]) -> Callable[..., Any]:
    """As `invoke` of a stub, which makes a call; what it returns fits the call's declaration.

    Raises faults and errors of the connection as they are, and Unreadable for all else.
    """
    # By now there is a connection, which has loaded it.
    from http.client import HTTPException

    def call(managed: Any, info: Any, *arguments: Any, **more: Any) -> Any:
        try:
            answer = invoke(managed, info, *arguments, **more)
            require("the answer", answer, info.result)
        except (vmodl.MethodFault, OSError, HTTPException, VReplicaError):
            raise
        except Exception as error:  # it is a reader of tables: whatever they have no place for
            raise Unreadable(str(error) or type(error).__name__) from error
        return answer

    return call


def require(what: str, value: Any, wanted: type) -> None:
    """Raises Misfit where `value`, or a part of it, is of another type than is declared."""
    if value is None or isinstance(value, Exception):  # faults have wrappers of their own
        return
    if isinstance(value, list):
        if wanted is not object and not issubclass(wanted, list):
            raise Misfit(what, wanted, value)
        item = getattr(wanted, "Item", object)
        for one in value:
            require(what, one, item)
        return
    if not _is(value, wanted):
        raise Misfit(what, wanted, value)
    if isinstance(value, support.DataObject):
        kind: Any = type(value)
        for name, declared in _parts(kind):
            part = getattr(value, name)
            if part is not None:
                require(name, part, declared)
        if isinstance(value, vmodl.query.PropertyCollector.ObjectContent) and value.obj is not None:
            kind = type(value.obj)
            for read in value.propSet:
                require(read.name, read.val, _declared(kind, read.name))


def is_of_an_answer(error: Exception) -> bool:
    """True for an error of UNFIT that a value of an answer explains, once its types fit.

    Such a value is unset, has no such key, or is outside a range. Other errors are of our own code:
    an attribute that an object of ours lacks, a function that is called wrongly.
    """
    if isinstance(error, AttributeError):
        kind = error.obj if isinstance(error.obj, type) else type(error.obj)
        return issubclass(kind, (*_PLAIN, support.DataObject, support.ManagedObject))
    return not isinstance(error, TypeError) or "NoneType" in str(error)


def _is(value: Any, wanted: type) -> bool:
    return (
        wanted is object
        or isinstance(value, wanted)
        or issubclass(wanted, support.Link)
        or any(issubclass(wanted, basic) and isinstance(value, basic) for basic in _BASIC)
        # Names of types and methods: a vCenter gives lists of them as lists of strings.
        or (isinstance(value, (str, type)) and issubclass(wanted, (type, support.ManagedMethod)))
    )


@cache
def _parts(kind: Any) -> tuple[tuple[str, type], ...]:
    """The properties of a data object that have parts."""
    return tuple(
        (info.name, info.type)
        for info in kind._GetPropertyList()  # noqa: SLF001 - as `moref`: it has no public name
        if info.type is object or issubclass(info.type, (list, support.DataObject))
    )


@lru_cache(1000)  # the server names the paths
def _declared(kind: Any, path: str) -> type:
    """The type of the property at `path`; object where pyVmomi does not know it."""
    for name in path.split("."):
        try:
            kind = kind._GetPropertyInfo(name).type  # noqa: SLF001
        except AttributeError:
            return object
    found: type = kind
    return found
