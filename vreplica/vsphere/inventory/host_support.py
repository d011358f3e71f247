"""Says what a host does not support that a source VM needs: its virtual hardware, its guest type.

The answers come from the EnvironmentBrowser of the host's cluster. A server without one, or that
does not answer, is asked nothing: the creation of the replica then says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vreplica.errors import VSphereError
from vreplica.vsphere.connection.look import once
from vreplica.vsphere.connection.vmomi import moref, vim
from vreplica.vsphere.inventory.placement import PlacementObjects
from vreplica.vsphere.inventory.tree import InventoryTree
from vreplica.vsphere.model import VmInfo

if TYPE_CHECKING:
    from vreplica.vsphere.connection.link import ServerLink


def unsupported(
    link: ServerLink, tree: InventoryTree, place: PlacementObjects, source: VmInfo
) -> tuple[str, ...]:
    """Returns sentences; empty where the host supports the VM, or nobody can say."""
    browser = place.compute.get("environmentBrowser")
    if browser is None:
        return ()
    with suppress(VSphereError):
        return tuple(_missing(link, browser, tree.name(place.host), place.host.managed, source))
    return ()


def _missing(
    link: ServerLink, browser: Any, host: str, managed: Any, source: VmInfo
) -> Iterator[str]:
    operation = "asking for the virtual hardware that the host supports"
    method = browser.QueryConfigOptionDescriptor
    descriptors = once(
        link.look,
        ("hardware versions", moref(browser)),
        lambda: link.ask(operation, method, expects_answer=False),
    )
    versions = {
        found.key
        for found in descriptors or ()
        if found.createSupported is not False
        and (not found.host or moref(managed) in {moref(each) for each in found.host})
    }
    if versions and source.hw_version and source.hw_version not in versions:
        newest = max(versions, key=lambda v: int(v.rpartition("-")[2]) if "-" in v else 0)
        yield (
            f"host {host} supports virtual hardware up to {newest}, and {source.name} has "
            f"{source.hw_version}: name a newer host, or upgrade {host}"
        )
        return
    if source.guest_id and not _has_guest(link, browser, managed, source):
        yield (
            f"host {host} does not support the guest type {source.guest_id} of {source.name} with "
            f"{source.hw_version}: name a newer host, or upgrade {host}"
        )


def _has_guest(link: ServerLink, browser: Any, managed: Any, source: VmInfo) -> bool:
    """True where the host has the guest type, or does not say."""
    # Where none fits the filter, servers answer with nothing or with a fault: then all types are
    # asked for (0.1 MB).
    for guests in ([source.guest_id], []):
        with suppress(VSphereError):
            if found := _guests(link, browser, managed, source.hw_version, guests):
                return source.guest_id in found
    return True


def _guests(
    link: ServerLink, browser: Any, managed: Any, version: str, guests: list[str]
) -> frozenset[str]:
    spec = vim.EnvironmentBrowser.ConfigOptionQuerySpec(
        key=version or None, host=managed, guestId=guests
    )
    operation = "asking for the guest types that the host supports"
    method = browser.QueryConfigOptionEx

    def reading() -> frozenset[str]:
        option = link.ask(operation, method, spec, expects_answer=False)
        known = (option.guestOSDescriptor if option is not None else None) or ()
        return frozenset(d.id for d in known if d.supportLevel != "unsupported")

    return once(link.look, ("guest types", moref(managed), version, *guests), reading)
