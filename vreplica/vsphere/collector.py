"""Reading through the PropertyCollector: everything that a read needs in one round trip.

    root ──step(Folder.childEntity)──► VM ──step(VirtualMachine.datastore)──► Datastore
     │                                  │                                        │
     └─ {Folder: name, parent}          └─ {VirtualMachine: name, config}        └─ {..: name}

Steps may follow each other in any order; the server visits every object once. Attribute access
on pyVmomi's managed objects (one request each) is never used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vreplica.vsphere.errors import BadReply
from vreplica.vsphere.faults import to_error
from vreplica.vsphere.link import Link
from vreplica.vsphere.vmomi import moref, vim, vmodl

Properties = Mapping[Any, Sequence[str]]
Steps = Sequence[tuple[Any, str]]


@dataclass(frozen=True, slots=True)
class Found:
    """An object that a read came across; properties that are unset are missing in `values`."""

    managed: Any
    values: Mapping[str, Any]

    @property
    def moref(self) -> str:
        return moref(self.managed)

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)


def filter_spec(roots: Iterable[Any], properties: Properties, steps: Steps = ()) -> Any:
    """The PropertyFilterSpec: start at `roots`, follow `steps`, report `properties` by type."""
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
    link: Link,
    operation: str,
    roots: Iterable[Any],
    properties: Properties,
    steps: Steps = (),
    *,
    vm: str | None = None,
) -> list[Found]:
    """Every object of a type in `properties` that is reached, with its properties.

    One request, and one more for each further page of a very long answer. A property that may
    not be read raises PermissionDenied; other unreadable ones are left out.
    """
    collector = link.content.propertyCollector
    options = vmodl.query.PropertyCollector.RetrieveOptions()
    spec = filter_spec(roots, properties, steps)
    # Without any object that fits, the answer has nothing in it.
    first = collector.RetrievePropertiesEx
    page = link.ask(operation, first, [spec], options, vm=vm, answers=False)
    found: list[Found] = []
    while page is not None:
        for content in page.objects:
            for missing in content.missingSet or []:
                fault = missing.fault
                if isinstance(fault, vim.fault.NoPermission):
                    raise to_error(fault, link.doing(f"{operation} ({missing.path})", vm))
            values = {p.name: p.val for p in content.propSet or []}
            found.append(Found(content.obj, values))
        if not page.token:
            break
        more = collector.ContinueRetrievePropertiesEx
        page = link.ask(operation, more, page.token, vm=vm)
    return found


def read_one(
    link: Link,
    operation: str,
    root: Any,
    properties: Sequence[str],
    *,
    vm: str | None = None,
) -> Found:
    """The properties of one object."""
    found = read(link, operation, [root], {type(root): properties}, vm=vm)
    if not found:
        raise BadReply(link.endpoint.host, operation, "it is empty").at(vm=vm)
    return found[0]
