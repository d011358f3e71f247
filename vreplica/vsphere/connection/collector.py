"""Reads through the PropertyCollector: everything that a read needs in one round trip.

    root ──step(Folder.childEntity)──► VM ──step(VirtualMachine.datastore)──► Datastore
     │                                  │                                        │
     └─ {Folder: name, parent}          └─ {VirtualMachine: name, config}        └─ {..: name}

Steps may follow each other in any order; the server visits every object once. Attributes of
pyVmomi's managed objects are never read: each would be a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from vreplica.errors import VReplicaError
from vreplica.vsphere.connection.faults import to_error
from vreplica.vsphere.connection.vmomi import moref, vim, vmodl
from vreplica.vsphere.errors import BadReply, HostUnreachable, ObjectGone

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink

Properties = Mapping[Any, Sequence[str]]
Steps = Sequence[tuple[Any, str]]

STARTS: Final = 3
"""How often a read of several pages is started."""

ALL_PAGES_S: Final = 600.0
MOST_OBJECTS: Final = 500_000
"""Limits of one read over all its pages. A vCenter has at most 45,000 VMs (vSphere 8 maximums)."""

T = TypeVar("T")


class PageLost(Exception):
    """A page was lost that the server gives out only once; `error` says why."""

    def __init__(self, error: VReplicaError) -> None:
        super().__init__(str(error))
        self.error = error


def from_the_start(attempt: Callable[[], T]) -> T:
    """Does a read of several pages, again from its start where `next_page` lost one."""
    for _ in range(STARTS - 1):
        with suppress(PageLost):
            return attempt()
    try:
        return attempt()
    except PageLost as lost:
        raise lost.error from lost.error.__cause__


def next_page(
    link: ServerLink, operation: str, method: Callable[..., Any], argument: Any, vm: str | None
) -> Any:
    """Reads the page after the last one.

    Raises PageLost where the connection breaks or the session ends: the page is gone then.
    """
    invalid = vmodl.fault.InvalidArgument
    try:
        return link.ask(
            operation,
            method,
            argument,
            vm=vm,
            unmapped=(invalid,),
            expects_answer=False,
            repeatable=False,
        )
    except (HostUnreachable, ObjectGone) as error:
        raise PageLost(error) from error
    except invalid as fault:
        raise PageLost(to_error(fault, link.context(operation, vm))) from fault


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object that a read has found. A property that is unset is missing in `values`."""

    managed: Any
    values: Mapping[str, Any]

    @property
    def moref(self) -> str:
        return moref(self.managed)

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)


def filter_spec(roots: Iterable[Any], properties: Properties, steps: Steps = ()) -> Any:
    """Makes the PropertyFilterSpec: start at `roots`, follow `steps`, return `properties`."""
    query = vmodl.query.PropertyCollector
    names = [f"{kind.__name__}.{path}" for kind, path in steps]
    traversals = [
        query.TraversalSpec(
            name=name,
            type=kind,
            path=path,
            skip=False,
            selectSet=[query.SelectionSpec(name=other) for other in names],
        )
        for name, (kind, path) in zip(names, steps, strict=True)
    ]
    return query.FilterSpec(
        propSet=[
            query.PropertySpec(type=kind, all=False, pathSet=list(paths))
            for kind, paths in properties.items()
        ],
        objectSet=[query.ObjectSpec(obj=root, skip=False, selectSet=traversals) for root in roots],
    )


def read(
    link: ServerLink,
    operation: str,
    roots: Iterable[Any],
    properties: Properties,
    steps: Steps = (),
    *,
    vm: str | None = None,
) -> list[FoundObject]:
    """Reads every object that the steps reach and whose type is in `properties`.

    Takes one request, and one more for each further page of a long answer. Raises
    PermissionDenied for a property that this account may not read; leaves out properties that
    cannot be read for another reason.
    """
    collector = link.content.propertyCollector
    options = vmodl.query.PropertyCollector.RetrieveOptions()
    spec = filter_spec(roots, properties, steps)

    def attempt() -> list[FoundObject]:
        first, more = collector.RetrievePropertiesEx, collector.ContinueRetrievePropertiesEx
        # Where no object fits, the answer is empty.
        page = link.ask(operation, first, [spec], options, vm=vm, expects_answer=False)
        found: list[FoundObject] = []
        deadline = monotonic() + ALL_PAGES_S
        while page is not None:
            found += _found(link, operation, page, vm)
            if len(found) > MOST_OBJECTS:
                reason = f"it names more than {MOST_OBJECTS} objects"
                raise BadReply(link.endpoint.host, operation, reason).at(vm=vm)
            if monotonic() > deadline:
                reason = f"its pages have no end within {ALL_PAGES_S:.0f} s"
                raise BadReply(link.endpoint.host, operation, reason).at(vm=vm)
            if not page.token:
                break
            page = next_page(link, operation, more, page.token, vm)
        return found

    return from_the_start(attempt)


def _found(link: ServerLink, operation: str, page: Any, vm: str | None) -> Iterable[FoundObject]:
    for content in page.objects:
        for missing in content.missingSet or []:
            fault = missing.fault
            if isinstance(fault, vim.fault.NoPermission):
                raise to_error(fault, link.context(f"{operation} ({missing.path})", vm))
        yield FoundObject(content.obj, {p.name: p.val for p in content.propSet or []})


def read_one(
    link: ServerLink,
    operation: str,
    root: Any,
    properties: Sequence[str],
    *,
    vm: str | None = None,
) -> FoundObject:
    """Reads the properties of one object."""
    found = read(link, operation, [root], {type(root): properties}, vm=vm)
    if not found:
        raise BadReply(link.endpoint.host, operation, "it is empty").at(vm=vm)
    return found[0]
