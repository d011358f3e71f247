"""The names of datastores at the edge of the lab: what clients see, and what the lab stores.

    a client's path             stored path           when they differ
    [dr store] web/web.vmx      [ds1] web/web.vmx     ds1 was renamed to "dr store"
    [ds1] web/web.vmx           [ds1-2] web/web.vmx   a datastore of another datacenter has the name
    [a [b]] web/web.vmx         [ds1] web/web.vmx     renamed to "a [b]": brackets are allowed

Stored paths name the datastore's folder, which stays for ever. So nothing has to be rewritten when
a datastore gets another name: each answer has the name of now, and a path that a client kept from
before is refused, as by a vCenter. Which datastore a path of a client means depends on its
datacenter: names are unique only there.
"""

from __future__ import annotations

from typing import Any

from vreplica.lab.api.vmodl import DataObject, fault, vim

PATH_FIELDS = frozenset(
    {
        "configFile",
        "datastorePath",
        "diskFile",
        "file",
        "fileName",
        "folderPath",
        "ftMetadataDirectory",
        "logDirectory",
        "logFile",
        "result",
        "snapshotDirectory",
        "suspendDirectory",
        "vmPathName",
    }
)
"""Fields of data objects whose text is a datastore path. `result` is that of a task."""

_PARAMETERS = frozenset(
    {"datastorePath", "destName", "destinationName", "name", "path", "sourceName"}
)
_WITH_PATHS = (
    vim.FileManager,
    vim.VirtualDiskManager,
    vim.host.DatastoreBrowser,
    vim.SearchIndex,
)


class DatastoreNames:
    """The datastores of one site, by the names that clients use and by those of their folders."""

    def __init__(self) -> None:
        self.by_folder: dict[str, Any] = {}
        self.shown: dict[str, str] = {}
        """Folder -> name of the datastores that have another name than their folder."""
        self.active = False
        """Whether paths differ, or depend on the datacenter."""

    def refresh(self, datastores: list[Any], datacenters: int) -> None:
        """Call it when a datastore came, went, or was renamed."""
        self.by_folder = {d.folder: d for d in datastores}
        self.shown = {d.folder: d.name for d in datastores if d.folder != d.name}
        self.active = bool(self.shown) or datacenters > 1

    def outgoing(self, text: str) -> str:
        """A stored path as clients see it. Any other text stays."""
        folder, bracket, rest = text[1:].partition("]")
        if not text.startswith("[") or not bracket or folder not in self.shown:
            return text
        return f"[{self.shown[folder]}]{rest}"

    def incoming(self, text: str, datacenter: Any) -> str:
        """The stored path for one of a client. Raises InvalidDatastore: no such name there."""
        if not text.startswith("["):
            return text
        known = self.by_folder.values() if datacenter is None else datacenter.datastore
        fitting = [d for d in known if text.startswith(f"[{d.name}]")]
        if not fitting:
            name = text[1:].partition("]")[0]
            raise fault(vim.fault.InvalidDatastore, f"Invalid datastore '{name}'.", name=name)
        # Of "[a]" and "[a] b]" the longer one: a name may have brackets.
        found = max(fitting, key=lambda d: len(d.name))
        return f"[{found.folder}]{text[len(found.name) + 2 :]}"

    def read(self, method: Any, this: Any, arguments: list[Any]) -> list[Any]:
        """The arguments of a call with the paths as they are stored."""
        named = {p.name: a for p, a in zip(method.params, arguments, strict=False)}
        here = datacenter_of(this)
        if isinstance(this, vim.host.DatastoreBrowser):
            here = datacenter_of(this.datastore[0])
        with_paths = isinstance(this, _WITH_PATHS) or method.name == "RegisterVM_Task"
        out = []
        for name, value in named.items():
            if isinstance(value, str) and with_paths and name in _PARAMETERS:
                value = self.incoming(value, _datacenter_for(name, named) or here)
            elif isinstance(value, DataObject | list):
                folder = named.get("folder")
                self._read_object(value, datacenter_of(folder) if folder is not None else here)
            out.append(value)
        return out

    def _read_object(self, value: Any, datacenter: Any) -> None:
        if isinstance(value, list):
            for item in value:
                if isinstance(item, DataObject):
                    self._read_object(item, datacenter)
            return
        for name, held in value.__dict__.items():
            if isinstance(held, str) and name in PATH_FIELDS:
                value.__dict__[name] = self.incoming(held, datacenter)
            elif isinstance(held, DataObject | list):
                self._read_object(held, datacenter)


def _datacenter_for(name: str, arguments: dict[str, Any]) -> Any:
    """The datacenter that a call gives for a path. That of a target may be the source's."""
    source = arguments.get("sourceDatacenter")
    if name in ("destName", "destinationName"):
        given = arguments.get("destDatacenter") or arguments.get("destinationDatacenter")
        return given or source
    return source if name == "sourceName" else arguments.get("datacenter")


def datacenter_of(item: Any) -> Any:
    """The datacenter of an object in the inventory, or None."""
    if isinstance(item, vim.vm.Snapshot):
        item = item.vm
    if isinstance(item, vim.VirtualMachine):
        item = item.host
    while item is not None and not isinstance(item, vim.Datacenter):
        item = getattr(item, "parent", None)
    return item
